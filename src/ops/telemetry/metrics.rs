//! Every metric of the program: its name, its help, its labels. No label comes from user data.

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

use super::process::ProcessCollector;

/// How a client is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(missing_docs)]
pub enum Transport {
    #[allow(non_camel_case_types)]
    websocket,
    #[allow(non_camel_case_types)]
    sse,
    #[allow(non_camel_case_types)]
    webtransport,
}

/// How a round reached the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(missing_docs, non_camel_case_types)]
pub enum Source {
    poll,
    catch_up,
}

/// Why a round did not reach the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(missing_docs, non_camel_case_types)]
pub enum Skipped {
    out_of_range,
    deleted,
    unreadable,
}

/// Where a resume point was answered from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(missing_docs, non_camel_case_types)]
pub enum Resume {
    memory,
    database,
    gap,
}

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(missing_docs, non_camel_case_types)]
pub enum Closed {
    client,
    shutdown,
    too_large,
    too_slow,
    no_pong,
    gap,
    failed,
}

/// Label sets: one struct per shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
#[allow(missing_docs)]
pub struct ByTransport {
    pub transport: Transport,
}
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
#[allow(missing_docs)]
pub struct BySource {
    pub source: Source,
}
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
#[allow(missing_docs)]
pub struct BySkipped {
    pub reason: Skipped,
}
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
#[allow(missing_docs)]
pub struct ByResume {
    pub source: Resume,
}
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
#[allow(missing_docs)]
pub struct ByClosed {
    pub transport: Transport,
    pub reason: Closed,
}

/// 50 µs to 13 s, each bucket twice the one before.
fn seconds() -> Histogram {
    Histogram::new((0..18).map(|step| 0.000_05 * f64::from(1_u32 << step)))
}

macro_rules! metrics {
    ($($(#[$doc:meta])* $name:ident: $kind:ty = $new:expr, $help:literal;)*) => {
        /// Handles to every metric. Cheap to clone; clones count together.
        #[derive(Clone, Debug)]
        pub struct Metrics { $($(#[$doc])* #[doc = $help] pub $name: $kind,)* }

        impl Default for Metrics {
            fn default() -> Self {
                Self { $($name: $new,)* }
            }
        }

        impl Metrics {
            fn register(&self, registry: &mut Registry) {
                $(registry.register(
                    stringify!($name).trim_end_matches("_total"), $help, self.$name.clone());)*
            }
        }
    };
}

metrics! {
    rounds_captured_total: Family<BySource, Counter> = Family::default(), "Rounds put on the stream, by how they were found";
    rounds_skipped_total: Family<BySkipped, Counter> = Family::default(), "Finished rounds that cannot be streamed, by reason";
    rounds_reconciled_total: Counter = Counter::default(), "Rounds the trigger could not record and reconciliation found";
    reconciliations_total: Counter = Counter::default(), "Times rounds were compared with the outbox, to the end";
    rounds_lost_by_database_total: Counter = Counter::default(), "Times the database came back without commits that were already streamed";
    notifications_total: Counter = Counter::default(), "Notifications received on datastream_rounds";
    notifications_invalid_total: Counter = Counter::default(), "Notifications that could not be decoded";
    notifications_unknown_total: Counter = Counter::default(), "Notifications that name a round which the outbox does not have: another session sends on datastream_rounds";
    notifications_suppressed: Gauge = Gauge::default(), "1 while the server suppresses notifications because rounds come faster than they help";
    listener_connected: Gauge = Gauge::default(), "1 while rounds are captured: the connection that listens, or reads by finished_at, has caught up";
    listener_connects_total: Counter = Counter::default(), "Times the LISTEN connection was made";
    listener_deaf: Gauge = Gauge::default(), "1 when the LISTEN connection does not deliver notifications (a pooler in between?)";
    other_nodes: Gauge = Gauge::default(), "1 while another node may stream the same database: a resume may then repeat rounds of overlapping transactions";
    polls_total: Counter = Counter::default(), "Polls of the outbox";
    commit_to_decode_seconds: Histogram = seconds(), "From the outbox row written in the game's transaction to the poll that found it, by the database's clock";
    commit_to_write_seconds: Histogram = seconds(), "From a round's row in the outbox to the last socket of a shard; of the rounds of one poll the first";
    notify_queue_usage: Gauge<f64, std::sync::atomic::AtomicU64> = Gauge::default(), "Share of PostgreSQL's notification queue in use, 0 to 1";
    outbox_rows: Gauge = Gauge::default(), "Rows in datastream.outbox (PostgreSQL's estimate)";
    outbox_oldest_age_seconds: Gauge<f64, std::sync::atomic::AtomicU64> = Gauge::default(), "Age of the oldest outbox row";
    frames_encoded_total: Counter = Counter::default(), "Rounds encoded: once each, whatever the number of subscribers";
    database_queries_total: Counter = Counter::default(), "Queries made for clients: replays, round lists, lookups of unknown names";
    resumes_total: Family<ByResume, Counter> = Family::default(), "Streams opened with a resume point, by where the answer came from";
    subscribers: Family<ByTransport, Gauge> = Family::default(), "Open streams";
    sessions_closed_total: Family<ByClosed, Counter> = Family::default(), "Streams closed, by reason";
    subscriber_refills_total: Counter = Counter::default(), "Times a slow subscriber was refilled from memory";
    connections_refused_total: Counter = Counter::default(), "Streams refused because the server is full";
    rounds_dropped_total: Family<ByTransport, Counter> = Family::default(), "Rounds dropped from the full buffer of a subscriber that takes them too slowly (WebTransport)";
    rounds_written_total: Family<ByTransport, Counter> = Family::default(), "Rounds written to subscribers";
}

impl Metrics {
    /// All metrics in Prometheus text format (OpenMetrics 1.0).
    pub fn encode(&self) -> Result<String, std::fmt::Error> {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(ProcessCollector));
        self.register(registry.sub_registry_with_prefix("datastream"));
        let mut text = String::new();
        encode(&mut text, &registry)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_written_with_its_name_and_label() {
        let metrics = Metrics::default();
        metrics.rounds_captured_total.get_or_create(&BySource { source: Source::poll }).inc();
        let text = metrics.encode().expect("text");
        assert!(text.contains("datastream_rounds_captured_total{source=\"poll\"} 1"), "{text}");
        assert!(text.contains("\nprocess_cpu_seconds_total "), "{text}");
    }
}
