//! The clients' streams on each transport, from opening to close.
//!
//! `http` decides on each request and hands over a [`GrantedStream`]: a socket, a response head and
//! a prepared subscription. From then on only this module writes to the client. WebSocket and event
//! streams share one write path, the [`shard`]. WebTransport ([`wt`]) gets a [`GrantedSession`]
//! instead, because its library owns the socket.
//!
//! To add a transport: docs/architecture.md, "Add a transport", lists all places.

mod certificate;
pub mod close;
pub mod frame_reader;
pub mod frame_writer;
pub(crate) mod metered_socket;
pub(crate) mod read_pace;
mod shard;
mod shards;
#[cfg(test)]
mod test_socket;
pub(crate) mod tls;
pub(crate) mod wt;

use std::{any::Any, time::Duration};

use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use crate::{
    access::Lease,
    ops::{
        memory_budget::{Charge, ClientMemory},
        shutdown::Shutdown,
        telemetry::metrics::{ByClosed, ByTransport, Metrics, Transport},
    },
    stream::{
        hub::{Opening, Subscription},
        replay::{ReplayError, StoredReader},
    },
};
use close::CloseReason;

pub(crate) use self::{
    shard::{GrantedStream, Permits, Protocol, ShardSettings, retry_line},
    shards::{ShardError, Shards},
};

/// Rounds of a replay are joined into writes of this size. It holds a hundred rounds, which saves
/// system calls, and is small enough for the buffer of one session.
const BATCH_BYTES: usize = 16 * 1024;

/// A WebTransport session that `http` granted, with its stream opened.
#[derive(Debug)]
pub(crate) struct GrantedSession {
    /// The first rounds of the stream.
    pub opening: Opening,
    /// Rounds that only the database has, which come before those of the opening.
    pub stored: Option<StoredReader>,
    /// The rounds that follow.
    pub subscription: Subscription,
    /// The session in the metrics.
    pub record: SessionRecord,
    /// How long the request's token opens the session.
    pub lease: Lease,
    /// The bytes of the opening that the library holds until the client has acknowledged them.
    pub opening_memory: Charge,
    /// The memory for large rounds.
    pub memory: ClientMemory,
}

/// A session in the metrics, with its permit. It counts the session as open until it is dropped,
/// and then counts the close with its reason.
#[derive(Debug)]
pub(crate) struct SessionRecord {
    metrics: Metrics,
    transport: Transport,
    shutdown: Shutdown,
    reason: Option<CloseReason>,
    _permit: Permits,
}

impl SessionRecord {
    /// Counts a session as open. The permit is released when the session ends.
    pub(crate) fn open(
        metrics: &Metrics,
        transport: Transport,
        shutdown: &Shutdown,
        permit: impl Any + Send + Sync,
    ) -> Self {
        metrics.subscribers.get_or_create(&ByTransport { transport }).inc();
        let (metrics, shutdown) = (metrics.clone(), shutdown.clone());
        Self { metrics, transport, shutdown, reason: None, _permit: Box::new(permit) }
    }

    /// Notes why the session ends; the first reason counts.
    fn close(&mut self, reason: CloseReason) {
        self.reason.get_or_insert(reason);
    }

    /// Counts rounds handed to the library.
    fn written(&self, rounds: usize) {
        let label = ByTransport { transport: self.transport };
        self.metrics.rounds_written_total.get_or_create(&label).inc_by(rounds as u64);
    }

    /// The reason if none was noted: the connection was dropped from outside.
    fn default_reason(&self) -> CloseReason {
        if self.shutdown.is_requested() { CloseReason::ShuttingDown } else { CloseReason::Client }
    }
}

impl Drop for SessionRecord {
    fn drop(&mut self) {
        let transport = self.transport;
        let reason = self.reason.unwrap_or_else(|| self.default_reason()).label();
        self.metrics.subscribers.get_or_create(&ByTransport { transport }).dec();
        self.metrics.sessions_closed_total.get_or_create(&ByClosed { transport, reason }).inc();
    }
}

/// Why a stream ends whose replay failed.
fn replay_end(error: &ReplayError) -> CloseReason {
    tracing::debug!(%error, "a replay ended early");
    match error {
        ReplayError::Behind
        | ReplayError::Database(_)
        | ReplayError::Replaced
        | ReplayError::Ahead(_) => CloseReason::Failed,
        // 1013: the client shall come back later, and resume.
        ReplayError::NoMemory(_) | ReplayError::TooManyWaiting(_) => CloseReason::TooSlow,
    }
}

/// Ticks every `heartbeat`, first after one `heartbeat`. A late tick delays those after it.
fn heartbeats(heartbeat: Duration) -> Interval {
    let mut heartbeats = interval_at(Instant::now() + heartbeat, heartbeat);
    heartbeats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    heartbeats
}
