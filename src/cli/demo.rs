//! `datastream demo`: starts a private PostgreSQL cluster, simulates games and serves their rounds.
//!
//! The demo uses the product as a user would: it migrates, inserts rounds with plain SQL, and
//! serves them. The caller passes in `migrate`, which prepares the database, and `bind`, which
//! opens the server.

mod banner;
pub mod cluster;
mod dealer;
mod games;

use std::{
    future::Future,
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    pin::Pin,
    time::Duration,
};

use anyhow::Context;
use sqlx::{Connection, PgConnection};
use tokio::task::spawn_blocking;

use embedded_postgres::{Cluster, Installation, Settings, Stop};

use crate::ops::shutdown::Shutdown;

/// The database of the demo in its cluster.
const DATABASE: &str = "datastream";
/// How often the demo checks that the cluster runs. It restarts a cluster that was killed by hand.
const CHECK_EVERY: Duration = Duration::from_secs(1);

/// The demo's configuration.
#[derive(Clone, Debug)]
pub struct DemoConfig {
    /// The cluster's data directory. The next start finds the earlier rounds in it.
    pub data_dir: PathBuf,
    /// Speed of the games: 1 is a human pace, 10 is ten times faster.
    pub speed: f64,
    /// The TCP port of PostgreSQL, for psql. If it is in use, another free port is taken.
    pub postgres_port: u16,
}

/// A server that is bound and not running yet.
pub struct Serving {
    /// The address that it accepts connections on.
    pub http_addr: SocketAddr,
    /// Serves until a shutdown is requested.
    pub run: Pin<Box<dyn Future<Output = anyhow::Result<()>> + Send>>,
}

impl std::fmt::Debug for Serving {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Serving").field("http_addr", &self.http_addr).finish_non_exhaustive()
    }
}

/// Runs the demo until a shutdown is requested. Both functions get the database's URL.
pub async fn run<M, B>(
    config: DemoConfig,
    shutdown: Shutdown,
    migrate: impl FnOnce(String) -> M,
    bind: impl FnOnce(String) -> B,
) -> anyhow::Result<()>
where
    M: Future<Output = anyhow::Result<()>>,
    B: Future<Output = anyhow::Result<Serving>>,
{
    let to_start = config.clone();
    let cluster = spawn_blocking(move || start(&to_start)).await??;
    let url = cluster.url(DATABASE);
    create_database(&cluster.url("postgres")).await?;
    migrate(url.clone()).await.with_context(|| {
        let folder = config.data_dir.display();
        format!("cannot migrate the demo's database (to start with a new one, run: rm -r {folder})")
    })?;
    let dealer = dealer::Dealer::open(&url, config.speed).await?;
    let serving = bind(url).await?;
    banner::print(&cluster, DATABASE, serving.http_addr);

    let playing = shutdown.spawn(dealer.play(shutdown.clone()));
    let supervisor = shutdown.spawn(supervise(cluster, shutdown.clone()));
    let served = serving.run.await;
    shutdown.request();
    playing.await?;
    let mut cluster = supervisor.await??;
    spawn_blocking(move || cluster.stop(Stop::Fast)).await??;
    served
}

fn start(config: &DemoConfig) -> anyhow::Result<Cluster> {
    let installation = Installation::find_for(&config.data_dir)?;
    let port = free_port(config.postgres_port)?;
    if config.postgres_port != 0 && port != config.postgres_port {
        let requested = config.postgres_port;
        tracing::warn!(port, requested, "the requested PostgreSQL port is in use, taking another");
    }
    tracing::info!(postgres.version = installation.version(), postgres.port = port, "starting");
    let settings = Settings { durable: true, tcp_port: Some(port), ..Settings::default() };
    let mut cluster = Cluster::create_or_open(installation, &config.data_dir, settings)?;
    cluster.start()?;
    Ok(cluster)
}

/// The requested port if it is free, otherwise any free port.
fn free_port(requested: u16) -> anyhow::Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", requested))
        .or_else(|_| TcpListener::bind(("127.0.0.1", 0)))
        .context("no free TCP port for PostgreSQL on 127.0.0.1")?;
    Ok(listener.local_addr()?.port())
}

async fn create_database(maintenance_url: &str) -> anyhow::Result<()> {
    let mut connection = PgConnection::connect(maintenance_url).await?;
    let exists = "select exists (select from pg_database where datname = 'datastream')";
    if !sqlx::query_scalar::<_, bool>(exists).fetch_one(&mut connection).await? {
        sqlx::query("create database datastream").execute(&mut connection).await?;
    }
    connection.close().await?;
    Ok(())
}

/// Restarts the cluster whenever it has stopped. Returns it when the demo stops.
async fn supervise(mut cluster: Cluster, shutdown: Shutdown) -> anyhow::Result<Cluster> {
    let mut check = tokio::time::interval(CHECK_EVERY);
    loop {
        tokio::select! {
            () = shutdown.requested() => return Ok(cluster),
            _ = check.tick() => {}
        }
        if cluster.is_running() {
            continue;
        }
        tracing::warn!("PostgreSQL stopped, restarting it");
        let started = spawn_blocking(move || (cluster.start(), cluster)).await?;
        cluster = started.1;
        if let Err(error) = started.0 {
            tracing::error!(%error, "cannot restart PostgreSQL, retrying");
        }
    }
}
