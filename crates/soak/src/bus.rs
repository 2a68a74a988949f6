//! The bus under test: three nodes of NATS with the stream, and three capture nodes.

mod events;
mod health;
mod nats;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context;
use serde_json::Value;
use tokio::{process::Command, sync::Mutex};

pub(crate) use self::events::{Event, Events};
use self::nats::{Nats, PutBack};
use crate::{
    plan::{Fault, Planned},
    server::{Server, program},
};

const CAPTURES: usize = 3;
/// Three nodes of NATS elect the leaders of their groups within this time.
const STREAM_WITHIN: Duration = Duration::from_secs(60);
const TRY_AGAIN: Duration = Duration::from_millis(200);
const STREAM: &str = "DATASTREAM";
/// JetStream's error for a stream that does not exist.
const STREAM_NOT_FOUND: u64 = 10059;

/// NATS and the captures.
#[derive(Debug)]
pub(crate) struct Bus {
    nats: Nats,
    captures: Vec<Mutex<Server>>,
    pub(crate) events: Events,
    database: String,
    log: PathBuf,
}

impl Bus {
    /// Starts NATS, makes the stream, and starts the captures.
    pub(crate) async fn start(database: &str, folder: &Path, log: &Path) -> anyhow::Result<Self> {
        let (nats, database, log) =
            (Nats::start(folder).await?, database.to_owned(), log.to_owned());
        let (captures, events) = (Vec::new(), Events::default());
        let mut bus = Self { nats, captures, events, database, log };
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
                return self.fail_capture(fault, hold, node).await;
            }
            Fault::NatsPause => self.nats.pause(self.victim(node).await, hold).await?,
            Fault::NatsPair => {
                let first = self.victim(node).await;
                self.nats.down(&[first, first + 1], hold).await?;
            }
            Fault::NatsBack => self.nats.put_back(self.victim(node).await, hold).await?,
            Fault::NatsBackPair => self.put_back_two(node, hold).await?,
            Fault::StreamDelete => self.delete_stream(hold).await?,
            _ => self.nats.down(&[self.victim(node).await], hold).await?,
        }
        self.recover().await
    }

    /// Every other time the node that leads the stream.
    async fn victim(&self, drawn: usize) -> usize {
        let leader = if drawn.is_multiple_of(2) { self.nats.leader(STREAM).await } else { None };
        leader.unwrap_or(drawn)
    }

    async fn put_back_two(&self, first: usize, age: Duration) -> anyhow::Result<()> {
        if self.nats.put_back_two(first, age, STREAM).await? == PutBack::NotElected {
            self.events.note(Event::NotElected, format_args!("stores of {age:?} ago"));
        }
        Ok(())
    }

    /// Waits until NATS is well, so that the next fault does not meet a cluster that is none. If it
    /// does not get well by itself, does what docs/scale-out.md tells an operator to do.
    async fn recover(&self) -> anyhow::Result<()> {
        let Err(illness) = self.nats.get_well(STREAM).await else { return Ok(()) };
        if let Some(node) = illness.of_one_node() {
            self.events.note(Event::NodeEmptied, &illness);
            self.nats.start_empty(node).await?;
            if self.nats.get_well(STREAM).await.is_ok() {
                return Ok(());
            }
        }
        self.events.note(Event::AllEmptied, &illness);
        self.nats.start_all_empty().await?;
        self.create_stream().await?;
        let well = self.nats.get_well(STREAM).await;
        well.map_err(|illness| anyhow::anyhow!("NATS did not get well: {illness}"))
    }

    async fn fail_capture(&self, fault: Fault, hold: Duration, drawn: usize) -> anyhow::Result<()> {
        let number = drawn % CAPTURES;
        let mut capture = self.captures.get(number).context("a capture")?.lock().await;
        match (capture.lacks_stream()?, fault) {
            (true, _) => self.events.note(Event::StartedAgain, format_args!("capture {number}")),
            (false, Fault::CapturePause) => return capture.pause(hold).await,
            (false, Fault::CaptureStop) => capture.stop().await?,
            (false, _) => capture.kill().await?,
        }
        tokio::time::sleep(hold).await;
        *capture = self.start_capture(number).await?;
        Ok(())
    }

    /// Starts captures again that have ended since NATS had no stream, as an orchestrator does.
    pub(crate) async fn revive(&self) -> anyhow::Result<()> {
        for (number, capture) in self.captures.iter().enumerate() {
            let mut capture = capture.lock().await;
            if capture.lacks_stream()? {
                self.events.note(Event::StartedAgain, format_args!("capture {number}"));
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

    /// Deletes the stream and makes it again.
    async fn delete_stream(&self, hold: Duration) -> anyhow::Result<()> {
        let delete = async {
            while !self.has_deleted().await {
                tokio::time::sleep(TRY_AGAIN).await;
            }
        };
        let deleted = tokio::time::timeout(STREAM_WITHIN, delete).await;
        deleted.context("the stream was not deleted within a minute")?;
        tokio::time::sleep(hold).await;
        self.create_stream().await
    }

    /// Whether the stream is deleted now, by this request or by one that got no answer.
    async fn has_deleted(&self) -> bool {
        let answer = self.nats.ask(&format!("STREAM.DELETE.{STREAM}")).await.unwrap_or_default();
        let code = answer.pointer("/error/err_code").and_then(Value::as_u64);
        let succeeded = answer.get("success").and_then(Value::as_bool);
        succeeded == Some(true) || code == Some(STREAM_NOT_FOUND)
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
