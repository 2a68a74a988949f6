//! The bus under test: three nodes of NATS with the stream, and three capture nodes.

mod nats;

use std::{path::Path, time::Duration};

use anyhow::Context;
use tokio::{process::Command, sync::Mutex};

use self::nats::Nats;
use crate::{
    plan::{Fault, Planned},
    server::{Server, program},
};

const CAPTURES: usize = 3;
/// Three nodes of NATS elect the leaders of their groups within this time.
const STREAM_WITHIN: Duration = Duration::from_secs(60);
const TRY_AGAIN: Duration = Duration::from_millis(200);
const STREAM: &str = "DATASTREAM";

/// NATS and the captures.
#[derive(Debug)]
pub(crate) struct Bus {
    nats: Nats,
    captures: Vec<Mutex<Server>>,
    database: String,
    log: std::path::PathBuf,
}

impl Bus {
    /// Starts NATS, makes the stream, and starts the captures.
    pub(crate) async fn start(database: &str, folder: &Path, log: &Path) -> anyhow::Result<Self> {
        let nats = Nats::start(folder).await?;
        let mut bus =
            Self { nats, captures: Vec::new(), database: database.to_owned(), log: log.to_owned() };
        bus.create_stream().await?;
        for number in 0..CAPTURES {
            bus.captures.push(Mutex::new(bus.start_capture(number).await?));
        }
        Ok(bus)
    }

    /// The ports of the nodes.
    pub(crate) fn ports(&self) -> Vec<u16> {
        self.nats.ports()
    }

    /// The addresses of the captures, for their metrics. Without those that are being replaced.
    pub(crate) fn captures(&self) -> Vec<std::net::SocketAddr> {
        self.captures.iter().filter_map(|it| Some(it.try_lock().ok()?.addr)).collect()
    }

    /// One fault, from its begin to its end.
    pub(crate) async fn fail(&self, planned: Planned) -> anyhow::Result<()> {
        let Planned { fault, hold, node, .. } = planned;
        match fault {
            Fault::CaptureKill | Fault::CaptureStop | Fault::CapturePause => {
                self.fail_capture(fault, hold, node).await
            }
            Fault::NatsPause => self.nats.pause(self.victim(node).await, hold).await,
            Fault::NatsPair => {
                let first = self.victim(node).await;
                self.nats.down(&[first, first + 1], hold).await
            }
            Fault::NatsBack => self.nats.put_back(self.victim(node).await, hold).await,
            Fault::NatsBackPair => self.nats.put_back_two(node, hold).await,
            Fault::StreamDelete => self.delete_stream(hold).await,
            _ => self.nats.down(&[self.victim(node).await], hold).await,
        }
    }

    /// Every other time the node that leads the stream.
    async fn victim(&self, drawn: usize) -> usize {
        let leader = if drawn.is_multiple_of(2) { self.nats.leader(STREAM).await } else { None };
        leader.unwrap_or(drawn)
    }

    async fn fail_capture(&self, fault: Fault, hold: Duration, drawn: usize) -> anyhow::Result<()> {
        let number = drawn % CAPTURES;
        let mut capture = self.captures.get(number).context("a capture")?.lock().await;
        match fault {
            Fault::CapturePause => return capture.pause(hold).await,
            _ if capture.has_failed()? => {}
            Fault::CaptureStop => capture.stop().await?,
            _ => capture.kill().await?,
        }
        tokio::time::sleep(hold).await;
        *capture = self.start_capture(number).await?;
        Ok(())
    }

    /// Starts captures again that have ended with an error, as an orchestrator does.
    pub(crate) async fn revive(&self) -> anyhow::Result<()> {
        for (number, capture) in self.captures.iter().enumerate() {
            let mut capture = capture.lock().await;
            if capture.has_failed()? {
                *capture = self.start_capture(number).await?;
            }
        }
        Ok(())
    }

    async fn start_capture(&self, number: usize) -> anyhow::Result<Server> {
        let mut command = program("capture")?;
        command.env("DATABASE_URL", &self.database).env("DATASTREAM_BUS", self.nats.url());
        command.env("DATASTREAM_NODE", format!("capture-{}", number + 1));
        Server::start(&mut command, &self.log).await
    }

    async fn delete_stream(&self, hold: Duration) -> anyhow::Result<()> {
        self.nats.ask(&format!("STREAM.DELETE.{STREAM}")).await?;
        tokio::time::sleep(hold).await;
        self.create_stream().await
    }

    /// Makes the stream, as an operator does.
    async fn create_stream(&self) -> anyhow::Result<()> {
        let create = async {
            loop {
                let made = self.create_command()?.output().await?;
                if made.status.success() {
                    return Ok(());
                }
                tokio::time::sleep(TRY_AGAIN).await;
            }
        };
        tokio::time::timeout(STREAM_WITHIN, create).await.context("no stream within a minute")?
    }

    fn create_command(&self) -> anyhow::Result<Command> {
        let mut command = program("bus")?;
        command.args(["create", "--replicas", "3"]).env("DATASTREAM_BUS", self.nats.url());
        Ok(command)
    }

    /// Stops the captures.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        for capture in self.captures {
            capture.into_inner().stop().await?;
        }
        Ok(())
    }
}
