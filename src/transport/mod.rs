//! One client's stream, from its opening to its close, on each transport.
//!
//! `http` decides who may subscribe to what and opens the subscription; what it hands over is a
//! [`Session`], and from then on only this module speaks to the client. The rules are the same on
//! every transport:
//!
//! * T1. Each transport is one loop with one select, its arms in the order shutdown, peer,
//!   heartbeat, delivery.
//! * T2. All rounds that wait go out in one write; there is no timer that collects them.
//! * T3. Nobody is waited for: a peer that falls behind what memory holds, or whose socket takes
//!   nothing for two heartbeats ([`link`]), is let go with the advice to resume.
//! * T4. However a session ends, it is counted once, with its reason ([`Record`]).

pub mod certificate;
pub mod close;
pub mod link;
pub mod sse;
pub mod ws;
pub mod wt;

use std::time::Duration;

use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, Interval, MissedTickBehavior, interval_at},
};

use crate::{
    hub::{Opening, Subscription},
    shutdown::Shutdown,
    telemetry::metrics::{ByClosed, ByTransport, Metrics, Transport},
};
use close::CloseReason;
use link::LinkHandle;

/// Rounds that wait are joined up to this size per write: large enough to spare system calls (a
/// hundred rounds), small enough that an idle connection keeps no large buffer.
const BATCH: usize = 16 * 1024;

/// All that a transport needs to stream to one client.
#[derive(Debug)]
pub struct Session {
    /// What the stream starts with.
    pub opening: Opening,
    /// What follows.
    pub subscription: Subscription,
    /// The time between two pings or heartbeat comments.
    pub heartbeat: Duration,
    /// Says when to say goodbye.
    pub shutdown: Shutdown,
    /// The session in the books.
    pub record: Record,
}

/// A session's entry in the metrics and its place among the open streams: made when the stream is
/// opened, settled when it is dropped, whoever drops it.
#[derive(Debug)]
pub struct Record {
    metrics: Metrics,
    transport: Transport,
    shutdown: Shutdown,
    link: LinkHandle,
    reason: Option<CloseReason>,
    _place: OwnedSemaphorePermit,
}

impl Record {
    /// Opens the entry. `place` is given back when the session is over.
    pub fn open(
        metrics: &Metrics,
        transport: Transport,
        shutdown: &Shutdown,
        link: LinkHandle,
        place: OwnedSemaphorePermit,
    ) -> Self {
        metrics.subscribers.get_or_create(&ByTransport { transport }).inc();
        Self {
            metrics: metrics.clone(),
            transport,
            shutdown: shutdown.clone(),
            link,
            reason: None,
            _place: place,
        }
    }

    /// Notes why the session ends; the first word counts.
    fn close(&mut self, reason: CloseReason) {
        self.reason.get_or_insert(reason);
    }

    /// Counts rounds handed to the socket.
    fn written(&self, rounds: usize) {
        let label = ByTransport { transport: self.transport };
        self.metrics.rounds_written_total.get_or_create(&label).inc_by(rounds as u64);
    }

    /// The reason for an end that nobody announced: the connection was dropped from outside.
    fn unannounced(&self) -> CloseReason {
        if self.link.is_stalled() {
            CloseReason::TooSlow
        } else if self.shutdown.is_requested() {
            CloseReason::ShuttingDown
        } else {
            CloseReason::Client
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let transport = self.transport;
        let reason = self.reason.unwrap_or_else(|| self.unannounced()).label();
        self.metrics.subscribers.get_or_create(&ByTransport { transport }).dec();
        self.metrics.sessions_closed_total.get_or_create(&ByClosed { transport, reason }).inc();
    }
}

/// Beats every `heartbeat`, the first one a heartbeat from now; late beats are not made up for.
fn beats(heartbeat: Duration) -> Interval {
    let mut beats = interval_at(Instant::now() + heartbeat, heartbeat);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    beats
}
