//! PostgreSQL: a cluster of this run, its migration, and its faults.

use std::{
    net::TcpListener,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::ensure;
use embedded_postgres::{Cluster, Installation, Settings, Stop};
use sqlx::{Connection, PgConnection};
use tokio::{process::Command, sync::Mutex};

use crate::{args::Args, server::program};

/// A backend that was killed shows it within this time.
const KILLED_WITHIN: Duration = Duration::from_secs(2);

/// The cluster.
#[derive(Debug)]
pub(crate) struct Database {
    cluster: Mutex<Cluster>,
    /// Of the Unix socket, so without a proxy.
    pub(crate) url: String,
    pub(crate) version: String,
    pub(crate) port: u16,
}

impl Database {
    /// Starts PostgreSQL and migrates the database.
    pub(crate) async fn start(args: &Args, data_dir: &Path) -> anyhow::Result<Self> {
        let installation = match &args.pg_bin {
            Some(bin) => Installation::at(bin)?,
            None => Installation::find()?,
        };
        let version = installation.version().to_owned();
        let mut cluster = Cluster::create_or_open(installation, data_dir, settings(args)?)?;
        tokio::task::block_in_place(|| cluster.start())?;
        let (url, port) = (cluster.url("postgres"), cluster.port());
        migrate(&url, args).await?;
        Ok(Self { cluster: Mutex::new(cluster), url, version, port })
    }

    /// Stops PostgreSQL, waits, starts it; returns the time at which it accepted connections.
    pub(crate) async fn restart(&self, how: Stop, hold: Duration) -> anyhow::Result<Instant> {
        let mut cluster = self.cluster.lock().await;
        if tokio::task::block_in_place(|| cluster.stop(how)).is_err() {
            eprintln!("PostgreSQL did not stop ({how:?}) and was killed");
        }
        tokio::time::sleep(hold).await;
        tokio::task::block_in_place(|| cluster.start())?;
        Ok(Instant::now())
    }

    /// Kills a backend; returns the time at which PostgreSQL had recovered.
    pub(crate) async fn kill_backend(&self) -> anyhow::Result<Instant> {
        let cluster = self.cluster.lock().await;
        let sql = "select pid from pg_stat_activity where backend_type = 'client backend' \
            and pid <> pg_backend_pid() order by random() limit 1";
        let mut admin = PgConnection::connect(&self.url).await?;
        let pid: i32 = sqlx::query_scalar(sql).fetch_one(&mut admin).await?;
        let killed = Command::new("kill").args(["-9", &pid.to_string()]).status().await?;
        ensure!(killed.success(), "kill -9 {pid}");
        // PostgreSQL ends the other backends too: this session's error shows the time.
        let mut checks = tokio::time::interval(Duration::from_millis(2));
        let killed_at = Instant::now();
        while sqlx::query("select 1").execute(&mut admin).await.is_ok() {
            // A backend that was ending anyway causes no recovery.
            ensure!(killed_at.elapsed() < KILLED_WITHIN, "backend {pid} ended by itself");
            checks.tick().await;
        }
        while PgConnection::connect(&self.url).await.is_err() {
            checks.tick().await;
        }
        drop(cluster);
        Ok(Instant::now())
    }

    /// Ends sessions of the program with `pg_terminate_backend`.
    pub(crate) async fn terminate(&self, application: &str) -> anyhow::Result<()> {
        let sql = "select pg_terminate_backend(pid) from pg_stat_activity \
            where application_name like $1 and pid <> pg_backend_pid()";
        let mut admin = PgConnection::connect(&self.url).await?;
        sqlx::query(sql).bind(application).execute(&mut admin).await?;
        Ok(())
    }

    /// Stops it.
    pub(crate) fn stop(self) -> anyhow::Result<()> {
        let mut cluster = self.cluster.into_inner();
        Ok(tokio::task::block_in_place(|| cluster.stop(Stop::Fast))?)
    }
}

/// Without fsync: if PostgreSQL crashes and the machine does not, its writes survive in the page
/// cache.
fn settings(args: &Args) -> anyhow::Result<Settings> {
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let synchronous_commit = if args.lossy { "off" } else { "on" };
    let extra = [
        ("synchronous_commit", synchronous_commit),
        ("full_page_writes", "on"),
        ("jit", "off"),
        ("log_min_messages", "error"),
    ];
    let extra = extra.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    Ok(Settings { durable: false, tcp_port: Some(port), extra })
}

async fn migrate(url: &str, args: &Args) -> anyhow::Result<()> {
    let mut command = program("migrate")?;
    command.args(["--capture", args.capture.name()]).env("DATABASE_URL", url);
    let output = command.output().await?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "datastream migrate: {stderr}");
    let mut db = PgConnection::connect(url).await?;
    sqlx::raw_sql(include_str!("../../../sql/sample_games.sql")).execute(&mut db).await?;
    Ok(())
}
