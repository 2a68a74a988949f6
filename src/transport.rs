//! The streams of clients, from their opening to their close, on each transport.
//!
//! `http` decides who may subscribe to what; what it hands over is an [`GrantedStream`], a socket with
//! the head of its response and a prepared subscription, and from then on only this module writes
//! to the client. WebSocket and event streams share one write path, the [`shard`]. WebTransport
//! ([`wt`]) gets a [`GrantedSession`] instead: there the library owns the socket.

pub mod close;
pub mod frame_reader;
pub mod frame_writer;
pub(crate) mod metered_socket;
mod shard;
mod shards;
pub(crate) mod wt;

use std::time::Duration;

use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use crate::{
    ops::{
        connection_limiter::Permit,
        shutdown::Shutdown,
        telemetry::metrics::{ByClosed, ByTransport, Metrics, Transport},
    },
    stream::hub::{Opening, Subscription},
};
use close::CloseReason;

pub(crate) use self::{
    shard::{GrantedStream, Protocol, RETRY, ShardSettings},
    shards::{ShardError, Shards},
};

/// Rounds that wait are joined up to this size per write: large enough to spare system calls (a
/// hundred rounds), small enough that an idle session keeps no large buffer.
const BATCH_BYTES: usize = 16 * 1024;

/// All that WebTransport needs to stream to one client.
#[derive(Debug)]
pub(crate) struct GrantedSession {
    /// What the stream starts with.
    pub opening: Opening,
    /// What follows.
    pub subscription: Subscription,
    /// The session in the books.
    pub record: SessionRecord,
}

/// A session's entry in the metrics and its place among the open streams: made when the stream is
/// opened, settled when it is dropped, whoever drops it.
#[derive(Debug)]
pub(crate) struct SessionRecord {
    metrics: Metrics,
    transport: Transport,
    shutdown: Shutdown,
    reason: Option<CloseReason>,
    _permit: Permit,
}

impl SessionRecord {
    /// Opens the entry. `place` is given back when the session is over.
    pub(crate) fn open(
        metrics: &Metrics,
        transport: Transport,
        shutdown: &Shutdown,
        permit: Permit,
    ) -> Self {
        metrics.subscribers.get_or_create(&ByTransport { transport }).inc();
        let (metrics, shutdown) = (metrics.clone(), shutdown.clone());
        Self { metrics, transport, shutdown, reason: None, _permit: permit }
    }

    /// Notes why the session ends; the first word counts.
    fn close(&mut self, reason: CloseReason) {
        self.reason.get_or_insert(reason);
    }

    /// Counts rounds handed to the library.
    fn written(&self, rounds: usize) {
        let label = ByTransport { transport: self.transport };
        self.metrics.rounds_written_total.get_or_create(&label).inc_by(rounds as u64);
    }

    /// The reason for an end that nobody announced: the connection was dropped from outside.
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

/// Beats every `heartbeat`, the first one a heartbeat from now; late beats are not made up for.
fn heartbeats(heartbeat: Duration) -> Interval {
    let mut heartbeats = interval_at(Instant::now() + heartbeat, heartbeat);
    heartbeats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    heartbeats
}
