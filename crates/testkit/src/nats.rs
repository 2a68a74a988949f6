//! nats-server, streams on it, and captures and edges of a test's database.

mod node;

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    io::{Read, Write},
    net::TcpStream,
    process::Stdio,
    sync::OnceLock,
    time::Duration,
};

use tokio::process::{Child, Command};

pub use self::node::{Node, ask, cluster_arguments};
use super::{
    TestServer,
    binary::{Output, datastream},
    cluster::free_port,
    eventually,
    server::Builder,
};

/// A node answers in milliseconds, unless no node leads.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// A running nats-server; dropping it kills the process.
#[derive(Debug)]
pub struct Nats {
    child: Child,
    node: Node,
    _store: tempfile::TempDir,
}

impl Nats {
    /// One node with JetStream.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// With these arguments too.
    pub async fn start_with(more: &[&str]) -> Self {
        let more = more.iter().map(|&arg| arg.to_owned()).collect();
        Self::start_in(tempfile::tempdir().expect("a folder"), more).await
    }

    /// With this configuration file.
    pub async fn configured(config: &str) -> Self {
        let store = tempfile::tempdir().expect("a folder");
        let file = store.path().join("nats.conf");
        std::fs::write(&file, config).expect("a file");
        Self::start_in(store, vec!["-c".to_owned(), file.display().to_string()]).await
    }

    /// Three nodes of one cluster.
    pub async fn cluster() -> [Self; 3] {
        let routes = [free_port(), free_port(), free_port()];
        let mut nodes = Vec::new();
        for more in cluster_arguments("n", &routes) {
            nodes.push(Self::start_in(tempfile::tempdir().expect("a folder"), more).await);
        }
        nodes.try_into().expect("three nodes")
    }

    async fn start_in(store: tempfile::TempDir, more: Vec<String>) -> Self {
        let node = Node { port: free_port(), store: store.path().to_owned(), more };
        let nats = Self { child: spawn(&node), node, _store: store };
        nats.listens().await;
        nats
    }

    async fn listens(&self) {
        eventually("nats-server to listen", || async {
            tokio::net::TcpStream::connect(("127.0.0.1", self.node.port)).await.ok().map(drop)
        })
        .await;
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.node.port)
    }

    /// Kills it.
    pub async fn kill(&mut self) {
        self.child.kill().await.expect("a kill");
    }

    /// Starts it again, with what it stored.
    pub async fn restart(&mut self) {
        self.child = spawn(&self.node);
        self.listens().await;
    }

    /// Sends a message with headers, and waits until the server has it.
    pub fn publish(&self, subject: &str, headers: &[(&str, &str)], payload: &str) {
        let mut block = String::from("NATS/1.0\r\n");
        headers.iter().for_each(|(name, value)| block += &format!("{name}: {value}\r\n"));
        block += "\r\n";
        let (head, all) = (block.len(), block.len() + payload.len());
        self.send(&format!("HPUB {subject} {head} {all}\r\n{block}{payload}\r\n"));
    }

    /// Sends an empty message as this user; returns what the server says.
    pub fn publish_as(&self, user: &str, password: &str, subject: &str) -> String {
        let user = format!("\"user\":\"{user}\",\"pass\":\"{password}\",");
        self.send_as(&user, &format!("PUB {subject} 0\r\n\r\n"))
    }

    /// Asks the API of JetStream; returns the answer.
    pub fn api(&self, action: &str, payload: &str) -> String {
        ask(self.node.port, action, payload, ANSWER_WITHIN).expect("an answer")
    }

    /// Sends lines of the protocol; returns what comes before the answer to a ping.
    fn send(&self, lines: &str) -> String {
        self.send_as("", lines)
    }

    fn send_as(&self, user: &str, lines: &str) -> String {
        let mut socket = TcpStream::connect(("127.0.0.1", self.node.port)).expect("a connection");
        socket.set_read_timeout(Some(ANSWER_WITHIN)).expect("a timeout");
        let connect = format!("CONNECT {{{user}\"verbose\":false,\"headers\":true}}\r\n");
        socket.write_all(format!("{connect}{lines}PING\r\n").as_bytes()).expect("sent");
        let (mut all, mut part) = (String::new(), [0; 4096]);
        while !all.contains("PONG\r\n") {
            let read = socket.read(&mut part).expect("an answer");
            assert!(read > 0, "nats-server closed: {all}");
            all += &String::from_utf8_lossy(&part[..read]);
        }
        all
    }
}

fn spawn(node: &Node) -> Child {
    Command::from(node.command()).kill_on_drop(true).spawn().expect("nats-server")
}

/// A stream on a NATS, for one database.
#[derive(Clone, Debug)]
pub struct Bus {
    pub url: String,
    pub stream: String,
    pub prefix: String,
    pub database: String,
}

impl Bus {
    /// Makes the stream of this database: it is found again under the same name.
    pub async fn create(nats: &str, database: &str) -> Self {
        let bus = Self::named(nats, database);
        let made = bus.command(&["bus", "create", "--replicas", "1"]).await;
        assert_eq!(made.code, Some(0), "{}", made.stderr);
        bus
    }

    /// The same with three replicas, once the nodes have elected a leader.
    pub async fn create_replicated(nats: &[Nats], database: &str) -> Self {
        let hosts: Vec<_> =
            nats.iter().map(|nats| format!("127.0.0.1:{}", nats.node.port)).collect();
        let bus = Self::named(&format!("nats://{}", hosts.join(",")), database);
        eventually("a stream with three replicas", || async {
            let made = bus.command(&["bus", "create", "--replicas", "3"]).await;
            (made.code == Some(0)).then_some(())
        })
        .await;
        bus
    }

    /// The same without making it.
    pub fn named(nats: &str, database: &str) -> Self {
        let mut hasher = DefaultHasher::new();
        database.hash(&mut hasher);
        let name = hasher.finish();
        let (stream, prefix) = (format!("T{name}"), format!("t{name}"));
        Self { url: nats.to_owned(), stream, prefix, database: database.to_owned() }
    }

    /// A command with the options of this bus.
    pub async fn command(&self, args: &[&str]) -> Output {
        let run = datastream(args)
            .env("DATASTREAM_BUS", &self.url)
            .env("DATASTREAM_BUS_STREAM", &self.stream)
            .env("DATASTREAM_BUS_PREFIX", &self.prefix);
        run.run().await
    }

    fn builder(&self, command: &str) -> Builder {
        TestServer::command(&[command])
            .env("DATASTREAM_BUS", &self.url)
            .env("DATASTREAM_BUS_STREAM", &self.stream)
            .env("DATASTREAM_BUS_PREFIX", &self.prefix)
            .env("DATASTREAM_BUS_TAKEOVER", "1s")
    }

    /// A capture node that has not started.
    pub fn capture(&self) -> Builder {
        self.builder("capture").env("DATABASE_URL", &self.database)
    }

    /// An edge that has not started.
    pub fn edge(&self) -> Builder {
        self.builder("serve")
    }
}

/// The NATS that all servers of this test process share if `BUS=1` makes them captures and edges.
pub async fn shared() -> &'static str {
    static SHARED: OnceLock<Shared> = OnceLock::new();
    let shared = SHARED.get_or_init(Shared::start);
    eventually("nats-server to listen", || async {
        tokio::net::TcpStream::connect(("127.0.0.1", shared.port)).await.ok().map(drop)
    })
    .await;
    &shared.url
}

#[derive(Debug)]
struct Shared {
    url: String,
    port: u16,
    _store: tempfile::TempDir,
    /// The shell that ends it when this process has ended, and its input with it.
    _guard: std::process::Child,
}

impl Shared {
    fn start() -> Self {
        let store = tempfile::tempdir().expect("a folder");
        let node = Node { port: free_port(), store: store.path().to_owned(), more: Vec::new() };
        let (port, command) = (node.port, node.command());
        let guarded = "\"$@\" & cat >/dev/null; kill -9 $!";
        let guard = std::process::Command::new("sh")
            .args(["-c", guarded, "sh"])
            .arg(command.get_program())
            .args(command.get_args())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let url = format!("nats://127.0.0.1:{port}");
        Self { url, port, _store: store, _guard: guard.expect("a shell") }
    }
}

/// Whether `BUS=1` makes servers captures and edges.
pub fn is_on() -> bool {
    std::env::var_os("BUS").is_some_and(|value| value == "1")
}
