//! The database into which rounds are inserted: a new cluster, or the one of `--database-url`.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use embedded_postgres::{Cluster, Installation, Settings};
use tokio_postgres::NoTls;

use crate::options::Options;

/// A migrated database with the game `load`.
#[derive(Debug)]
pub(crate) struct Database {
    url: String,
    /// Stopped and removed when dropped.
    cluster: Option<Cluster>,
}

impl Database {
    pub(crate) fn open(options: &Options) -> Result<Self> {
        let mut database = match &options.database_url {
            Some(url) => Self { url: url.clone(), cluster: None },
            None => Self::start(options)?,
        };
        let game = "insert into public.games (slug, name, type) values ('load', 'Load', 'load')
                    on conflict do nothing";
        database.execute(game).context("add the game")?;
        Ok(database)
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The cluster, to stop and start it.
    pub(crate) fn cluster(&mut self) -> Result<&mut Cluster> {
        self.cluster.as_mut().context("not with --database-url: PostgreSQL is stopped and started")
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        self.cluster.as_ref().and_then(Cluster::pid)
    }

    /// Runs statements on a new connection.
    pub(crate) fn execute(&mut self, sql: &str) -> Result<()> {
        self.query(sql).map(drop)
    }

    /// The rows of a query, as text.
    pub(crate) fn query(&self, sql: &str) -> Result<Vec<Vec<String>>> {
        let runtime = runtime()?;
        runtime.block_on(async {
            let client = connect(&runtime, &self.url).await?;
            let mut rows = Vec::new();
            for message in client.simple_query(sql).await? {
                if let tokio_postgres::SimpleQueryMessage::Row(row) = message {
                    let row = (0..row.len()).map(|i| row.get(i).unwrap_or_default().to_owned());
                    rows.push(row.collect());
                }
            }
            Ok(rows)
        })
    }

    /// Without fsync: the disk is not measured.
    fn start(options: &Options) -> Result<Self> {
        let folder = format!("datastream-load-{}", std::process::id());
        let settings = Settings {
            durable: false,
            tcp_port: None,
            extra: vec![("shared_preload_libraries".into(), "pg_stat_statements".into())],
        };
        let folder = std::env::temp_dir().join(folder);
        let mut cluster = Cluster::create_or_open(Installation::find()?, &folder, settings)?;
        cluster.start()?;
        let url = cluster.url("postgres");
        let mut migrate = Command::new(options.server()?);
        let output = migrate.arg("migrate").env("DATABASE_URL", &url).output()?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "datastream migrate: {stderr}");
        Ok(Self { url, cluster: Some(cluster) })
    }
}

/// A runtime in this thread: the publisher must not share its thread.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

pub(crate) async fn connect(
    runtime: &tokio::runtime::Runtime,
    url: &str,
) -> Result<tokio_postgres::Client> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    runtime.spawn(connection);
    Ok(client)
}
