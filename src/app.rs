//! The composition root: binds, wires, runs, stops.

use std::net::SocketAddr;

use anyhow::Context;

use crate::{
    capture::{Capture, Parts, Trust},
    config::{Payloads, ServeConfig},
    database,
    feed::Feed,
    games::Games,
    history::History,
    http::{self, AppState, door},
    hub,
    maintenance::Maintenance,
    shutdown::Shutdown,
    telemetry::metrics::Metrics,
    transport::{ShardSettings, Shards, places::Limits},
};

/// Connections for clients' reads: replays beyond memory, round lists, unknown names.
const POOL: u32 = 4;

/// A server whose address is bound, so that it is known before anything is served.
#[derive(Debug)]
pub struct App {
    config: ServeConfig,
    door: door::Door,
}

impl App {
    /// Binds the addresses.
    pub fn bind(config: ServeConfig) -> anyhow::Result<Self> {
        anyhow::ensure!(!config.read_only, "--read-only is not available in this version");
        let web_transport = config.web_transport.is_none();
        anyhow::ensure!(web_transport, "WebTransport is not available in this version");
        let door = door::bind(config.http_addr)?;
        Ok(Self { config, door })
    }

    /// The bound HTTP address, with the port that the system chose for port 0.
    pub fn http_addr(&self) -> SocketAddr {
        self.door.local_addr()
    }

    /// Serves until a shutdown is requested, then lets every stream end within the grace period.
    pub async fn run(self, shutdown: Shutdown) -> anyhow::Result<()> {
        let grace = self.config.shutdown_grace;
        let served = self.serve(&shutdown).await;
        shutdown.request();
        if !shutdown.finish(grace).await {
            tracing::warn!(?grace, "not everything ended within the grace period");
        }
        served
    }

    async fn serve(self, shutdown: &Shutdown) -> anyhow::Result<()> {
        let Self { config, door } = self;
        let metrics = Metrics::default();
        let (hub, publisher) = hub::new(config.history, metrics.clone());
        let games = Games::default();
        let pool = database::lazy_pool(&config.database.target, "query", POOL);
        let pool = pool.context("the connection string names no host")?;
        let history = History::new(pool.clone(), metrics.clone());
        let (capture, phase) = Capture::new(Parts {
            listen: config.database.listen.clone(),
            queries: config.database.target.clone(),
            history: i64::try_from(config.history.get()).unwrap_or(i64::MAX),
            trust: trust(config.payloads),
            publisher,
            games: games.clone(),
            metrics: metrics.clone(),
            shutdown: shutdown.clone(),
        });
        let maintenance = Maintenance {
            pool,
            target: config.database.target.clone(),
            phase: phase.clone(),
            hub: hub.clone(),
            games: games.clone(),
            history: history.clone(),
            retention: config.retention,
            metrics: metrics.clone(),
        };
        let limit = usize::try_from(config.resume_limit)?;
        let shards = ShardSettings {
            count: config.shards,
            heartbeat: config.heartbeat,
            grace: config.shutdown_grace,
        };
        let shards = Shards::start(shards, &hub, &metrics, shutdown).context("no thread")?;
        let feed = Feed::new(hub, games, history, limit, metrics.clone());
        let settings = http::Settings {
            heartbeat: config.heartbeat,
            allowed_origins: config.allowed_origins.clone(),
            limits: Limits {
                streams: door::connections_that_fit(config.max_connections),
                per_address: config.max_connections_per_address,
                per_second: config.max_connects_per_second,
            },
        };
        let state = AppState::new(feed, phase, metrics, shutdown.clone(), settings.clone());
        tracing::info!(http.addr = %door.local_addr(), "listening");
        shutdown.spawn(maintenance.run(shutdown.clone()));
        let stop = shutdown.clone();
        shutdown
            .spawn(async move { door.serve(http::router(state), shards, &settings, &stop).await });
        let captured = shutdown.spawn(capture.run());
        captured.await.context("the capture ended")?.map_err(anyhow::Error::new)
    }
}

fn trust(payloads: Payloads) -> Trust {
    match payloads {
        Payloads::Trust => Trust::Payloads,
        Payloads::Verify => Trust::Outbox,
    }
}
