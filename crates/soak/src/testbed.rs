//! The processes under test: PostgreSQL, and the servers, each behind its own fault proxy.

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

/// Recent rounds of each game in the server's hub: few, so that the database answers resumes too.
pub(crate) const HUB_ROUNDS: usize = 512;
/// The longest recovery, even while the link keeps breaking.
const LIVE_WITHIN: Duration = Duration::from_secs(60);

/// The longest response time of `/readyz` on an overloaded machine.
const READY_RESPONSE_WITHIN: Duration = Duration::from_secs(5);

/// The address of a node and the number of its current process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NodeAddress {
    pub(crate) addr: SocketAddr,
    pub(crate) process: u32,
}

/// A server and its link to PostgreSQL.
#[derive(Debug)]
struct Node {
    proxy: FaultProxy,
    server: Mutex<Server>,
}

/// All processes under test.
#[derive(Debug)]
pub(crate) struct Testbed {
    cluster: Mutex<Cluster>,
    nodes: Vec<Node>,
    /// One for each node.
    addresses: watch::Sender<Vec<NodeAddress>>,
    /// Of the Unix socket, so without a proxy.
    pub(crate) url: String,
    pub(crate) version: String,
    log: PathBuf,
}

impl Testbed {
    /// Starts PostgreSQL and the servers.
    pub(crate) async fn start(args: &Args) -> anyhow::Result<Self> {
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
        let (mut nodes, mut addresses) = (Vec::new(), Vec::new());
        for process in 0..u32::from(args.nodes) {
            let node = Node::start(cluster.port(), &log).await?;
            addresses.push(NodeAddress { addr: node.server.lock().await.addr, process });
            nodes.push(node);
        }
        let (cluster, (addresses, _)) = (Mutex::new(cluster), watch::channel(addresses));
        let testbed = Self { cluster, nodes, addresses, url, version, log };
        testbed.live().await.context("not every server became ready")?;
        Ok(testbed)
    }

    /// The current addresses of the nodes.
    pub(crate) fn addresses(&self) -> watch::Receiver<Vec<NodeAddress>> {
        self.addresses.subscribe()
    }

    /// The fault proxy between a node and PostgreSQL.
    pub(crate) fn proxy(&self, node: usize) -> Option<&FaultProxy> {
        self.nodes.get(node).map(|node| &node.proxy)
    }

    /// The log of all servers.
    pub(crate) fn log(&self) -> &Path {
        &self.log
    }

    /// Stops PostgreSQL, waits, starts it; returns the time at which it accepted connections.
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
            ensure!(killed_at.elapsed() < LIVE_WITHIN / 30, "backend {pid} ended by itself");
            checks.tick().await;
        }
        while PgConnection::connect(&self.url).await.is_err() {
            checks.tick().await;
        }
        drop(cluster);
        Ok(Instant::now())
    }

    /// Ends sessions of the server with `pg_terminate_backend`.
    pub(crate) async fn terminate(&self, application: &str) -> anyhow::Result<()> {
        let sql = "select pg_terminate_backend(pid) from pg_stat_activity \
            where application_name like $1 and pid <> pg_backend_pid()";
        let mut admin = PgConnection::connect(&self.url).await?;
        sqlx::query(sql).bind(application).execute(&mut admin).await?;
        Ok(())
    }

    /// Kills or stops the server of a node and starts another.
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
        self.addresses.send_modify(|addresses| {
            let process =
                addresses.iter().map(|address| address.process + 1).max().unwrap_or_default();
            if let Some(address) = addresses.get_mut(node) {
                *address = NodeAddress { addr, process };
            }
        });
        Ok(())
    }

    /// Waits until every server is ready; returns the time.
    pub(crate) async fn live(&self) -> anyhow::Result<Instant> {
        let all = (0..self.nodes.len()).map(|node| self.node_is_live(node));
        let all = try_join_all(all).await?;
        all.into_iter().max().context("no server")
    }

    async fn node_is_live(&self, node: usize) -> anyhow::Result<Instant> {
        let wait = async {
            let mut checks = tokio::time::interval(Duration::from_millis(3));
            loop {
                checks.tick().await;
                let url = format!("http://{}/readyz", self.addr(node)?);
                // A server that is being killed may never respond.
                let answer =
                    crate::subscribers::http().get(url).timeout(READY_RESPONSE_WITHIN).send().await;
                match answer {
                    Ok(answer) if answer.status().is_success() => return Ok(Instant::now()),
                    Err(error) if error.is_timeout() => eprintln!("/readyz: no answer: {error}"),
                    _ => {}
                }
            }
        };
        tokio::time::timeout(LIVE_WITHIN, wait).await.context("not live within a minute")?
    }

    /// The metrics of the last process of each node.
    pub(crate) async fn metrics(&self) -> anyhow::Result<Vec<String>> {
        let read = async |node| {
            let url = format!("http://{}/metrics", self.addr(node)?);
            anyhow::Ok(crate::subscribers::http().get(url).send().await?.text().await?)
        };
        try_join_all((0..self.nodes.len()).map(read)).await
    }

    fn addr(&self, node: usize) -> anyhow::Result<SocketAddr> {
        self.addresses.borrow().get(node).map(|address| address.addr).context("a node")
    }

    /// Stops everything.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
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

/// The URL of PostgreSQL through this proxy.
fn url(proxy: &FaultProxy) -> String {
    format!("postgresql://postgres@127.0.0.1:{}/postgres", proxy.port)
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
    let mut command = crate::server::program(url)?;
    command.args(["migrate", "--capture", args.capture.name()]);
    let output = command.output().await?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "datastream migrate: {stderr}");
    let mut db = PgConnection::connect(url).await?;
    sqlx::raw_sql(include_str!("../../../sql/sample_games.sql")).execute(&mut db).await?;
    Ok(())
}
