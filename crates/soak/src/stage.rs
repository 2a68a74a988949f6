//! Everything that runs: PostgreSQL, and the servers, each with a proxy between the two.

use std::{
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use embedded_postgres::{Cluster, Installation, Settings, Stop};
use futures_util::future::try_join_all;
use sqlx::{Connection, PgConnection};
use tokio::{
    process::Command,
    sync::{Mutex, watch},
};

use testkit::FaultProxy;

use crate::{args::Args, server::Server};

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

/// A server and its link to PostgreSQL.
#[derive(Debug)]
struct Node {
    proxy: FaultProxy,
    server: Mutex<Server>,
}

/// The scene of the soak.
#[derive(Debug)]
pub(crate) struct Stage {
    cluster: Mutex<Cluster>,
    nodes: Vec<Node>,
    /// One for each node.
    doors: watch::Sender<Vec<Door>>,
    /// By the unix socket, past the proxies.
    pub(crate) url: String,
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
        let (mut nodes, mut doors) = (Vec::new(), Vec::new());
        for process in 0..u32::from(args.nodes) {
            let node = Node::start(cluster.port(), &log).await?;
            doors.push(Door { addr: node.server.lock().await.addr, process });
            nodes.push(node);
        }
        let (cluster, (doors, _)) = (Mutex::new(cluster), watch::channel(doors));
        let stage = Self { cluster, nodes, doors, url, version, log };
        stage.live().await.context("not every server became ready")?;
        Ok(stage)
    }

    /// Where the servers are, now and later.
    pub(crate) fn doors(&self) -> watch::Receiver<Vec<Door>> {
        self.doors.subscribe()
    }

    /// A node's link to PostgreSQL.
    pub(crate) fn proxy(&self, node: usize) -> Option<&FaultProxy> {
        self.nodes.get(node).map(|node| &node.proxy)
    }

    /// What the servers logged.
    pub(crate) fn log(&self) -> &Path {
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

    /// Ends a node's server in this way and starts another.
    pub(crate) async fn restart_server(
        &self,
        node: usize,
        kill: bool,
        hold: Duration,
    ) -> anyhow::Result<()> {
        let Some(Node { proxy, server }) = self.nodes.get(node) else { return Ok(()) };
        let mut server = server.lock().await;
        if kill {
            server.kill().await?;
        } else {
            server.stop().await?;
        };
        tokio::time::sleep(hold).await;
        *server = Server::start(&url(proxy), &self.log).await?;
        let addr = server.addr;
        self.doors.send_modify(|doors| {
            let process = doors.iter().map(|door| door.process + 1).max().unwrap_or_default();
            if let Some(door) = doors.get_mut(node) {
                *door = Door { addr, process };
            }
        });
        Ok(())
    }

    /// Waits until every server says that it has caught up; when.
    pub(crate) async fn live(&self) -> anyhow::Result<Instant> {
        let all = (0..self.nodes.len()).map(|node| self.node_is_live(node));
        let all = try_join_all(all).await?;
        all.into_iter().max().context("no server")
    }

    async fn node_is_live(&self, node: usize) -> anyhow::Result<Instant> {
        let wait = async {
            let mut looks = tokio::time::interval(Duration::from_millis(3));
            loop {
                looks.tick().await;
                let url = format!("http://{}/readyz", self.addr(node)?);
                // A server that is killed at this moment may never answer.
                let answer = crate::subscribers::http().get(url).timeout(ANSWER).send().await;
                match answer {
                    Ok(answer) if answer.status().is_success() => return Ok(Instant::now()),
                    Err(error) if error.is_timeout() => eprintln!("/readyz: no answer: {error}"),
                    _ => {}
                }
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.context("not live within a minute")?
    }

    /// What the last process of each node counted, one line each.
    pub(crate) async fn metrics(&self) -> anyhow::Result<Vec<String>> {
        let read = async |node| {
            let url = format!("http://{}/metrics", self.addr(node)?);
            anyhow::Ok(crate::subscribers::http().get(url).send().await?.text().await?)
        };
        try_join_all((0..self.nodes.len()).map(read)).await
    }

    fn addr(&self, node: usize) -> anyhow::Result<SocketAddr> {
        self.doors.borrow().get(node).map(|door| door.addr).context("a node")
    }

    /// Stops everything.
    pub(crate) async fn strike(self) -> anyhow::Result<()> {
        for node in self.nodes {
            node.server.into_inner().stop().await?;
        }
        let mut cluster = self.cluster.into_inner();
        tokio::task::block_in_place(|| cluster.stop(Stop::Fast))?;
        Ok(())
    }
}

impl Node {
    async fn start(postgresql: u16, log: &Path) -> anyhow::Result<Self> {
        let proxy = FaultProxy::start(postgresql).await;
        let server = Mutex::new(Server::start(&url(&proxy), log).await?);
        Ok(Self { proxy, server })
    }
}

/// By way of a proxy.
fn url(proxy: &FaultProxy) -> String {
    format!("postgresql://postgres@127.0.0.1:{}/postgres", proxy.port)
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
    sqlx::raw_sql(include_str!("../../../sql/sample_games.sql")).execute(&mut db).await?;
    Ok(())
}
