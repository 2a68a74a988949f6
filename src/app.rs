//! The composition root: binds, wires, runs, stops.

use std::{net::SocketAddr, num::NonZeroU32, pin::Pin, sync::Arc};

use anyhow::Context;
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
};

use crate::{
    access::{CurrentKeys, TokenVerifier, UnusableKeys},
    config::ServeConfig,
    http::{
        self, AccessSettings, AdvertisedWebTransport, AppState, SharedState, WebTransportAdmission,
        accept_loop::{self, AcceptLoop},
        internal::{self, InternalListener},
    },
    ops::{
        connection_limiter::{ConnectionLimiter, Limits},
        descriptors,
        memory_budget::MemoryBudget,
        phase::Phase,
        shutdown::Shutdown,
        telemetry::metrics::Metrics,
    },
    postgres::{
        maintenance::Maintenance,
        pool::Pool,
        read_only::Source,
        round_queries::{QueryPools, RoundQueries},
    },
    source::{
        Capture, CaptureError, CaptureSettings,
        read_only::{ReadOnlyCapture, ReadOnlySettings},
    },
    stream::{
        feed::Feed,
        games::Games,
        hub::{self, Hub, HubSettings, Publisher},
        skipped_rounds::SkippedRounds,
    },
    transport::{
        ShardError, ShardSettings, Shards,
        tls::{TlsAcceptor, TlsFailure},
        wt::{BindError, WebTransport},
    },
};

/// Connections for lists of rounds.
const LIST_CONNECTIONS: u32 = 2;
/// Connections for replays beyond the ring buffers: one for resume points, one for the rounds of all
/// topics, one for those of one topic, two for contents.
const REPLAY_CONNECTIONS: u32 = 5;
/// Connections for the directory of games.
const DIRECTORY_CONNECTIONS: u32 = 1;

/// A server with bound addresses, so that they are known before it serves.
#[derive(Debug)]
pub struct App {
    config: ServeConfig,
    limits: Limits,
    accept_loop: AcceptLoop,
    internal: Option<InternalListener>,
    web_transport: Option<WebTransport>,
}

impl App {
    /// Binds the addresses. Fails if the limit on open files is too low to serve.
    pub fn bind(config: ServeConfig) -> anyhow::Result<Self> {
        let limits = Limits {
            streams: descriptors::connections_that_fit(config.max_connections)?,
            per_address: config.max_connections_per_address,
            per_second: config.max_connects_per_second,
        };
        let accept_loop = accept_loop::bind(config.http_addr)?;
        let internal = config.internal_addr.map(internal::bind).transpose()?;
        let web_transport = config.web_transport.as_ref();
        let web_transport = web_transport.map(|wt| WebTransport::bind(wt, config.heartbeat));
        let web_transport = web_transport.transpose()?;
        Ok(Self { limits, accept_loop, internal, web_transport, config })
    }

    /// The bound HTTP address, with the port that the system chose for port 0.
    pub fn http_addr(&self) -> SocketAddr {
        self.accept_loop.local_addr()
    }

    /// Serves until a shutdown is requested, then waits at most the grace period for the streams.
    /// The internal listener answers until this ends.
    pub async fn run(self, shutdown: Shutdown) -> anyhow::Result<()> {
        let mut app = self;
        let (internal, node) = (app.internal.take(), app.config.node.clone());
        let (state, made) = oneshot::channel();
        let internal = async {
            if let Some(internal) = internal {
                internal.serve(made, &node).await;
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            served = Box::pin(app.run_public(shutdown, state)) => served,
            () = internal => Ok(()),
        }
    }

    async fn run_public(
        self,
        shutdown: Shutdown,
        state: oneshot::Sender<SharedState>,
    ) -> anyhow::Result<()> {
        let grace = self.config.shutdown_grace;
        let served = self.serve(&shutdown, state).await;
        shutdown.request();
        if !shutdown.finish(grace).await {
            tracing::warn!(?grace, "some connections did not close within the grace period");
        }
        served
    }

    async fn serve(
        self,
        shutdown: &Shutdown,
        internal: oneshot::Sender<SharedState>,
    ) -> anyhow::Result<()> {
        let Self { config, limits, accept_loop, web_transport, .. } = self;
        let (wiring, publisher) = Wiring::new(&config, shutdown)?;
        let (capture, phase) = wiring.capture(publisher);
        let (shards, failed) = wiring.shards()?;
        measure_limits(&config, &limits, &wiring.metrics);
        let settings = wiring.settings(limits);
        let advertised = web_transport.as_ref().map(|wt| AdvertisedWebTransport {
            certificate: wt.published(),
            port: wt.local_addr().port(),
        });
        let tls =
            config.tls.clone().map(|files| TlsAcceptor::start(files, &wiring.metrics, shutdown));
        let tls = tls.transpose()?;
        let state = wiring.state(phase.clone(), advertised, settings.clone())?;
        // The receiver waits as long as this runs.
        let _ = internal.send(Arc::clone(&state));
        let (addr, node) = (accept_loop.local_addr(), &config.node);
        tracing::info!(http.addr = %addr, tls = tls.is_some(), %node, "listening");
        if let Some(web_transport) = web_transport {
            tracing::info!(wt.addr = %web_transport.local_addr(), "WebTransport is on");
            let admission = WebTransportAdmission::new(Arc::clone(&state));
            shutdown.spawn(web_transport.serve(
                admission,
                settings.limiter.clone(),
                wiring.current_keys(),
                wiring.metrics.clone(),
                shutdown.clone(),
            ));
        }
        if wiring.source.is_none() {
            shutdown.spawn(wiring.maintenance(phase)?.run(shutdown.clone()));
        }
        let stop = shutdown.clone();
        shutdown.spawn(async move {
            accept_loop.serve(http::router(state), shards, tls, &settings, &stop).await;
        });
        wait_for_end(shutdown.spawn(capture), failed).await
    }
}

/// Why the keys or certificates that were configured cannot be used, if that ended the server.
pub(crate) fn unusable_files(error: &anyhow::Error) -> Option<String> {
    let keys = error.downcast_ref::<UnusableKeys>().map(ToString::to_string);
    let tls = error.downcast_ref::<TlsFailure>().map(ToString::to_string);
    let bound = error.downcast_ref::<BindError>().filter(|it| it.is_of_configuration());
    keys.or(tls).or(bound.map(ToString::to_string))
}

/// Waits for the end of capture, or for a shard that fails.
async fn wait_for_end(
    capture: JoinHandle<Result<(), CaptureError>>,
    mut shards: mpsc::Receiver<ShardError>,
) -> anyhow::Result<()> {
    tokio::select! {
        captured = capture => captured.context("capture panicked")?.map_err(anyhow::Error::new),
        Some(error) = shards.recv() => Err(error.into()),
    }
}

/// The task that captures rounds from the outbox or, in the read-only mode, by polling.
type CaptureTask = Pin<Box<dyn Future<Output = Result<(), CaptureError>> + Send>>;

/// The values that the parts of the server share.
struct Wiring<'a> {
    config: &'a ServeConfig,
    shutdown: &'a Shutdown,
    metrics: Metrics,
    budget: MemoryBudget,
    hub: Hub,
    games: Games,
    round_queries: RoundQueries,
    /// Verifies tokens, if they are on.
    verifier: Option<TokenVerifier>,
    skipped: SkippedRounds,
    /// The operator's queries in the read-only mode.
    source: Option<Source>,
}

impl<'a> Wiring<'a> {
    fn new(config: &'a ServeConfig, shutdown: &'a Shutdown) -> anyhow::Result<(Self, Publisher)> {
        let metrics = Metrics::default();
        let access = config.access.as_ref();
        let verifier = access.map(|access| TokenVerifier::start(access, &metrics, shutdown));
        let verifier = verifier.transpose()?;
        let budget = MemoryBudget::new(config.memory, &metrics);
        let (history, replay_bytes) = (config.history, config.resume_bytes);
        let settings = HubSettings { history, replay_bytes, budget: budget.clone() };
        let (hub, publisher) = hub::with_settings(settings, metrics.clone());
        let pools = query_pools(config)?;
        let source = config.read_only.as_ref().map(Source::new);
        let skipped = SkippedRounds::new(metrics.clone(), config.max_round);
        let round_queries = match source.clone() {
            None => RoundQueries::new(pools, metrics.clone(), skipped.clone()),
            Some(source) => {
                RoundQueries::read_only(pools, metrics.clone(), skipped.clone(), source)
            }
        };
        let games = Games::default();
        let wiring = Self {
            config,
            shutdown,
            metrics,
            budget,
            hub,
            games,
            round_queries,
            skipped,
            verifier,
            source,
        };
        Ok((wiring, publisher))
    }

    fn capture(&self, publisher: Publisher) -> (CaptureTask, watch::Receiver<Phase>) {
        match self.source.clone() {
            None => self.outbox_capture(publisher),
            Some(source) => self.read_only_capture(source, publisher),
        }
    }

    fn outbox_capture(&self, publisher: Publisher) -> (CaptureTask, watch::Receiver<Phase>) {
        let (capture, phase) = Capture::new(CaptureSettings {
            listen: self.config.database.listen.clone(),
            queries: self.config.database.target.clone(),
            history: recent_rounds(self.config),
            publisher,
            games: self.games.clone(),
            metrics: self.metrics.clone(),
            skipped: self.skipped.clone(),
            shutdown: self.shutdown.clone(),
        });
        (Box::pin(capture.run()), phase)
    }

    fn read_only_capture(
        &self,
        source: Source,
        publisher: Publisher,
    ) -> (CaptureTask, watch::Receiver<Phase>) {
        let (capture, phase) = ReadOnlyCapture::new(ReadOnlySettings {
            target: self.config.database.target.clone(),
            source,
            history: recent_rounds(self.config),
            publisher,
            games: self.games.clone(),
            metrics: self.metrics.clone(),
            skipped: self.skipped.clone(),
            shutdown: self.shutdown.clone(),
        });
        (Box::pin(capture.run()), phase)
    }

    fn maintenance(&self, phase: watch::Receiver<Phase>) -> anyhow::Result<Maintenance> {
        let pool = Pool::lazy(&self.config.database.target, "maintenance", 1);
        let pool = pool.context("the connection string names no host")?.writing();
        let queries =
            RoundQueries::new(QueryPools::one(&pool), self.metrics.clone(), self.skipped.clone());
        Ok(Maintenance {
            pool,
            phase,
            hub: self.hub.clone(),
            games: self.games.clone(),
            queries,
            retention: self.config.retention,
            metrics: self.metrics.clone(),
        })
    }

    fn shards(&self) -> anyhow::Result<(Shards, mpsc::Receiver<ShardError>)> {
        let settings = ShardSettings {
            count: self.config.shards,
            heartbeat: self.config.heartbeat,
            grace: self.config.shutdown_grace,
        };
        let keys = self.current_keys();
        Shards::start(settings, &self.hub, &self.budget, &keys, &self.metrics, self.shutdown)
            .context("cannot start the threads of the shards")
    }

    /// The keys by which leases are checked. There is no lease while tokens are off.
    fn current_keys(&self) -> CurrentKeys {
        self.verifier.as_ref().map(|verifier| verifier.current_keys().clone()).unwrap_or_default()
    }

    fn state(
        &self,
        phase: watch::Receiver<Phase>,
        advertised: Option<AdvertisedWebTransport>,
        settings: http::Settings,
    ) -> anyhow::Result<Arc<AppState>> {
        let limit = usize::try_from(self.config.resume_limit)?;
        let feed = Feed::new(
            self.hub.clone(),
            self.games.clone(),
            Arc::new(self.round_queries.clone()),
            limit,
            self.budget.clone(),
        );
        self.shutdown.spawn(feed.clone().remove_expired(self.shutdown.clone()));
        let (metrics, shutdown) = (self.metrics.clone(), self.shutdown.clone());
        let state = AppState::new(feed, phase, metrics, shutdown, settings, self.verifier.clone());
        Ok(Arc::new(state.advertising(advertised)))
    }

    fn settings(&self, limits: Limits) -> http::Settings {
        http::Settings {
            heartbeat: self.config.heartbeat,
            allowed_origins: self.config.allowed_origins.clone(),
            limiter: ConnectionLimiter::new(limits, self.metrics.clone()),
            trusted_proxies: self.config.trusted_proxies.clone(),
            budget: self.budget.clone(),
            access: self.config.access.as_ref().map(AccessSettings::from).unwrap_or_default(),
            has_internal: self.config.internal_addr.is_some(),
        }
    }
}

/// Shows the limits as gauges, so that an alert can compare a value with its limit.
fn measure_limits(config: &ServeConfig, limits: &Limits, metrics: &Metrics) {
    let or_none =
        |limit: Option<NonZeroU32>| limit.map_or(f64::INFINITY, |limit| limit.get().into());
    metrics.max_connections.set(i64::try_from(limits.streams).unwrap_or(i64::MAX));
    metrics.max_connections_per_address.set(or_none(limits.per_address));
    metrics.max_connects_per_second.set(or_none(limits.per_second));
    metrics.history_rounds.set(recent_rounds(config));
    metrics.resume_limit_rounds.set(config.resume_limit.into());
    metrics.retention_seconds.set(config.retention.as_secs_f64());
    metrics.heartbeat_seconds.set(config.heartbeat.as_secs_f64());
}

fn query_pools(config: &ServeConfig) -> anyhow::Result<QueryPools> {
    let lazy = if config.read_only.is_some() { Pool::lazy_read_only } else { Pool::lazy };
    let pool = |connections| {
        let pool = lazy(&config.database.target, "query", connections);
        pool.context("the connection string names no host. Set DATABASE_URL.")
    };
    Ok(QueryPools {
        lists: pool(LIST_CONNECTIONS)?,
        replays: pool(REPLAY_CONNECTIONS)?,
        directory: pool(DIRECTORY_CONNECTIONS)?,
    })
}

fn recent_rounds(config: &ServeConfig) -> i64 {
    i64::try_from(config.history.get()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_shard_that_ends_ends_the_process_as_a_failure() {
        let (failed, shards) = mpsc::channel(1);
        failed.send(ShardError::Panicked(3)).await.expect("room");
        let shutdown = Shutdown::default();
        let error = wait_for_end(shutdown.spawn(std::future::pending()), shards).await;
        assert_eq!(error.expect_err("a failure").to_string(), "shard 3 panicked");
    }

    #[tokio::test]
    async fn the_end_of_all_shards_in_a_stop_is_not_a_failure() {
        let shards = mpsc::channel(1).1;
        let shutdown = Shutdown::default();
        wait_for_end(shutdown.spawn(std::future::ready(Ok(()))), shards)
            .await
            .expect("a clean end");
    }
}
