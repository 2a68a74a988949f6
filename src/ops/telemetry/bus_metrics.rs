//! Metrics of a capture node and of an edge. A server without a bus shows zeros.

use std::sync::atomic::AtomicU64;

use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

use super::{metric_set::metric_set, metrics::seconds};

metric_set! {
    /// Handles to the metrics of the bus.
    BusMetrics;
    connected: Gauge = Gauge::default(), "1 while the server is connected to NATS";
    leading: Gauge = Gauge::default(), "1 while this capture node leads";
    live: Gauge = Gauge::default(), "1 while a capture node leads and all that is committed is in the log, as far as this server knows";
    position: Gauge = Gauge::default(), "Sequence of the last message of the log that this server has read or written";
    end: Gauge = Gauge::default(), "Sequence of the last message of the log";
    lag_messages: Gauge = Gauge::default(), "Messages of the log that this edge has not read";
    waiting_bytes: Gauge = Gauge::default(), "Bytes of messages that NATS has sent and this edge has not read yet";
    beat_age_seconds: Gauge<f64, AtomicU64> = Gauge::default(), "Time since the leading capture node sent its last beat; 1e9 if never";
    claims_total: Counter = Counter::default(), "Claims to lead that the log accepted";
    deposed_total: Counter = Counter::default(), "Appends that were refused because the log had another end";
    append_seconds: Histogram = seconds(), "Time of an append to the log until NATS acknowledged it";
    appended_total: Counter = Counter::default(), "Messages appended to the log";
    fills_total: Counter = Counter::default(), "Fills of this edge's memory from the log";
    filled_messages_total: Counter = Counter::default(), "Messages read by direct gets, for a fill or to close a gap";
    rewritten_total: Counter = Counter::default(), "Times that NATS lost messages which it had acknowledged, and their rounds were appended again";
    left_out_total: Counter = Counter::default(), "Rounds of the log that this edge had published already";
    holes_total: Counter = Counter::default(), "Stretches that the log lacks: this edge ended its streams and filled its memory again";
    unreadable_total: Counter = Counter::default(), "Messages of the log that this edge cannot read, for example of a later version";
    unauthorized_total: Counter = Counter::default(), "Actions that NATS refused for lack of permission";
    questions_total: Counter = Counter::default(), "Questions for the database that this capture node answered or this edge asked";
    commit_to_edge_seconds: Histogram = seconds(), "Time from the outbox row until this edge read the round; by two clocks";
}
