//! What a shard counts, with the handles looked up once: it is counted for millions.

use std::time::Duration;

use prometheus_client::metrics::{counter::Counter, gauge::Gauge};

use super::protocol::Protocol;
use crate::{
    ops::telemetry::metrics::{ByClosed, ByTransport, Metrics, Transport},
    transport::close::CloseReason,
};

/// The counters of one transport.
#[derive(Debug)]
struct Page {
    subscribers: Gauge,
    written: Counter,
}

#[derive(Debug)]
pub(super) struct ShardMetrics {
    web_socket: Page,
    events: Page,
    metrics: Metrics,
}

impl ShardMetrics {
    pub(super) fn new(metrics: &Metrics) -> Self {
        let page = |transport| {
            let label = ByTransport { transport };
            let subscribers = metrics.subscribers.get_or_create_owned(&label);
            let written = metrics.rounds_written_total.get_or_create_owned(&label);
            Page { subscribers, written }
        };
        let (web_socket, events) = (page(Transport::websocket), page(Transport::sse));
        Self { web_socket, events, metrics: metrics.clone() }
    }

    fn page(&self, protocol: Protocol) -> &Page {
        match protocol.transport() {
            Transport::websocket => &self.web_socket,
            _ => &self.events,
        }
    }

    pub(super) fn opened(&self, protocol: Protocol) {
        self.page(protocol).subscribers.inc();
    }

    pub(super) fn closed(&self, protocol: Protocol, reason: CloseReason) {
        self.page(protocol).subscribers.dec();
        let label = ByClosed { transport: protocol.transport(), reason: reason.label() };
        self.metrics.sessions_closed_total.get_or_create(&label).inc();
    }

    /// Counts rounds that are with the kernel.
    pub(super) fn written(&self, protocol: Protocol, rounds: u64) {
        if rounds > 0 {
            self.page(protocol).written.inc_by(rounds);
        }
    }

    /// Notes how long rounds took until their last subscriber here was sent them. Once per
    /// fan-out: a histogram takes a lock.
    pub(super) fn reached_all(&self, taken: Duration) {
        self.metrics.commit_to_write_seconds.observe(taken.as_secs_f64());
    }
}
