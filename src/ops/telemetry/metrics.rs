//! Every metric of the program: name, help, labels. No label contains user data.

use std::sync::atomic::AtomicU64;

use clap::ValueEnum;
use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

use super::{
    bus_metrics::BusMetrics, exposition::Exposition, logs, metric_set::metric_set,
    process::ProcessCollector,
};
use crate::ops::build_info;

/// The transport of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue, ValueEnum)]
#[allow(missing_docs, non_camel_case_types)]
pub enum Transport {
    websocket,
    sse,
    webtransport,
}

/// How the capture found a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue, ValueEnum)]
#[allow(missing_docs, non_camel_case_types)]
pub enum FoundBy {
    poll,
    catch_up,
}

/// The reason for which a round was not published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue, ValueEnum)]
#[allow(missing_docs, non_camel_case_types)]
pub enum Skipped {
    out_of_range,
    deleted,
    unfinished,
    unreadable,
    bad_id,
    too_large,
}

/// What a connection without a stream does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue, ValueEnum)]
#[allow(missing_docs, non_camel_case_types)]
pub enum PendingState {
    no_request,
    idle,
    request,
    quic,
    given_up,
}

/// The source of a replay: the hub's recent rounds, the database, or neither.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue, ValueEnum)]
#[allow(missing_docs, non_camel_case_types)]
pub enum Resume {
    memory,
    database,
    gap,
}

/// The reason for which a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue, ValueEnum)]
#[allow(missing_docs, non_camel_case_types)]
pub enum Closed {
    client,
    shutdown,
    too_large,
    flooding,
    too_slow,
    no_pong,
    gap,
    failed,
    token_expired,
    key_withdrawn,
    place_lost,
}

/// The reason for which a request with a missing, bad or insufficient token was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue, ValueEnum)]
#[allow(missing_docs, non_camel_case_types)]
pub enum TokenRefused {
    missing,
    unreadable,
    unknown_key,
    no_exp,
    expired,
    not_yet_valid,
    audience,
    issuer,
    not_allowed,
    no_keys,
}

/// The outcome of an attempt to read keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue, ValueEnum)]
#[allow(missing_docs, non_camel_case_types)]
pub enum Outcome {
    ok,
    failed,
}

/// What a part of the memory budget is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue, ValueEnum)]
#[allow(missing_docs, non_camel_case_types)]
pub enum MemoryUse {
    connections,
    history,
    queues,
    replays,
    lists,
}

/// Label sets: one struct per set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
#[allow(missing_docs)]
pub struct ByTransport {
    pub transport: Transport,
}
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
#[allow(missing_docs)]
pub struct BySource {
    pub source: FoundBy,
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
pub struct ByMemoryUse {
    pub kind: MemoryUse,
}
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
#[allow(missing_docs)]
pub struct ByClosed {
    pub transport: Transport,
    pub reason: Closed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
#[allow(missing_docs)]
pub struct ByTokenRefused {
    pub reason: TokenRefused,
}
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
#[allow(missing_docs)]
pub struct ByOutcome {
    pub outcome: Outcome,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
#[allow(missing_docs)]
pub struct Build {
    pub version: &'static str,
    pub revision: &'static str,
    pub features: &'static str,
}

/// Always 1: the labels carry the information, as in Prometheus' own `prometheus_build_info`.
fn build_info() -> Family<Build, Gauge> {
    let family = Family::<Build, Gauge>::default();
    let build = Build {
        version: build_info::VERSION,
        revision: build_info::REVISION,
        features: build_info::FEATURES,
    };
    family.get_or_create(&build).set(1_i64);
    family
}

/// The listener that a certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue, ValueEnum)]
#[allow(missing_docs, non_camel_case_types)]
pub enum Listener {
    http,
    webtransport,
}

/// The origin of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue, ValueEnum)]
#[allow(missing_docs, non_camel_case_types)]
pub enum Issued {
    file,
    self_signed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
#[allow(missing_docs)]
pub struct ByCertificate {
    pub listener: Listener,
    pub source: Issued,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
#[allow(missing_docs)]
pub struct ByPending {
    pub state: PendingState,
}

/// A set of labels with all its values, so that every series is there from the start: `increase()`
/// misses the first event of a series that appears with it.
trait Labels: Sized {
    fn all() -> Vec<Self>;
}

macro_rules! labels_of_one {
    ($($labels:ident { $label:ident: $values:ty })*) => {
        $(impl Labels for $labels {
            fn all() -> Vec<Self> {
                <$values>::value_variants().iter().map(|value| Self { $label: *value }).collect()
            }
        })*
    };
}

labels_of_one! {
    ByTransport { transport: Transport }
    BySource { source: FoundBy }
    BySkipped { reason: Skipped }
    ByResume { source: Resume }
    ByPending { state: PendingState }
    ByMemoryUse { kind: MemoryUse }
    ByTokenRefused { reason: TokenRefused }
    ByOutcome { outcome: Outcome }
}

impl Labels for ByCertificate {
    fn all() -> Vec<Self> {
        let listeners = Listener::value_variants().iter();
        let each = |listener: &Listener| {
            let listener = *listener;
            Issued::value_variants().iter().map(move |source| Self { listener, source: *source })
        };
        listeners.flat_map(each).collect()
    }
}

impl Labels for ByClosed {
    fn all() -> Vec<Self> {
        let transports = Transport::value_variants().iter();
        let each = |transport: &Transport| {
            let transport = *transport;
            Closed::value_variants().iter().map(move |reason| Self { transport, reason: *reason })
        };
        transports.flat_map(each).collect()
    }
}

/// A family with a series for each value of its labels.
fn family<L, M>() -> Family<L, M>
where
    L: Labels + Clone + Eq + std::hash::Hash,
    M: Default + Clone,
{
    let family = Family::<L, M>::default();
    L::all().iter().for_each(|labels| drop(family.get_or_create(labels)));
    family
}

/// Buckets from 50 µs to 6.5 s, each twice the one before.
pub(super) fn seconds() -> Histogram {
    Histogram::new((0..18).map(|step| 0.000_05 * f64::from(1_u32 << step)))
}

metric_set! {
    /// Handles to every metric. Cheap to clone; clones count together.
    Metrics;
    [
        /// The bus.
        bus: BusMetrics;
    ]
    build_info: Family<Build, Gauge> = build_info(), "1; the labels name the version, the git revision and the cargo features of the program";
    certificate_expiry_timestamp_seconds: Family<ByCertificate, Gauge> = family(), "Unix time at which the certificate expires, or 0 without one";
    rounds_captured_total: Family<BySource, Counter> = family(), "Rounds published to the stream, by the way the capture found them";
    rounds_skipped_total: Family<BySkipped, Counter> = family(), "Finished rounds that cannot be sent, by reason";
    rounds_reconciled_total: Counter = Counter::default(), "Rounds that the trigger did not record and reconciliation found";
    reconciliations_total: Counter = Counter::default(), "Completed comparisons of finished rounds with the outbox";
    rounds_lost_by_database_total: Counter = Counter::default(), "Crashes, failovers and restores after which the database lacked commits that were already streamed";
    notifications_total: Counter = Counter::default(), "Notifications received on datastream_rounds";
    notifications_invalid_total: Counter = Counter::default(), "Notifications that could not be decoded";
    notifications_unknown_total: Counter = Counter::default(), "Notifications that name a round which the outbox does not have: another session sends on datastream_rounds";
    notifications_suppressed: Gauge = Gauge::default(), "1 while the server suppresses notifications because rounds come faster than they help";
    listener_connected: Gauge = Gauge::default(), "1 while the capture is connected and has caught up";
    listener_connects_total: Counter = Counter::default(), "LISTEN connections opened";
    listener_deaf: Gauge = Gauge::default(), "1 while the LISTEN connection does not deliver notifications, for example because a pooler is in between";
    other_nodes: Gauge = Gauge::default(), "1 while another server may stream the same database: a resume may then repeat rounds of overlapping transactions";
    polls_total: Counter = Counter::default(), "Polls of the outbox";
    commit_to_decode_seconds: Histogram = seconds(), "Time from the outbox row, written in the game's transaction, until a poll finds it; by the database's clock";
    commit_to_write_seconds: Histogram = seconds(), "Time from the outbox row until a shard has written the round to its last socket; measured for the first round of each batch";
    notify_queue_usage: Gauge<f64, AtomicU64> = Gauge::default(), "Used share of PostgreSQL's notification queue, 0 to 1";
    outbox_rows: Gauge = Gauge::default(), "Rows in datastream.outbox (PostgreSQL's estimate)";
    outbox_oldest_age_seconds: Gauge<f64, AtomicU64> = Gauge::default(), "Age of the oldest outbox row";
    frames_encoded_total: Counter = Counter::default(), "Rounds encoded: once per round, not per subscriber";
    database_queries_total: Counter = Counter::default(), "Queries for clients: replays, round lists, lookups of unknown names";
    resumes_total: Family<ByResume, Counter> = family(), "Streams opened with a resume point, by the source of the replay";
    subscribers: Family<ByTransport, Gauge> = family(), "Open streams";
    sessions_closed_total: Family<ByClosed, Counter> = family(), "Streams closed, by reason";
    subscriber_refills_total: Counter = Counter::default(), "Times a slow subscriber was refilled from the hub's recent rounds";
    connections_refused_total: Counter = Counter::default(), "Streams refused because a limit on connections or memory was reached";
    pending_connections: Family<ByPending, Gauge> = family(), "Connections without a stream: without a complete request, idle, with a request, in a QUIC handshake, given up though QUIC keeps them";
    pending_closed_total: Family<ByPending, Counter> = family(), "Connections without a stream that were closed because others needed their place, by what they did";
    log_queue_bytes: Gauge = logs::queued_bytes(), "Bytes of log lines that wait until stderr takes them";
    log_lines_dropped_total: Counter = logs::dropped_lines(), "Log lines that were dropped because stderr was not read fast enough or could not be written";
    rounds_dropped_total: Family<ByTransport, Counter> = family(), "Rounds dropped from the full buffer of a WebTransport subscriber that reads too slowly";
    memory_limit_bytes: Gauge = Gauge::default(), "The memory budget (DATASTREAM_MEMORY)";
    memory_used_bytes: Family<ByMemoryUse, Gauge> = family(), "Bytes taken from the memory budget, by use";
    memory_refused_total: Family<ByMemoryUse, Counter> = family(), "Requests refused because the share of their use was taken";
    shard_queue_bytes: Gauge = Gauge::default(), "Bytes of rounds that wait until a shard sends them, over all shards";
    latest_rounds_dropped: Gauge = Gauge::default(), "Games whose latest round is not in memory: a stream that begins with it reads it from the database";
    topic_queue_bytes: Gauge = Gauge::default(), "Bytes of rounds that the tasks of WebTransport had not taken when the last round was published";
    rounds_written_total: Family<ByTransport, Counter> = family(), "Rounds written to subscribers";
    max_connections: Gauge = Gauge::default(), "Limit of open streams, as far as the limit on open files allows it";
    max_connections_per_address: Gauge<f64, AtomicU64> = Gauge::default(), "Limit of open streams from one client address; +Inf if there is none";
    max_connects_per_second: Gauge<f64, AtomicU64> = Gauge::default(), "Limit of new streams in a second; +Inf if there is none";
    history_rounds: Gauge = Gauge::default(), "Limit of rounds of each game in memory";
    resume_limit_rounds: Gauge = Gauge::default(), "Limit of rounds replayed to one connection";
    retention_seconds: Gauge<f64, AtomicU64> = Gauge::default(), "How long outbox rows are kept";
    heartbeat_seconds: Gauge<f64, AtomicU64> = Gauge::default(), "Time between two pings or heartbeat comments";
    tokens_refused_total: Family<ByTokenRefused, Counter> = family(), "Requests refused because of their token, by reason";
    token_keys: Gauge = Gauge::default(), "Keys that verify tokens";
    token_keys_age_seconds: Gauge<f64, AtomicU64> = Gauge::default(), "Time since the keys were last fetched, or compared with their file; 0 with a secret and without tokens";
    token_key_reads_total: Family<ByOutcome, Counter> = family(), "Attempts to fetch the keys, or to read their changed file";
}

impl Metrics {
    /// Counts a request that was refused because of its token.
    pub(crate) fn count_token_refused(&self, reason: TokenRefused) {
        self.tokens_refused_total.get_or_create(&ByTokenRefused { reason }).inc();
    }

    /// Counts an attempt to read the keys.
    pub(crate) fn count_key_read(&self, succeeded: bool) {
        let outcome = if succeeded { Outcome::ok } else { Outcome::failed };
        self.token_key_reads_total.get_or_create(&ByOutcome { outcome }).inc();
    }

    /// All metrics in this format.
    pub fn encode(&self, format: Exposition) -> Result<String, std::fmt::Error> {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(ProcessCollector));
        let own = registry.sub_registry_with_prefix("datastream");
        self.register(own);
        let mut text = String::new();
        encode(&mut text, &registry)?;
        Ok(format.render(&text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_encoded_with_its_name_and_label() {
        let metrics = Metrics::default();
        metrics.rounds_captured_total.get_or_create(&BySource { source: FoundBy::poll }).inc();
        let text = metrics.encode(Exposition::OpenMetrics).expect("text");
        assert!(text.contains("datastream_rounds_captured_total{source=\"poll\"} 1"), "{text}");
        assert!(text.contains("\nprocess_cpu_seconds_total "), "{text}");
    }

    #[test]
    fn every_family_has_a_series_from_the_start() {
        let text = Metrics::default().encode(Exposition::Text).expect("text");
        let families = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        for family in families.filter_map(|line| line.split(' ').next()) {
            let is_sample = |line: &str| line.starts_with(family);
            assert!(text.lines().any(is_sample), "{family} has no series");
        }
        let closed = text.matches("\ndatastream_sessions_closed_total{").count();
        assert_eq!(closed, 3 * Closed::value_variants().len());
    }
}
