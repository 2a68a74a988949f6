//! What fills and feeds the hub, and answers what the hub does not hold: the database, or the bus.

use std::{
    pin::Pin,
    sync::{Arc, OnceLock, atomic::AtomicU64},
};

use anyhow::Context;
use tokio::sync::watch;

use super::{recent_rounds, wiring::Wiring};
use crate::{
    config::{BusConfig, EdgeConfig, NodeName, RoundSource, ServeConfig},
    http::BusRole,
    ops::{memory_budget::MemoryBudget, phase::Phase, telemetry::metrics::Metrics},
    postgres::{
        maintenance::Maintenance,
        options::DatabaseConfig,
        pool::Pool,
        read_only::OperatorQueries,
        round_queries::{QueryPools, RoundQueries},
    },
    source::{
        Capture, CaptureSettings,
        read_only::{ReadOnlyCapture, ReadOnlySettings},
    },
    stream::{
        bus::{self, Bus, BusStore, Edge, EdgeSettings, LeaderView},
        hub::Publisher,
        round_store::SharedRoundStore,
        skipped_rounds::SkippedRounds,
    },
};

/// Connections for lists of rounds.
const LIST_CONNECTIONS: u32 = 2;
/// Connections for replays beyond the ring buffers: one for resume points, one for the rounds of all
/// topics, one for those of one topic, two for contents.
const REPLAY_CONNECTIONS: u32 = 5;
/// Connections for the directory of games.
const DIRECTORY_CONNECTIONS: u32 = 1;

/// The task that feeds the hub. It ends at the shutdown, or with an error that waiting cannot fix.
pub(super) type FeedTask = Pin<Box<dyn Future<Output = anyhow::Result<()>> + Send>>;

/// What fills and feeds the hub.
#[expect(clippy::large_enum_variant, reason = "a process has one")]
pub(super) enum Feeder {
    /// The outbox or, in the read-only mode, the operator's queries.
    Database {
        database: DatabaseConfig,
        queries: RoundQueries,
        skipped: SkippedRounds,
        read_only: Option<OperatorQueries>,
    },
    /// The log on the bus.
    Bus(EdgeParts),
}

/// What the parts of an edge share.
pub(super) struct EdgeParts {
    config: EdgeConfig,
    /// Set once it is connected.
    bus: Arc<OnceLock<Bus>>,
    space: Arc<AtomicU64>,
    leader: watch::Sender<Option<LeaderView>>,
    /// How far it has read the log.
    read: watch::Sender<u64>,
    metrics: Metrics,
    budget: MemoryBudget,
}

impl Feeder {
    pub(super) fn new(
        config: &ServeConfig,
        metrics: &Metrics,
        budget: &MemoryBudget,
    ) -> anyhow::Result<Self> {
        let (database, read_only) = match &config.source {
            RoundSource::Bus(edge) => {
                return Ok(Self::Bus(EdgeParts {
                    config: edge.clone(),
                    bus: Arc::default(),
                    space: Arc::default(),
                    leader: watch::Sender::new(None),
                    read: watch::Sender::new(0),
                    metrics: metrics.clone(),
                    budget: budget.clone(),
                }));
            }
            RoundSource::Database { database, read_only } => (database.clone(), read_only),
        };
        let read_only = read_only.as_ref().map(OperatorQueries::new);
        let pools = query_pools(&database, read_only.is_some())?;
        let skipped = SkippedRounds::new(metrics.clone(), config.max_round);
        let queries = match read_only.clone() {
            None => RoundQueries::new(pools, metrics.clone(), skipped.clone()),
            Some(source) => {
                RoundQueries::read_only(pools, metrics.clone(), skipped.clone(), source)
            }
        };
        Ok(Self::Database { database, queries, skipped, read_only })
    }

    /// Reads of older rounds.
    pub(super) fn store(&self) -> SharedRoundStore {
        match self {
            Self::Database { queries, .. } => Arc::new(queries.clone()),
            Self::Bus(EdgeParts { bus, space, leader, read, metrics, budget, .. }) => {
                let (bus, space) = (Arc::clone(bus), Arc::clone(space));
                let following = (read.subscribe(), leader.subscribe());
                Arc::new(BusStore::new(bus, metrics.clone(), space, following, budget.clone()))
            }
        }
    }

    /// What `/readyz` and the live page say of the bus.
    pub(super) fn role(&self, node: &NodeName) -> BusRole {
        match self {
            Self::Database { .. } => BusRole::None,
            Self::Bus(parts) => BusRole::Edge(node.clone(), parts.leader.subscribe()),
        }
    }

    /// The task, and its phase.
    pub(super) fn start(
        &self,
        wiring: &Wiring<'_>,
        publisher: Publisher,
    ) -> (FeedTask, watch::Receiver<Phase>) {
        match self {
            Self::Database { database, skipped, read_only: None, .. } => {
                outbox_capture(wiring, database, skipped, publisher)
            }
            Self::Database { database, skipped, read_only: Some(source), .. } => {
                read_only_capture(wiring, database, (source.clone(), skipped), publisher)
            }
            Self::Bus(parts) => parts.start(wiring, publisher),
        }
    }

    /// The periodic work on the database; none in the read-only mode, and none on an edge.
    pub(super) fn maintenance(
        &self,
        wiring: &Wiring<'_>,
        phase: watch::Receiver<Phase>,
    ) -> anyhow::Result<Option<Maintenance>> {
        let Self::Database { database, skipped, read_only: None, .. } = self else {
            return Ok(None);
        };
        let pool = maintenance_pool(database)?;
        let metrics = wiring.metrics.clone();
        let queries = RoundQueries::new(QueryPools::one(&pool), metrics.clone(), skipped.clone());
        Ok(Some(Maintenance {
            pool,
            phase,
            hub: wiring.hub.clone(),
            games: wiring.games.clone(),
            queries,
            retention: wiring.config.retention,
            metrics,
        }))
    }
}

impl EdgeParts {
    fn start(
        &self,
        wiring: &Wiring<'_>,
        publisher: Publisher,
    ) -> (FeedTask, watch::Receiver<Phase>) {
        let (phase, watched) = watch::channel(Phase::Connecting { problem: None });
        let (config, shared) = (self.config.clone(), Arc::clone(&self.bus));
        let (space, leader) = (Arc::clone(&self.space), self.leader.clone());
        let read = self.read.clone();
        let (games, metrics) = (wiring.games.clone(), wiring.metrics.clone());
        let shutdown = wiring.shutdown.clone();
        let settings = move |log| {
            let fill = config.fill;
            EdgeSettings { log, publisher, games, metrics, fill, phase, leader, space, read }
        };
        let (config, metrics) = (self.config.bus.clone(), wiring.metrics.clone());
        let task = async move {
            tokio::select! {
                () = shutdown.requested() => Ok(()),
                fed = follow_log(config, metrics, shared, settings) => fed,
            }
        };
        (Box::pin(task), watched)
    }
}

async fn follow_log(
    config: BusConfig,
    metrics: Metrics,
    shared: Arc<OnceLock<Bus>>,
    settings: impl FnOnce(Bus) -> EdgeSettings,
) -> anyhow::Result<()> {
    let (bus, _) = bus::open(&config, bus::Access::Read, &metrics).await?;
    let log = shared.get_or_init(|| bus).clone();
    match Edge::new(settings(log)).run().await? {}
}

fn outbox_capture(
    wiring: &Wiring<'_>,
    database: &DatabaseConfig,
    skipped: &SkippedRounds,
    publisher: Publisher,
) -> (FeedTask, watch::Receiver<Phase>) {
    let (capture, phase) = Capture::new(CaptureSettings {
        listen: database.listen.clone(),
        queries: database.target.clone(),
        history: recent_rounds(wiring.config.history),
        publisher,
        games: wiring.games.clone(),
        metrics: wiring.metrics.clone(),
        skipped: skipped.clone(),
        shutdown: wiring.shutdown.clone(),
    });
    (Box::pin(async { Ok(Box::pin(capture.run()).await?) }), phase)
}

fn read_only_capture(
    wiring: &Wiring<'_>,
    database: &DatabaseConfig,
    (source, skipped): (OperatorQueries, &SkippedRounds),
    publisher: Publisher,
) -> (FeedTask, watch::Receiver<Phase>) {
    let (capture, phase) = ReadOnlyCapture::new(ReadOnlySettings {
        target: database.target.clone(),
        source,
        history: recent_rounds(wiring.config.history),
        publisher,
        games: wiring.games.clone(),
        metrics: wiring.metrics.clone(),
        skipped: skipped.clone(),
        shutdown: wiring.shutdown.clone(),
    });
    (Box::pin(async { Ok(capture.run().await?) }), phase)
}

/// The connection of maintenance.
pub(super) fn maintenance_pool(database: &DatabaseConfig) -> anyhow::Result<Pool> {
    let pool = Pool::lazy(&database.target, "maintenance", 1);
    Ok(pool.context("the connection string names no host")?.writing())
}

/// The connections for clients' reads.
pub(super) fn query_pools(
    database: &DatabaseConfig,
    is_read_only: bool,
) -> anyhow::Result<QueryPools> {
    let lazy = if is_read_only { Pool::lazy_read_only } else { Pool::lazy };
    let pool = |connections| {
        let pool = lazy(&database.target, "query", connections);
        pool.context("the connection string names no host. Set DATABASE_URL.")
    };
    Ok(QueryPools {
        lists: pool(LIST_CONNECTIONS)?,
        replays: pool(REPLAY_CONNECTIONS)?,
        directory: pool(DIRECTORY_CONNECTIONS)?,
    })
}
