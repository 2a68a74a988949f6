//! `demo --cluster`: three NATS nodes, two captures and two edges on this machine, to kill them one by
//! one.

mod member;
mod nats;

use std::{
    fmt::Write as _,
    io::{self, Write as _},
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context;

use self::member::{Member, Members};
use super::Serving;
use crate::{
    config::BusConfig,
    ops::{shutdown::Shutdown, telemetry::metrics::Metrics},
    stream::bus::{Bus, BusError, StreamConfig, connect_once},
};

const NODES: usize = 3;
/// A cluster of NATS elects its leader within this time.
const STREAM_WITHIN: Duration = Duration::from_secs(60);
const RETRY_AFTER: Duration = Duration::from_millis(300);
const RETENTION: Duration = Duration::from_secs(24 * 3600);

/// What the cluster starts with.
#[derive(Clone, Debug)]
pub struct ClusterConfig {
    /// The demo's folder.
    pub data_dir: PathBuf,
    /// The program of NATS. Default: the one in PATH, otherwise PyPI's.
    pub nats_server: Option<PathBuf>,
    /// Where the first edge listens. The second one listens on the next port.
    pub http_addr: SocketAddr,
}

/// Starts all processes, for rounds of this database.
pub async fn bind(
    database: String,
    config: ClusterConfig,
    shutdown: Shutdown,
) -> anyhow::Result<Serving> {
    let program = nats::find(config.nats_server.as_deref(), &config.data_dir).await?;
    let folder = config.data_dir.join("cluster");
    std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let ports = (0..NODES).map(|_| free_ports()).collect::<anyhow::Result<Vec<_>>>()?;
    let urls: Vec<String> = ports.iter().map(|(client, _)| format!("127.0.0.1:{client}")).collect();
    let url = format!("nats://{}", urls.join(","));
    let mut members = Members::default();
    for index in 0..NODES {
        members.start(nats::node(&program, &folder, &ports, index))?;
    }
    make_stream(&url).await?;
    let first = port_near(config.http_addr)?;
    let second = port_near(SocketAddr::new(first.ip(), first.port().saturating_add(1)))?;
    for name in ["capture-1", "capture-2"] {
        members.start(own(&folder, name, "capture", &url)?.env("DATABASE_URL", &database))?;
    }
    for (name, addr) in [("edge-1", first), ("edge-2", second)] {
        let edge = own(&folder, name, "serve", &url)?;
        members.start(edge.env("DATASTREAM_HTTP_ADDR", &addr.to_string()))?;
    }
    print(&folder, [first, second]);
    Ok(Serving { http_addr: first, run: Box::pin(members.supervise(shutdown)) })
}

/// One of our own processes.
fn own(folder: &Path, name: &str, command: &str, bus: &str) -> anyhow::Result<Member> {
    let program = std::env::current_exe().context("the path of this program")?;
    let member = Member::new(folder, name, &program, &[command]);
    Ok(member
        .env("DATASTREAM_BUS", bus)
        .env("DATASTREAM_NODE", name)
        .env("DATASTREAM_HTTP_ADDR", "127.0.0.1:0"))
}

async fn make_stream(url: &str) -> anyhow::Result<()> {
    let bus = BusConfig {
        url: url.parse()?,
        stream: "DATASTREAM".to_owned(),
        prefix: "datastream".to_owned(),
        creds: None,
        ca: None,
        certificate: None,
        domain: None,
        node: "demo".to_owned(),
    };
    let config = StreamConfig { replicas: NODES as u8, retention: RETENTION };
    let made = tokio::time::timeout(STREAM_WITHIN, async {
        loop {
            match try_make(&bus, &config).await {
                Err(error) if error.is_passing() => tokio::time::sleep(RETRY_AFTER).await,
                outcome => return outcome,
            }
        }
    });
    Ok(made.await.context("NATS did not make the stream in time")??)
}

async fn try_make(bus: &BusConfig, config: &StreamConfig) -> Result<(), BusError> {
    let client = connect_once(bus, &Metrics::default()).await?;
    let now = chrono::Utc::now().timestamp_micros();
    config.create(&Bus::new(client, bus), now).await.map(drop)
}

/// Ports for clients and for the other nodes.
fn free_ports() -> anyhow::Result<(u16, u16)> {
    let free = || -> anyhow::Result<TcpListener> { Ok(TcpListener::bind(("127.0.0.1", 0))?) };
    // Both at once, so that they differ.
    let (client, cluster) = (free()?, free()?);
    Ok((client.local_addr()?.port(), cluster.local_addr()?.port()))
}

/// The address, with another port if it is in use.
fn port_near(addr: SocketAddr) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind(addr).or_else(|_| TcpListener::bind((addr.ip(), 0)));
    Ok(listener.context("no free port")?.local_addr()?)
}

/// How to kill each process, and what to watch. A closed stdout does not stop the demo.
fn print(folder: &Path, edges: [SocketAddr; 2]) {
    let _ = io::stdout().lock().write_all(text(folder, edges).as_bytes());
}

fn text(folder: &Path, edges: [SocketAddr; 2]) -> String {
    let shown = folder.display();
    let mut text = String::from(
        "\nA cluster: 3 NATS nodes, 2 captures, 2 edges. Watch the rounds at both edges:\n\n",
    );
    // Writing to a String cannot fail.
    for addr in edges {
        let _ = writeln!(text, "  curl -N http://localhost:{}/sse", addr.port());
    }
    let _ = write!(text, "\nKill any of them; it is started again after 10 s:\n\n");
    for (name, effect) in [
        ("capture-1", "if it leads, rounds pause for 2 to 3 s, then all of them come"),
        ("capture-2", "the same"),
        ("nats-1", "if it leads the stream, rounds pause for 4 to 10 s, then all of them come"),
        ("nats-2", "the same"),
        ("nats-3", "the same"),
        ("edge-1", "its clients resume on the other edge, where they left off"),
        ("edge-2", "the same"),
    ] {
        let _ = writeln!(text, "  kill -9 $(cat {shown}/{name}.pid)   # {effect}");
    }
    let _ = write!(
        text,
        "\nWho leads:   grep -h 'capture node leads' {shown}/capture-*.log | tail -1\n\
         Readiness:   curl -s http://localhost:{0}/readyz\n\
         Metrics:     curl -s http://localhost:{0}/metrics | grep datastream_bus\n\
         Logs:        {shown}/*.log\n",
        edges[0].port()
    );
    text
}
