//! Three nodes of NATS, and what happens to them.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, ensure};
use futures_util::future::try_join_all;
use testkit::{cluster::free_port, nats};
use tokio::{process::Command, sync::Mutex};

use crate::process::Process;

const NODES: usize = 3;
/// A node answers in milliseconds, unless no node leads.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// An election takes up to 9 s; nodes that start take longer.
const LEADER_WITHIN: Duration = Duration::from_secs(60);
const TRY_AGAIN: Duration = Duration::from_millis(200);

/// A node: how it starts, its port for `/healthz`, and its process.
#[derive(Debug)]
struct Member {
    node: nats::Node,
    monitor: u16,
    process: Mutex<Option<Process>>,
}

/// The nodes.
#[derive(Debug)]
pub(super) struct Nats {
    members: Vec<Member>,
}

/// What two nodes did whose stores were put back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PutBack {
    /// They elected a leader of the stream without the third one.
    Elected,
    /// They did not in time, and the third one was started.
    NotElected,
}

impl Nats {
    /// Starts the nodes, each with its store in the folder.
    pub(super) async fn start(folder: &Path) -> anyhow::Result<Self> {
        let routes: Vec<u16> = std::iter::repeat_with(free_port).take(NODES).collect();
        let arguments = nats::cluster_arguments("node-", &routes).into_iter().enumerate();
        let members = arguments.map(|(number, more)| member(folder, number, more)).collect();
        let nats = Self { members };
        for number in 0..NODES {
            nats.run(number).await?;
        }
        Ok(nats)
    }

    pub(super) fn ports(&self) -> Vec<u16> {
        self.members.iter().map(|member| member.node.port).collect()
    }

    /// The addresses of `/healthz`, in the order of the nodes.
    pub(super) fn health_urls(&self) -> Vec<String> {
        let url = |member: &Member| format!("http://127.0.0.1:{}/healthz", member.monitor);
        self.members.iter().map(url).collect()
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
    pub(super) async fn put_back_two(
        &self,
        first: usize,
        age: Duration,
        stream: &str,
    ) -> anyhow::Result<PutBack> {
        let [first, second, third] = [first, first + 1, first + 2];
        let copies =
            tokio::try_join!(self.copy_store(first), self.copy_store(second)).context("copy")?;
        tokio::time::sleep(age).await;
        try_join_all([first, second, third].map(|number| self.kill(number))).await?;
        tokio::try_join!(self.restore(first, &copies.0), self.restore(second, &copies.1))?;
        self.run(first).await?;
        self.run(second).await?;
        let elected = async {
            while self.leader(stream).await.is_none() {
                tokio::time::sleep(TRY_AGAIN).await;
            }
        };
        let elected = tokio::time::timeout(LEADER_WITHIN, elected).await;
        if elected.is_ok() {
            tokio::time::sleep(age).await;
        }
        self.run(third).await?;
        Ok(if elected.is_ok() { PutBack::Elected } else { PutBack::NotElected })
    }

    /// Starts a node without its store: it gets everything from the others.
    pub(super) async fn start_empty(&self, number: usize) -> anyhow::Result<()> {
        self.kill(number).await?;
        remove(&self.member(number)?.node.store).await?;
        self.run(number).await
    }

    /// Starts all nodes without their stores.
    pub(super) async fn start_all_empty(&self) -> anyhow::Result<()> {
        try_join_all((0..NODES).map(|number| self.kill(number))).await?;
        try_join_all((0..NODES).map(|number| self.start_empty(number))).await.map(drop)
    }

    /// The node that leads a stream, if one does.
    pub(super) async fn leader(&self, stream: &str) -> Option<usize> {
        let info = self.ask(&format!("STREAM.INFO.{stream}")).await.ok()?;
        node_number(info.pointer("/cluster/leader")?.as_str()?)
    }

    /// Asks JetStream's API, of the first node that answers.
    pub(super) async fn ask(&self, action: &str) -> anyhow::Result<serde_json::Value> {
        for port in self.ports() {
            let action = action.to_owned();
            let ask = move || nats::ask(port, &action, "", ANSWER_WITHIN);
            if let Ok(answer) = tokio::task::spawn_blocking(ask).await? {
                return Ok(serde_json::from_str(&answer)?);
            }
        }
        anyhow::bail!("no node of NATS answers {action}")
    }

    fn member(&self, number: usize) -> anyhow::Result<&Member> {
        self.members.get(number % NODES).context("a node")
    }

    async fn run(&self, number: usize) -> anyhow::Result<()> {
        let Member { node, process, .. } = self.member(number)?;
        *process.lock().await = Some(Process::spawn(&mut Command::from(node.command()))?);
        Ok(())
    }

    async fn kill(&self, number: usize) -> anyhow::Result<()> {
        match self.member(number)?.process.lock().await.take() {
            Some(mut process) => process.kill().await,
            None => Ok(()),
        }
    }

    async fn signal(&self, number: usize, name: &str) -> anyhow::Result<()> {
        let process = self.member(number)?.process.lock().await;
        process.as_ref().context("a node that runs")?.signal(name).await
    }

    /// Copies a store as a crash at this moment would leave it.
    async fn copy_store(&self, number: usize) -> anyhow::Result<PathBuf> {
        let store = &self.member(number)?.node.store;
        let copy = store.with_extension("copy");
        self.signal(number, "STOP").await?;
        let copied = replace(&copy, store).await;
        self.signal(number, "CONT").await?;
        copied.map(|()| copy)
    }

    async fn restore(&self, number: usize, copy: &Path) -> anyhow::Result<()> {
        replace(&self.member(number)?.node.store, copy).await
    }
}

fn member(folder: &Path, number: usize, mut more: Vec<String>) -> Member {
    let (store, log) =
        (folder.join(format!("nats-{number}")), folder.join(format!("nats-{number}.log")));
    let monitor = free_port();
    // Clients must not go around their proxies.
    more.extend(["--no_advertise=true", "-l"].map(str::to_owned));
    more.extend([log.display().to_string(), "-m".to_owned(), monitor.to_string()]);
    let node = nats::Node { port: free_port(), store, more };
    Member { node, monitor, process: Mutex::default() }
}

/// The number in a node's name.
pub(super) fn node_number(name: &str) -> Option<usize> {
    name.strip_prefix("node-")?.parse().ok()
}

/// Replaces a folder by a copy of another one.
async fn replace(folder: &Path, by: &Path) -> anyhow::Result<()> {
    remove(folder).await?;
    let copied = Command::new("cp").arg("-a").arg(by).arg(folder).status().await?;
    ensure!(copied.success(), "cp -a {} {}", by.display(), folder.display());
    Ok(())
}

/// Removes a folder, if there is one.
async fn remove(folder: &Path) -> anyhow::Result<()> {
    match tokio::fs::remove_dir_all(folder).await {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}
