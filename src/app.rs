//! The composition root: binds, wires, runs, stops.

use std::{net::SocketAddr, pin::Pin, sync::Arc};

use anyhow::Context;
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};

use crate::{
    config::{Payloads, ServeConfig},
    http::{self, Advertised, AppState, WebTransportGate, accept_loop},
    ops::{
        connection_limiter::Limits, descriptors, phase::Phase, shutdown::Shutdown,
        telemetry::metrics::Metrics,
    },
    postgres::{
        maintenance::Maintenance, pool::Pool, read_only::Source, round_queries::RoundQueries,
    },
    source::{
        Capture, CaptureError, Parts, Trust,
        read_only::{OverlapCapture, OverlapParts},
    },
    stream::{
        feed::Feed,
        games::Games,
        hub::{self, Hub, Publisher},
    },
    transport::{ShardError, ShardSettings, Shards, wt::WebTransport},
};

/// Connections for clients' reads: replays beyond memory, round lists, unknown names.
const POOL: u32 = 4;

/// A server whose address is bound, so that it is known before anything is served.
#[derive(Debug)]
pub struct App {
    config: ServeConfig,
    door: accept_loop::Door,
    web_transport: Option<WebTransport>,
}

impl App {
    /// Binds the addresses.
    pub fn bind(config: ServeConfig) -> anyhow::Result<Self> {
        let door = accept_loop::bind(config.http_addr)?;
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
        let (wiring, publisher) = Wiring::new(&config, shutdown)?;
        let (capture, phase) = wiring.capture(publisher);
        let (shards, failed) = wiring.shards()?;
        let settings = wiring.settings();
        let advertised = web_transport
            .as_ref()
            .map(|wt| Advertised { certificate: wt.published(), port: wt.local_addr().port() });
        let state = wiring.state(phase.clone(), advertised, settings.clone())?;
        tracing::info!(http.addr = %door.local_addr(), "listening");
        if let Some(web_transport) = web_transport {
            tracing::info!(wt.addr = %web_transport.local_addr(), "WebTransport is on");
            let gate = WebTransportGate::new(Arc::clone(&state));
            shutdown.spawn(web_transport.serve(gate, wiring.metrics.clone(), shutdown.clone()));
        }
        if wiring.source.is_none() {
            shutdown.spawn(wiring.maintenance(phase).run(shutdown.clone()));
        }
        let stop = shutdown.clone();
        shutdown
            .spawn(async move { door.serve(http::router(state), shards, &settings, &stop).await });
        ended(shutdown.spawn(capture), failed).await
    }
}

/// Waits for the capture, which ends with the process, or for what ends the process before that.
async fn ended(
    capture: JoinHandle<Result<(), CaptureError>>,
    mut shards: mpsc::Receiver<ShardError>,
) -> anyhow::Result<()> {
    tokio::select! {
        captured = capture => captured.context("the capture ended")?.map_err(anyhow::Error::new),
        Some(error) = shards.recv() => Err(error.into()),
    }
}

/// The task that puts rounds on the stream, whichever it is.
type Capturing = Pin<Box<dyn Future<Output = Result<(), CaptureError>> + Send>>;

/// What the parts of the server share.
struct Wiring<'a> {
    config: &'a ServeConfig,
    shutdown: &'a Shutdown,
    metrics: Metrics,
    hub: Hub,
    games: Games,
    pool: Pool,
    history: RoundQueries,
    /// Where rounds come from without our schema.
    source: Option<Source>,
}

impl<'a> Wiring<'a> {
    fn new(config: &'a ServeConfig, shutdown: &'a Shutdown) -> anyhow::Result<(Self, Publisher)> {
        let metrics = Metrics::default();
        let (hub, publisher) = hub::new(config.history, metrics.clone());
        let pool = Pool::lazy(&config.database.target, "query", POOL);
        let pool = pool.context("the connection string names no host")?;
        let source = config.read_only.as_ref().map(Source::new);
        let history = match source.clone() {
            None => RoundQueries::new(pool.clone(), metrics.clone()),
            Some(source) => RoundQueries::read_only(pool.clone(), metrics.clone(), source),
        };
        let games = Games::default();
        let wiring = Self { config, shutdown, metrics, hub, games, pool, history, source };
        Ok((wiring, publisher))
    }

    fn capture(&self, publisher: Publisher) -> (Capturing, watch::Receiver<Phase>) {
        match self.source.clone() {
            None => self.with_outbox(publisher),
            Some(source) => self.without(source, publisher),
        }
    }

    fn with_outbox(&self, publisher: Publisher) -> (Capturing, watch::Receiver<Phase>) {
        let (capture, phase) = Capture::new(Parts {
            listen: self.config.database.listen.clone(),
            queries: self.config.database.target.clone(),
            history: history_of(self.config),
            trust: trust(self.config.payloads),
            publisher,
            games: self.games.clone(),
            metrics: self.metrics.clone(),
            shutdown: self.shutdown.clone(),
        });
        (Box::pin(capture.run()), phase)
    }

    fn without(&self, source: Source, publisher: Publisher) -> (Capturing, watch::Receiver<Phase>) {
        let (capture, phase) = OverlapCapture::new(OverlapParts {
            target: self.config.database.target.clone(),
            source,
            history: history_of(self.config),
            publisher,
            games: self.games.clone(),
            metrics: self.metrics.clone(),
            shutdown: self.shutdown.clone(),
        });
        (Box::pin(capture.run()), phase)
    }

    fn maintenance(&self, phase: watch::Receiver<Phase>) -> Maintenance {
        Maintenance {
            pool: self.pool.clone(),
            phase,
            hub: self.hub.clone(),
            games: self.games.clone(),
            history: self.history.clone(),
            retention: self.config.retention,
            metrics: self.metrics.clone(),
        }
    }

    fn shards(&self) -> anyhow::Result<(Shards, mpsc::Receiver<ShardError>)> {
        let settings = ShardSettings {
            count: self.config.shards,
            heartbeat: self.config.heartbeat,
            grace: self.config.shutdown_grace,
        };
        Shards::start(settings, &self.hub, &self.metrics, self.shutdown).context("no thread")
    }

    fn state(
        &self,
        phase: watch::Receiver<Phase>,
        advertised: Option<Advertised>,
        settings: http::Settings,
    ) -> anyhow::Result<Arc<AppState>> {
        let limit = usize::try_from(self.config.resume_limit)?;
        let feed =
            Feed::new(self.hub.clone(), self.games.clone(), Arc::new(self.history.clone()), limit);
        self.shutdown.spawn(feed.clone().remove_expired(self.shutdown.clone()));
        let (metrics, shutdown) = (self.metrics.clone(), self.shutdown.clone());
        let state = AppState::new(feed, phase, metrics, shutdown, settings);
        Ok(Arc::new(state.advertising(advertised)))
    }

    fn settings(&self) -> http::Settings {
        http::Settings {
            heartbeat: self.config.heartbeat,
            allowed_origins: self.config.allowed_origins.clone(),
            limits: Limits {
                streams: descriptors::connections_that_fit(self.config.max_connections),
                per_address: self.config.max_connections_per_address,
                per_second: self.config.max_connects_per_second,
            },
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_shard_that_ends_ends_the_process_as_a_failure() {
        let (failed, shards) = mpsc::channel(1);
        failed.send(ShardError::Panicked(3)).await.expect("room");
        let shutdown = Shutdown::default();
        let error = ended(shutdown.spawn(std::future::pending()), shards).await;
        assert_eq!(error.expect_err("a failure").to_string(), "shard 3 panicked");
    }

    #[tokio::test]
    async fn the_end_of_all_shards_in_a_stop_is_none() {
        let shards = mpsc::channel(1).1;
        let shutdown = Shutdown::default();
        ended(shutdown.spawn(std::future::ready(Ok(()))), shards).await.expect("a clean end");
    }
}
