//! A capture node: leads the log on the bus or stands by, and shows its health.

use std::{net::SocketAddr, num::NonZeroUsize, sync::Arc};

use anyhow::Context;
use tokio::sync::{oneshot, watch};

use super::{
    feeder::{maintenance_pool, query_pools},
    recent_rounds,
};
use crate::{
    config::{AllowedOrigins, CaptureConfig, TrustedProxies},
    http::{
        self, AccessSettings, AppState, BusRole, SharedState,
        internal::{self, InternalListener},
    },
    ops::{
        connection_limiter::{ConnectionLimiter, Limits},
        memory_budget::MemoryBudget,
        own_thread,
        phase::Phase,
        shutdown::Shutdown,
        telemetry::metrics::Metrics,
    },
    postgres::{
        maintenance::Maintenance,
        round_queries::{QueryPools, RoundQueries},
    },
    source::{BusCapture, BusCaptureSettings},
    stream::{
        bus::{self, LeaderState, LeaderWatch, run_beat},
        feed::Feed,
        games::Games,
        hub::{self, Hub, Publisher},
        skipped_rounds::SkippedRounds,
    },
};

/// The grace of a stop: no stream has to end.
const GRACE: std::time::Duration = std::time::Duration::from_secs(5);
/// The part of the memory that a log may begin with.
const BEGIN_PART: usize = 4;

/// A capture node with a bound address.
#[derive(Debug)]
pub struct CaptureApp {
    config: CaptureConfig,
    listener: InternalListener,
    addr: SocketAddr,
}

/// What the parts of a capture node share.
struct Parts {
    config: CaptureConfig,
    metrics: Metrics,
    budget: MemoryBudget,
    hub: Hub,
    local: Arc<Publisher>,
    games: Games,
    skipped: SkippedRounds,
    queries: RoundQueries,
    phase: watch::Sender<Phase>,
    state: watch::Sender<LeaderState>,
    shutdown: Shutdown,
}

impl CaptureApp {
    /// Binds the address.
    pub fn bind(config: CaptureConfig) -> anyhow::Result<Self> {
        let listener = internal::bind(config.http_addr)?;
        let addr = listener.local_addr();
        Ok(Self { config, listener, addr })
    }

    /// Captures until a shutdown is requested. The listener answers until this ends.
    pub async fn run(self, shutdown: Shutdown) -> anyhow::Result<()> {
        let Self { config, listener, addr } = self;
        tracing::info!(http.addr = %addr, node = %config.node, "listening");
        let node = config.node.clone();
        let parts = Parts::new(config, shutdown.clone())?;
        let (state, made) = oneshot::channel();
        // The receiver waits as long as this runs.
        let _ = state.send(parts.app_state());
        let served = async {
            listener.serve(made, &node).await;
            std::future::pending::<()>().await;
        };
        let end = shutdown.spawn(own_thread::run("capture", parts.capture())?);
        let captured = tokio::select! {
            end = end => end?.context("the capture panicked")?,
            () = served => Ok(()),
        };
        shutdown.request();
        shutdown.finish(GRACE).await;
        captured
    }
}

impl Parts {
    fn new(config: CaptureConfig, shutdown: Shutdown) -> anyhow::Result<Self> {
        let metrics = Metrics::default();
        let (hub, publisher) = hub::new(NonZeroUsize::MIN, metrics.clone());
        let skipped = SkippedRounds::new(metrics.clone(), config.max_round);
        let pools = query_pools(&config.database, false)?;
        let queries = RoundQueries::new(pools, metrics.clone(), skipped.clone());
        metrics.retention_seconds.set(config.retention.as_secs_f64());
        let budget = MemoryBudget::new(config.memory, &metrics);
        Ok(Self {
            config,
            budget,
            hub,
            local: Arc::new(publisher),
            games: Games::default(),
            skipped,
            queries,
            phase: watch::Sender::new(Phase::Connecting { problem: None }),
            state: watch::Sender::new(LeaderState::default()),
            metrics,
            shutdown,
        })
    }

    /// The state of the health routes. No other route is served, so nothing is ever streamed.
    fn app_state(&self) -> SharedState {
        let limits = Limits { streams: 1, per_address: None, per_second: None };
        let settings = http::Settings {
            heartbeat: std::time::Duration::from_secs(15),
            allowed_origins: AllowedOrigins::Any,
            limiter: ConnectionLimiter::new(limits, self.metrics.clone()),
            trusted_proxies: TrustedProxies::default(),
            budget: self.budget.clone(),
            access: AccessSettings::default(),
            has_internal: true,
        };
        let store = Arc::new(self.queries.clone());
        let budget = self.budget.clone();
        let feed = Feed::new(self.hub.clone(), self.games.clone(), store, 1, budget);
        let (metrics, phase) = (self.metrics.clone(), self.phase.subscribe());
        let state = AppState::new(feed, phase, metrics, self.shutdown.clone(), settings, None);
        Arc::new(state.on_bus(BusRole::Capture(self.state.subscribe())))
    }

    async fn capture(self) -> anyhow::Result<()> {
        let shutdown = self.shutdown.clone();
        let opened = tokio::select! {
            () = shutdown.requested() => return Ok(()),
            opened = bus::open(&self.config.bus, bus::Access::Append, &self.metrics) => opened?,
        };
        let (bus, log_age) = opened;
        shutdown.spawn_until_requested(self.maintenance()?.run());
        let node = self.config.node.to_string();
        shutdown.spawn_until_requested(run_beat(bus.clone(), node.clone(), self.state.subscribe()));
        let watch = LeaderWatch::start(&bus, self.config.takeover).await?;
        let capture = BusCapture::new(BusCaptureSettings {
            bus,
            node,
            listen: self.config.database.listen.clone(),
            queries: self.config.database.target.clone(),
            history: recent_rounds(self.config.history),
            begin_bytes: self.config.memory / BEGIN_PART,
            log_age,
            watch,
            store: Arc::new(self.queries),
            budget: self.budget,
            local: self.local,
            games: self.games,
            metrics: self.metrics,
            skipped: self.skipped,
            phase: self.phase,
            state: self.state,
            shutdown,
        });
        Ok(Box::pin(capture.run()).await?)
    }

    /// It works while this node leads: its phase is live then.
    fn maintenance(&self) -> anyhow::Result<Maintenance> {
        let pool = maintenance_pool(&self.config.database)?;
        let (metrics, skipped) = (self.metrics.clone(), self.skipped.clone());
        let queries = RoundQueries::new(QueryPools::one(&pool), metrics.clone(), skipped);
        Ok(Maintenance {
            pool,
            phase: self.phase.subscribe(),
            hub: self.hub.clone(),
            games: self.games.clone(),
            queries,
            retention: self.config.retention,
            metrics,
        })
    }
}
