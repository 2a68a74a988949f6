//! Three nodes of NATS, and what happens to them.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, ensure};
use futures_util::future::try_join_all;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    process::Command,
    sync::Mutex,
};

use crate::process::Process;

const NODES: usize = 3;
/// A node answers in milliseconds, unless no node leads.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// An election takes up to 9 s; nodes that start take longer.
const LEADER_WITHIN: Duration = Duration::from_secs(60);
const TRY_AGAIN: Duration = Duration::from_millis(200);

/// A node, by its ports for clients and for the others.
#[derive(Debug)]
struct Node {
    port: u16,
    route: u16,
    store: PathBuf,
    process: Mutex<Option<Process>>,
}

/// The nodes.
#[derive(Debug)]
pub(super) struct Nats {
    nodes: Vec<Node>,
    folder: PathBuf,
}

impl Nats {
    /// Starts the nodes, each with its store in the folder.
    pub(super) async fn start(folder: &Path) -> anyhow::Result<Self> {
        let ports = free_ports(2 * NODES)?;
        let node = |(number, ports): (usize, &[u16])| Node {
            port: ports[0],
            route: ports[1],
            store: folder.join(format!("nats-{number}")),
            process: Mutex::default(),
        };
        let nodes = ports.chunks(2).enumerate().map(node).collect();
        let nats = Self { nodes, folder: folder.to_owned() };
        for number in 0..NODES {
            nats.run(number).await?;
        }
        Ok(nats)
    }

    pub(super) fn ports(&self) -> Vec<u16> {
        self.nodes.iter().map(|node| node.port).collect()
    }

    /// All nodes, for a client.
    pub(super) fn url(&self) -> String {
        let hosts: Vec<_> = self.ports().iter().map(|port| format!("127.0.0.1:{port}")).collect();
        format!("nats://{}", hosts.join(","))
    }

    /// Kills nodes at once and starts them again.
    pub(super) async fn down(&self, numbers: &[usize], hold: Duration) -> anyhow::Result<()> {
        try_join_all(numbers.iter().map(|number| self.kill(*number))).await?;
        tokio::time::sleep(hold).await;
        for number in numbers {
            self.run(*number).await?;
        }
        Ok(())
    }

    /// Stops all threads of a node for a time.
    pub(super) async fn pause(&self, number: usize, hold: Duration) -> anyhow::Result<()> {
        self.signal(number, "STOP").await?;
        tokio::time::sleep(hold).await;
        self.signal(number, "CONT").await
    }

    /// Gives a node the store that it had a while ago, as after a restore of its disk.
    pub(super) async fn put_back(&self, number: usize, age: Duration) -> anyhow::Result<()> {
        let copy = self.copy_store(number).await?;
        tokio::time::sleep(age).await;
        self.kill(number).await?;
        self.restore(number, &copy).await?;
        self.run(number).await
    }

    /// The same with two nodes, which elect a leader while the third one is down: messages that were
    /// acknowledged meanwhile are lost.
    pub(super) async fn put_back_two(&self, first: usize, age: Duration) -> anyhow::Result<()> {
        let [first, second, third] = [first, first + 1, first + 2];
        let copies =
            tokio::try_join!(self.copy_store(first), self.copy_store(second)).context("copy")?;
        tokio::time::sleep(age).await;
        try_join_all([first, second, third].map(|number| self.kill(number))).await?;
        tokio::try_join!(self.restore(first, &copies.0), self.restore(second, &copies.1))?;
        self.run(first).await?;
        self.run(second).await?;
        let elected = async {
            while self.leader("DATASTREAM").await.is_none() {
                tokio::time::sleep(TRY_AGAIN).await;
            }
        };
        // If none was elected, the third node may help.
        let _ = tokio::time::timeout(LEADER_WITHIN, elected).await;
        tokio::time::sleep(age).await;
        self.run(third).await
    }

    /// The node that leads a stream, if one does.
    pub(super) async fn leader(&self, stream: &str) -> Option<usize> {
        let answer = self.ask(&format!("STREAM.INFO.{stream}")).await.ok()?;
        let info: serde_json::Value = serde_json::from_str(&answer).ok()?;
        let name = info.pointer("/cluster/leader")?.as_str()?;
        name.strip_prefix("node-")?.parse().ok()
    }

    /// Asks JetStream's API, of the first node that answers.
    pub(super) async fn ask(&self, action: &str) -> anyhow::Result<String> {
        for node in &self.nodes {
            let asked = tokio::time::timeout(ANSWER_WITHIN, ask(node.port, action)).await;
            if let Ok(Ok(answer)) = asked {
                return Ok(answer);
            }
        }
        anyhow::bail!("no node of NATS answers {action}")
    }

    fn node(&self, number: usize) -> anyhow::Result<&Node> {
        self.nodes.get(number % NODES).context("a node")
    }

    async fn run(&self, number: usize) -> anyhow::Result<()> {
        let node = self.node(number)?;
        let routes: Vec<_> =
            self.nodes.iter().map(|node| format!("nats://127.0.0.1:{}", node.route)).collect();
        let mut command = Command::new(testkit::nats::program());
        // Clients must not go around their proxies.
        command.args(["-js", "-a", "127.0.0.1", "--no_advertise=true", "--cluster_name", "soak"]);
        command.args(["-n", &format!("node-{}", number % NODES)]);
        command.args(["-p", &node.port.to_string()]).arg("-sd").arg(&node.store);
        command.args(["--cluster", &format!("nats://127.0.0.1:{}", node.route)]);
        command.args(["--routes", &routes.join(",")]).arg("-l").arg(self.log(number));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        *node.process.lock().await = Some(Process::spawn(&mut command)?);
        Ok(())
    }

    fn log(&self, number: usize) -> PathBuf {
        self.folder.join(format!("nats-{}.log", number % NODES))
    }

    async fn kill(&self, number: usize) -> anyhow::Result<()> {
        match self.node(number)?.process.lock().await.take() {
            Some(mut process) => process.kill().await,
            None => Ok(()),
        }
    }

    async fn signal(&self, number: usize, name: &str) -> anyhow::Result<()> {
        let process = self.node(number)?.process.lock().await;
        process.as_ref().context("a node that runs")?.signal(name).await
    }

    /// Copies a store as a crash at this moment would leave it.
    async fn copy_store(&self, number: usize) -> anyhow::Result<PathBuf> {
        let store = &self.node(number)?.store;
        let copy = store.with_extension("copy");
        self.signal(number, "STOP").await?;
        let copied = replace(&copy, store).await;
        self.signal(number, "CONT").await?;
        copied.map(|()| copy)
    }

    async fn restore(&self, number: usize, copy: &Path) -> anyhow::Result<()> {
        replace(&self.node(number)?.store, copy).await
    }
}

/// Replaces a folder by a copy of another one.
async fn replace(folder: &Path, by: &Path) -> anyhow::Result<()> {
    let _ = tokio::fs::remove_dir_all(folder).await;
    let copied = Command::new("cp").arg("-a").arg(by).arg(folder).status().await?;
    ensure!(copied.success(), "cp -a {} {}", by.display(), folder.display());
    Ok(())
}

async fn ask(port: u16, action: &str) -> anyhow::Result<String> {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).await?;
    let lines = format!(
        "CONNECT {{\"verbose\":false}}\r\nSUB answer 1\r\nPUB $JS.API.{action} answer 0\r\n\r\n"
    );
    socket.write_all(lines.as_bytes()).await?;
    let mut reader = BufReader::new(socket);
    loop {
        let mut line = String::new();
        ensure!(reader.read_line(&mut line).await? > 0, "NATS closed the connection");
        if let Some(length) = line.strip_prefix("MSG answer 1 ") {
            let mut answer = vec![0; length.trim().parse()?];
            reader.read_exact(&mut answer).await?;
            return Ok(String::from_utf8(answer)?);
        }
    }
}

/// All at once, so that they differ.
fn free_ports(count: usize) -> anyhow::Result<Vec<u16>> {
    let free = |_| TcpListener::bind(("127.0.0.1", 0));
    let listeners: Vec<_> = (0..count).map(free).collect::<Result<_, _>>()?;
    listeners.iter().map(|listener| Ok(listener.local_addr()?.port())).collect()
}
