//! The subscriber that must not notice the attack.

use std::time::{Duration, Instant};

use anyhow::anyhow;
use testkit::{TestDatabase, WsClient, wait::beside};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{MissedTickBehavior, interval, timeout},
};

use crate::target::{OTHER_GAME, Target};

/// Between two rounds.
const PACE: Duration = Duration::from_millis(50);
/// How late the last round may be before it counts as lost.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the subscriber received.
#[derive(Debug, Default)]
pub(crate) struct Rounds {
    /// Milliseconds that each insert took, until its commit was confirmed; sorted.
    pub(crate) inserts: Vec<f64>,
    /// Milliseconds from before each insert until the round arrived, sorted.
    pub(crate) delays: Vec<f64>,
}

pub(crate) struct Steady {
    stop: watch::Sender<bool>,
    writer: JoinHandle<Vec<f64>>,
    reader: JoinHandle<Vec<f64>>,
}

impl Steady {
    pub(crate) async fn start(target: &Target) -> anyhow::Result<Self> {
        let client = target.web_socket(&format!("/ws/{OTHER_GAME}?seed=none")).await;
        let client = client.map_err(|status| anyhow!("a WebSocket was refused: {status}"))?;
        let (stop, stopped) = watch::channel(false);
        let (sent, inserted) = tokio::sync::mpsc::unbounded_channel();
        let start = Instant::now();
        let writer = beside(write(target.database.clone(), stopped, sent, start));
        let reader = beside(read(client, inserted, start));
        Ok(Self { stop, writer, reader })
    }

    /// Stops writing, and waits for the rounds that are on their way.
    pub(crate) async fn stop(self) -> Rounds {
        self.stop.send_replace(true);
        let mut inserts = self.writer.await.unwrap_or_default();
        let mut delays = self.reader.await.unwrap_or_default();
        inserts.sort_by(f64::total_cmp);
        delays.sort_by(f64::total_cmp);
        Rounds { inserts, delays }
    }
}

/// Inserts rounds that say when they were inserted.
async fn write(
    database: TestDatabase,
    stopped: watch::Receiver<bool>,
    inserted: tokio::sync::mpsc::UnboundedSender<()>,
    start: Instant,
) -> Vec<f64> {
    let mut ticks = interval(PACE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut inserts = Vec::new();
    while !*stopped.borrow() {
        ticks.tick().await;
        let sent = start.elapsed();
        let extras = format!(r#"{{"sent": {}}}"#, sent.as_micros());
        database.finish(OTHER_GAME, &extras).await;
        inserts.push((start.elapsed() - sent).as_secs_f64() * 1000.0);
        let _ = inserted.send(());
    }
    inserts
}

/// Receives as many rounds as were inserted.
async fn read(
    mut client: WsClient,
    mut inserted: tokio::sync::mpsc::UnboundedReceiver<()>,
    start: Instant,
) -> Vec<f64> {
    let mut delays = Vec::new();
    while inserted.recv().await.is_some() {
        let Ok(round) = timeout(PATIENCE, client.next_round()).await else { break };
        let extras: serde_json::Value = serde_json::from_str(&round.extras).unwrap_or_default();
        let sent = extras["sent"].as_f64().unwrap_or_default();
        delays.push((start.elapsed().as_micros() as f64 - sent) / 1000.0);
    }
    delays
}
