//! The metrics of a shard. Their handles are looked up once, because they count millions of rounds.

use std::time::Duration;

use prometheus_client::metrics::{counter::Counter, gauge::Gauge};

use super::protocol::Protocol;
use crate::{
    ops::telemetry::metrics::{ByClosed, ByTransport, Metrics, Transport},
    transport::close::CloseReason,
};

/// The counters of one transport.
#[derive(Debug)]
struct TransportCounters {
    subscribers: Gauge,
    written: Counter,
}

#[derive(Debug)]
pub(super) struct ShardMetrics {
    web_socket: TransportCounters,
    events: TransportCounters,
    metrics: Metrics,
}

impl ShardMetrics {
    pub(super) fn new(metrics: &Metrics) -> Self {
        let counters = |transport| {
            let label = ByTransport { transport };
            let subscribers = metrics.subscribers.get_or_create_owned(&label);
            let written = metrics.rounds_written_total.get_or_create_owned(&label);
            TransportCounters { subscribers, written }
        };
        let (web_socket, events) = (counters(Transport::websocket), counters(Transport::sse));
        Self { web_socket, events, metrics: metrics.clone() }
    }

    fn counters(&self, protocol: Protocol) -> &TransportCounters {
        match protocol.transport() {
            Transport::websocket => &self.web_socket,
            // WebTransport has no shard; listed so that a new transport is noticed here.
            Transport::sse | Transport::webtransport => &self.events,
        }
    }

    pub(super) fn opened(&self, protocol: Protocol) {
        self.counters(protocol).subscribers.inc();
    }

    pub(super) fn closed(&self, protocol: Protocol, reason: CloseReason) {
        self.counters(protocol).subscribers.dec();
        let label = ByClosed { transport: protocol.transport(), reason: reason.label() };
        self.metrics.sessions_closed_total.get_or_create(&label).inc();
    }

    /// Counts rounds that the kernel accepted.
    pub(super) fn written(&self, protocol: Protocol, rounds: u64) {
        if rounds > 0 {
            self.counters(protocol).written.inc_by(rounds);
        }
    }

    /// Notes the time from a round's commit until this shard sent it to all subscribers. Called
    /// once per batch, because a histogram takes a lock.
    pub(super) fn reached_all(&self, taken: Duration) {
        self.metrics.commit_to_write_seconds.observe(taken.as_secs_f64());
    }
}
