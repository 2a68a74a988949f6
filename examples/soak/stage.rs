//! Everything that runs: PostgreSQL, the proxy before it, and the server.

use std::{
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use datastream::embedded_postgres::{Cluster, Installation, Settings, Stop};
use sqlx::{Connection, PgConnection};
use tokio::{process::Command, sync::Mutex, sync::watch};

use crate::{args::Args, fault_proxy::FaultProxy, server::Server};

/// Rounds of each game the server keeps in memory: few, so that the database answers resumes too.
pub(crate) const HISTORY: usize = 512;
/// Far beyond what a recovery takes while the link breaks again and again.
const PATIENCE: Duration = Duration::from_secs(60);

/// What `/readyz` may take on a machine with too much to do.
const ANSWER: Duration = Duration::from_secs(5);

/// Where clients find the server, and which of its processes it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Door {
    pub(crate) addr: SocketAddr,
    pub(crate) process: u32,
}

/// The scene of the soak.
#[derive(Debug)]
pub(crate) struct Stage {
    cluster: Mutex<Cluster>,
    pub(crate) proxy: FaultProxy,
    server: Mutex<Server>,
    door: watch::Sender<Door>,
    /// By the unix socket, past the proxy.
    pub(crate) url: String,
    through_proxy: String,
    pub(crate) version: String,
    log: PathBuf,
}

impl Stage {
    /// Sets everything up.
    pub(crate) async fn set(args: &Args) -> anyhow::Result<Self> {
        let installation = match &args.pg_bin {
            Some(bin) => Installation::at(bin)?,
            None => Installation::find()?,
        };
        let version = installation.version().to_owned();
        let name = format!("datastream-soak-{}", std::process::id());
        let data_dir = std::env::temp_dir().join(&name);
        let log = std::env::temp_dir().join(format!("{name}.log"));
        let mut cluster = Cluster::create_or_open(installation, &data_dir, settings(args)?)?;
        tokio::task::block_in_place(|| cluster.start())?;
        let url = cluster.url("postgres");
        migrate(&url, args).await?;
        let proxy = FaultProxy::start(cluster.port()).await;
        let through_proxy = format!("postgresql://postgres@127.0.0.1:{}/postgres", proxy.port);
        let server = Server::start(&through_proxy, &log).await?;
        let (door, _) = watch::channel(Door { addr: server.addr, process: 0 });
        let (cluster, server) = (Mutex::new(cluster), Mutex::new(server));
        let stage = Self { cluster, proxy, server, door, url, through_proxy, version, log };
        stage.live().await.context("the server did not become ready")?;
        Ok(stage)
    }

    /// Where the server is, now and later.
    pub(crate) fn doors(&self) -> watch::Receiver<Door> {
        self.door.subscribe()
    }

    /// What the server logged.
    pub(crate) fn log(&self) -> &std::path::Path {
        &self.log
    }

    /// Stops PostgreSQL, waits, starts it; when it accepted connections again.
    pub(crate) async fn restart_postgresql(
        &self,
        how: Stop,
        hold: Duration,
    ) -> anyhow::Result<Instant> {
        let mut cluster = self.cluster.lock().await;
        if tokio::task::block_in_place(|| cluster.stop(how)).is_err() {
            eprintln!("PostgreSQL did not stop ({how:?}) and was killed");
        }
        tokio::time::sleep(hold).await;
        tokio::task::block_in_place(|| cluster.start())?;
        Ok(Instant::now())
    }

    /// Kills a backend; when PostgreSQL had recovered.
    pub(crate) async fn kill_backend(&self) -> anyhow::Result<Instant> {
        let cluster = self.cluster.lock().await;
        let sql = "select pid from pg_stat_activity where backend_type = 'client backend' \
            and pid <> pg_backend_pid() order by random() limit 1";
        let mut admin = PgConnection::connect(&self.url).await?;
        let pid: i32 = sqlx::query_scalar(sql).fetch_one(&mut admin).await?;
        let killed = Command::new("kill").args(["-9", &pid.to_string()]).status().await?;
        ensure!(killed.success(), "kill -9 {pid}");
        // The other backends are told to quit; our own says when.
        let mut looks = tokio::time::interval(Duration::from_millis(2));
        let killed_at = Instant::now();
        while sqlx::query("select 1").execute(&mut admin).await.is_ok() {
            // One that was just ending by itself takes nobody with it.
            ensure!(killed_at.elapsed() < PATIENCE / 30, "backend {pid} ended by itself");
            looks.tick().await;
        }
        while PgConnection::connect(&self.url).await.is_err() {
            looks.tick().await;
        }
        drop(cluster);
        Ok(Instant::now())
    }

    /// Ends sessions of the server as an administrator would.
    pub(crate) async fn terminate(&self, application: &str) -> anyhow::Result<()> {
        let sql = "select pg_terminate_backend(pid) from pg_stat_activity \
            where application_name like $1 and pid <> pg_backend_pid()";
        let mut admin = PgConnection::connect(&self.url).await?;
        sqlx::query(sql).bind(application).execute(&mut admin).await?;
        Ok(())
    }

    /// Ends the server in this way and starts another.
    pub(crate) async fn restart_server(&self, kill: bool, hold: Duration) -> anyhow::Result<()> {
        let mut server = self.server.lock().await;
        if kill {
            server.kill().await?;
        } else {
            server.stop().await?;
        };
        tokio::time::sleep(hold).await;
        *server = Server::start(&self.through_proxy, &self.log).await?;
        let addr = server.addr;
        self.door.send_modify(|door| *door = Door { addr, process: door.process + 1 });
        Ok(())
    }

    /// Waits until the server says that it has caught up; when.
    pub(crate) async fn live(&self) -> anyhow::Result<Instant> {
        let wait = async {
            let mut looks = tokio::time::interval(Duration::from_millis(3));
            loop {
                looks.tick().await;
                let url = format!("http://{}/readyz", self.door.borrow().addr);
                // A server that is killed at this moment may never answer.
                let answer = crate::subscribers::http().get(url).timeout(ANSWER).send().await;
                match answer {
                    Ok(answer) if answer.status().is_success() => return Instant::now(),
                    Err(error) if error.is_timeout() => eprintln!("/readyz: no answer: {error}"),
                    _ => {}
                }
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.context("not live within a minute")
    }

    /// What the last process of the server counted, one line each.
    pub(crate) async fn metrics(&self) -> anyhow::Result<String> {
        let url = format!("http://{}/metrics", self.door.borrow().addr);
        Ok(crate::subscribers::http().get(url).send().await?.text().await?)
    }

    /// Stops everything.
    pub(crate) async fn strike(self) -> anyhow::Result<()> {
        self.server.into_inner().stop().await?;
        let mut cluster = self.cluster.into_inner();
        tokio::task::block_in_place(|| cluster.stop(Stop::Fast))?;
        Ok(())
    }
}

/// No fsync: a crash of PostgreSQL is no crash of the machine, and what it has written stays.
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
    let mut command = crate::server::program(url)?;
    command.args(["migrate", "--capture", args.capture.name()]);
    let output = command.output().await?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "datastream migrate: {said}");
    let mut db = PgConnection::connect(url).await?;
    sqlx::raw_sql(include_str!("../../sql/sample_games.sql")).execute(&mut db).await?;
    Ok(())
}
