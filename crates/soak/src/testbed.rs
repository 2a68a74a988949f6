//! The processes under test: PostgreSQL, and the servers, each behind its own fault proxies. With a
//! bus, the servers are edges, and the proxies are before the nodes of NATS.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::Context;
use futures_util::future::try_join_all;
use tokio::{
    process::Command,
    sync::{Mutex, watch},
};

use testkit::FaultProxy;

use crate::{
    args::Args,
    bus::{Bus, Event},
    database::Database,
    server::{Server, serve},
};

/// Recent rounds of each game in the server's hub: few, so that the database answers resumes too.
pub(crate) const HUB_ROUNDS: usize = 512;
/// The same of an edge: NATS elects a leader within seconds, and a node stays down for longer.
pub(crate) const EDGE_ROUNDS: usize = 2_048;
/// In the names of servers.
const NODE: &str = "node";
/// The longest recovery, even while the link keeps breaking. An edge that starts reads the whole log: a
/// debug build reads some thousand messages a second on a busy machine.
const LIVE_WITHIN: Duration = Duration::from_secs(120);

const REVIVE_EVERY: Duration = Duration::from_secs(1);
/// The longest response time of `/readyz` on an overloaded machine.
const READY_RESPONSE_WITHIN: Duration = Duration::from_secs(5);

/// The address of a node and the number of its current process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NodeAddress {
    pub(crate) addr: SocketAddr,
    pub(crate) process: u32,
}

/// Where a server gets its rounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Upstream {
    PostgreSql,
    Nats,
}

/// A server and its links to PostgreSQL or to the nodes of NATS.
#[derive(Debug)]
struct Node {
    upstream: Upstream,
    proxies: Vec<FaultProxy>,
    server: Mutex<Server>,
}

/// All processes under test.
#[derive(Debug)]
pub(crate) struct Testbed {
    pub(crate) database: Database,
    /// NATS and the captures.
    pub(crate) bus: Option<Bus>,
    nodes: Vec<Node>,
    /// One for each node.
    addresses: watch::Sender<Vec<NodeAddress>>,
    folder: PathBuf,
    log: PathBuf,
}

impl Testbed {
    /// Starts PostgreSQL, the bus if there is one, and the servers.
    pub(crate) async fn start(args: &Args) -> anyhow::Result<Self> {
        let name = format!("datastream-soak-{}", std::process::id());
        let folder = std::env::temp_dir().join(&name);
        let log = std::env::temp_dir().join(format!("{name}.log"));
        tokio::fs::create_dir_all(&folder).await?;
        let database = Database::start(args, &std::env::temp_dir().join(name + "-data")).await?;
        let bus = match args.bus {
            true => Some(Bus::start(&database.url, &folder, &log).await?),
            false => None,
        };
        let (upstream, ports) = match &bus {
            Some(bus) => (Upstream::Nats, bus.ports()),
            None => (Upstream::PostgreSql, vec![database.port]),
        };
        let (mut nodes, mut addresses) = (Vec::new(), Vec::new());
        for process in 0..u32::try_from(args.nodes())? {
            let node = Node::start(upstream, &ports, &log).await?;
            addresses.push(NodeAddress { addr: node.server.lock().await.addr, process });
            nodes.push(node);
        }
        let (addresses, _) = watch::channel(addresses);
        let testbed = Self { database, bus, nodes, addresses, folder, log };
        testbed.live().await.context("not every server became ready")?;
        Ok(testbed)
    }

    /// The current addresses of the nodes.
    pub(crate) fn addresses(&self) -> watch::Receiver<Vec<NodeAddress>> {
        self.addresses.subscribe()
    }

    /// The fault proxies of a node.
    pub(crate) fn proxies(&self, node: usize) -> &[FaultProxy] {
        self.nodes.get(node).map(|node| node.proxies.as_slice()).unwrap_or_default()
    }

    /// The log of all servers.
    pub(crate) fn log(&self) -> &Path {
        &self.log
    }

    /// Starts captures and edges again that have ended since NATS had no stream.
    pub(crate) async fn revive(&self) -> anyhow::Result<()> {
        let Some(bus) = &self.bus else { return Ok(()) };
        bus.revive().await?;
        for (number, node) in self.nodes.iter().enumerate() {
            let mut server = node.server.lock().await;
            if server.lacks_stream()? {
                bus.events.note(Event::StartedAgain, format_args!("edge {number}"));
                self.start_server(number, node, &mut server).await?;
            }
        }
        Ok(())
    }

    /// Waits until every server is ready; starts those again that have ended since NATS had no stream.
    pub(crate) async fn recover(&self) -> anyhow::Result<()> {
        let mut live = std::pin::pin!(self.live());
        loop {
            self.revive().await?;
            if let Ok(live) = tokio::time::timeout(REVIVE_EVERY, &mut live).await {
                return live.map(drop);
            }
        }
    }

    /// Kills or stops the server of a node and starts another.
    pub(crate) async fn restart_server(
        &self,
        number: usize,
        kill: bool,
        hold: Duration,
    ) -> anyhow::Result<()> {
        let Some(node) = self.nodes.get(number) else { return Ok(()) };
        let mut server = node.server.lock().await;
        match (&self.bus, kill) {
            (Some(bus), _) if server.lacks_stream()? => {
                bus.events.note(Event::StartedAgain, format_args!("edge {number}"));
            }
            (_, true) => server.kill().await?,
            (_, false) => server.stop().await?,
        }
        tokio::time::sleep(hold).await;
        self.start_server(number, node, &mut server).await
    }

    /// Replaces a server that has ended.
    async fn start_server(
        &self,
        number: usize,
        node: &Node,
        server: &mut Server,
    ) -> anyhow::Result<()> {
        *server = Server::start(&mut command(node.upstream, &node.proxies)?, &self.log).await?;
        let addr = server.addr;
        self.addresses.send_modify(|addresses| {
            let process =
                addresses.iter().map(|address| address.process + 1).max().unwrap_or_default();
            if let Some(address) = addresses.get_mut(number) {
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
                    Ok(answer) if answer.status().is_success() => {
                        // An edge is ready while the leader has no database.
                        let body = answer.text().await.unwrap_or_default();
                        if self.bus.is_none() || body.contains(r#""database":"connected""#) {
                            return Ok(Instant::now());
                        }
                    }
                    Err(error) if error.is_timeout() => eprintln!("/readyz: no answer: {error}"),
                    _ => {}
                }
            }
        };
        tokio::time::timeout(LIVE_WITHIN, wait)
            .await
            .with_context(|| format!("not live within {LIVE_WITHIN:?}"))?
    }

    /// Everything that has metrics, by a name: the servers and the captures.
    pub(crate) fn sources(&self) -> Vec<(String, SocketAddr)> {
        let nodes = self.addresses.borrow();
        let nodes =
            (1..).zip(nodes.iter()).map(|(number, it)| (format!("{NODE} {number}"), it.addr));
        let captures = self.bus.as_ref().map(Bus::captures).unwrap_or_default();
        let captures =
            (1..).zip(captures).map(|(number, addr)| (format!("capture {number}"), addr));
        nodes.chain(captures).collect()
    }

    /// The metrics of the last process of each.
    pub(crate) async fn metrics(&self) -> anyhow::Result<Vec<(String, String)>> {
        let read = async |(name, addr): (String, SocketAddr)| {
            let url = format!("http://{addr}/metrics");
            let text = crate::subscribers::http().get(url).send().await?.text().await?;
            anyhow::Ok((name, text))
        };
        try_join_all(self.sources().into_iter().map(read)).await
    }

    fn addr(&self, node: usize) -> anyhow::Result<SocketAddr> {
        self.addresses.borrow().get(node).map(|address| address.addr).context("a node")
    }

    /// Stops everything.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        for node in self.nodes {
            node.server.into_inner().stop().await?;
        }
        if let Some(bus) = self.bus {
            bus.stop().await?;
        }
        self.database.stop()?;
        Ok(tokio::fs::remove_dir_all(&self.folder).await?)
    }
}

/// Whether the name of a source is one of a server.
pub(crate) fn is_node(name: &str) -> bool {
    name.starts_with(NODE)
}

impl Node {
    async fn start(upstream: Upstream, ports: &[u16], log: &Path) -> anyhow::Result<Self> {
        let mut proxies = Vec::with_capacity(ports.len());
        for port in ports {
            proxies.push(FaultProxy::start(*port).await);
        }
        let server = Mutex::new(Server::start(&mut command(upstream, &proxies)?, log).await?);
        Ok(Self { upstream, proxies, server })
    }
}

/// A server that reaches its rounds through these proxies.
fn command(upstream: Upstream, proxies: &[FaultProxy]) -> anyhow::Result<Command> {
    let hosts: Vec<_> = proxies.iter().map(|proxy| format!("127.0.0.1:{}", proxy.port)).collect();
    let hosts = hosts.join(",");
    let mut command = serve()?;
    match upstream {
        Upstream::PostgreSql => {
            command.env("DATABASE_URL", format!("postgresql://postgres@{hosts}/postgres"))
        }
        // The memory of an edge that starts reaches back to the begin of a long run.
        Upstream::Nats => command
            .env("DATASTREAM_BUS", format!("nats://{hosts}"))
            .env("DATASTREAM_BUS_FILL", "1h")
            .env("DATASTREAM_HISTORY", EDGE_ROUNDS.to_string()),
    };
    Ok(command)
}
