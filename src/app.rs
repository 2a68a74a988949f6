//! The composition root: binds, wires, runs, stops.

use std::{net::SocketAddr, pin::Pin, sync::Arc};

use anyhow::Context;
use tokio::sync::watch;

use crate::{
    capture::{
        Capture, CaptureError, Parts, Phase, Trust,
        overlap::{OverlapCapture, OverlapParts},
    },
    config::{Payloads, ServeConfig},
    database::Pool,
    feed::Feed,
    games::Games,
    history::History,
    http::{self, Advertised, AppState, WebTransportGate, door},
    hub::{self, Publisher},
    maintenance::Maintenance,
    read_only::Source,
    shutdown::Shutdown,
    telemetry::metrics::Metrics,
    transport::{ShardSettings, Shards, places::Limits, wt::WebTransport},
};

/// Connections for clients' reads: replays beyond memory, round lists, unknown names.
const POOL: u32 = 4;

/// A server whose address is bound, so that it is known before anything is served.
#[derive(Debug)]
pub struct App {
    config: ServeConfig,
    door: door::Door,
    web_transport: Option<WebTransport>,
}

impl App {
    /// Binds the addresses.
    pub fn bind(config: ServeConfig) -> anyhow::Result<Self> {
        let door = door::bind(config.http_addr)?;
        let web_transport = config.web_transport.as_ref();
        let web_transport = web_transport.map(|wt| WebTransport::bind(wt, config.heartbeat));
        Ok(Self { door, web_transport: web_transport.transpose()?, config })
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
        let Self { config, door, web_transport } = self;
        let metrics = Metrics::default();
        let (hub, publisher) = hub::new(config.history, metrics.clone());
        let games = Games::default();
        let pool = Pool::lazy(&config.database.target, "query", POOL);
        let pool = pool.context("the connection string names no host")?;
        let source = config.read_only.as_ref().map(Source::new);
        let history = match source.clone() {
            None => History::new(pool.clone(), metrics.clone()),
            Some(source) => History::read_only(pool.clone(), metrics.clone(), source),
        };
        let read_only = source.is_some();
        let (capture, phase) = match source {
            None => with_outbox(&config, publisher, &games, &metrics, shutdown),
            Some(source) => without(&config, source, publisher, &games, &metrics, shutdown),
        };
        let maintenance = Maintenance {
            pool,
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
        let feed = Feed::new(hub, games, history, limit);
        let settings = http::Settings {
            heartbeat: config.heartbeat,
            allowed_origins: config.allowed_origins.clone(),
            limits: Limits {
                streams: door::connections_that_fit(config.max_connections),
                per_address: config.max_connections_per_address,
                per_second: config.max_connects_per_second,
            },
        };
        let advertised = web_transport
            .as_ref()
            .map(|wt| Advertised { certificate: wt.published(), port: wt.local_addr().port() });
        let state = AppState::new(feed, phase, metrics.clone(), shutdown.clone(), settings.clone());
        let state = Arc::new(state.advertising(advertised));
        tracing::info!(http.addr = %door.local_addr(), "listening");
        if let Some(web_transport) = web_transport {
            tracing::info!(wt.addr = %web_transport.local_addr(), "WebTransport is on");
            let gate = WebTransportGate::new(Arc::clone(&state));
            shutdown.spawn(web_transport.serve(gate, metrics, shutdown.clone()));
        }
        if !read_only {
            shutdown.spawn(maintenance.run(shutdown.clone()));
        }
        let stop = shutdown.clone();
        shutdown
            .spawn(async move { door.serve(http::router(state), shards, &settings, &stop).await });
        let captured = shutdown.spawn(capture);
        captured.await.context("the capture ended")?.map_err(anyhow::Error::new)
    }
}

/// The task that puts rounds on the stream, whichever it is.
type Capturing = Pin<Box<dyn Future<Output = Result<(), CaptureError>> + Send>>;

fn with_outbox(
    config: &ServeConfig,
    publisher: Publisher,
    games: &Games,
    metrics: &Metrics,
    shutdown: &Shutdown,
) -> (Capturing, watch::Receiver<Phase>) {
    let (capture, phase) = Capture::new(Parts {
        listen: config.database.listen.clone(),
        queries: config.database.target.clone(),
        history: history_of(config),
        trust: trust(config.payloads),
        publisher,
        games: games.clone(),
        metrics: metrics.clone(),
        shutdown: shutdown.clone(),
    });
    (Box::pin(capture.run()), phase)
}

fn without(
    config: &ServeConfig,
    source: Source,
    publisher: Publisher,
    games: &Games,
    metrics: &Metrics,
    shutdown: &Shutdown,
) -> (Capturing, watch::Receiver<Phase>) {
    let (capture, phase) = OverlapCapture::new(OverlapParts {
        target: config.database.target.clone(),
        source,
        history: history_of(config),
        publisher,
        games: games.clone(),
        metrics: metrics.clone(),
        shutdown: shutdown.clone(),
    });
    (Box::pin(capture.run()), phase)
}

fn history_of(config: &ServeConfig) -> i64 {
    i64::try_from(config.history.get()).unwrap_or(i64::MAX)
}

fn trust(payloads: Payloads) -> Trust {
    match payloads {
        Payloads::Trust => Trust::Payloads,
        Payloads::Verify => Trust::Outbox,
    }
}
