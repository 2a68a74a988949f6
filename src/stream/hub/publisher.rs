//! The publisher: the one writer to the hub.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use super::{
    Captured, DurablePosition, Hub, Position, Shared, history_hold::HistoryHold,
    recent_rounds::Encoded,
};
use crate::{
    ops::telemetry::metrics::MemoryUse,
    stream::{frame::Frame, round::Round, transaction::Xid},
};

/// The longest wait for the shards between two parts of a large transaction. A client that reads
/// too slowly makes a shard fall behind, and must not stop the others.
const OUTLETS_WITHIN: Duration = Duration::from_millis(500);
/// The time between two looks at the shards.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// The one writer to the hub.
#[derive(Debug)]
pub struct Publisher(pub(super) Hub);

impl Publisher {
    pub(super) fn new(hub: Hub) -> Self {
        Self(hub)
    }

    /// Fills the ring buffers before the first subscription: with the outbox's `recent` rounds in
    /// the order of their transactions, and the `latest` round of each game. Retention has deleted
    /// outbox rows up to the transaction `trimmed`.
    pub fn preload(&self, recent: Vec<Captured>, latest: Vec<Round>, trimmed: Xid) {
        let recent = recent.into_iter().map(|captured| self.encode(captured)).collect();
        let latest = latest.into_iter().map(|round| self.encode(Captured::from_table(round)));
        let latest = latest.collect();
        self.0.recent().preload(recent, latest, trimmed);
    }

    /// Forgets what an earlier load has added, if it was broken off: a round must not be there twice.
    pub(crate) fn begin_load(&self) {
        if self.position() > Position(0) {
            self.forget_all();
        }
    }

    /// Adds latest rounds of games that are not among the recent ones, before [`Self::preload`]: as
    /// many at a time as the caller holds.
    pub(crate) fn preload_latest(&self, latest: Vec<Round>) {
        let latest = latest.into_iter().map(|round| self.encode(Captured::from_table(round)));
        let latest = latest.collect();
        self.0.recent().preload_latest(latest);
    }

    /// The hub.
    pub fn hub(&self) -> &Hub {
        &self.0
    }

    /// Forgets all rounds, and closes the hub until the next [`Self::open`]. Streams stay open.
    pub fn forget_all(&self) {
        self.0.0.open.send_replace(false);
        self.0.recent().forget_all();
        self.0.0.generation.fetch_add(1, Ordering::Relaxed);
    }

    /// Closes every stream with 1001: this server cannot go on with them, and another one may.
    pub(crate) fn end_streams(&self) {
        self.0.recent().end_streams();
    }

    /// Keeps new streams out until the next [`Self::open`].
    pub(crate) fn close(&self) {
        self.0.0.open.send_replace(false);
    }

    /// Opens the hub to subscribers.
    pub fn open(&self) {
        self.0.0.open.send_replace(true);
    }

    /// Assigns the rounds positions, in this order, and sends them to subscribers.
    pub fn publish(&self, rounds: Vec<Captured>) {
        if rounds.is_empty() {
            return;
        }
        let encoded = rounds.into_iter().map(|captured| self.encode(captured)).collect();
        self.0.recent().append(encoded);
    }

    /// The position of the last published round.
    pub fn position(&self) -> Position {
        self.0.recent().head()
    }

    /// Sets the position up to which published rounds survive a crash of the database.
    pub fn set_durable_position(&self, durable: DurablePosition) {
        self.0.recent().set_durable_position(durable);
    }

    /// Sets whether other nodes may stream the database (I5).
    pub fn share(&self, shared: bool) {
        self.0.recent().share(shared);
    }

    /// Waits while a shard or a subscription has more rounds than it should: the publisher of a large
    /// transaction calls this between two parts of it.
    pub(crate) async fn wait_for_outlets(&self) {
        let begun = Instant::now();
        while self.0.recent().has_outlet_behind() && begun.elapsed() < OUTLETS_WITHIN {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// The most bytes of rounds that the hub keeps.
    pub(crate) fn history_share(&self) -> usize {
        self.0.0.budget.share(MemoryUse::history)
    }

    /// Encodes a round, and frees its extras.
    fn encode(&self, mut captured: Captured) -> Encoded {
        let Shared { budget, metrics, .. } = &*self.0.0;
        metrics.frames_encoded_total.inc();
        let (frame, counted) = Frame::encode_counted(&captured.round, budget);
        captured.round.extras = Box::default();
        Encoded { captured, frame, hold: Arc::new(HistoryHold::new(counted)) }
    }
}
