//! The composition root: binds, wires, runs, stops.

mod capture;
mod feeder;
mod wiring;

use std::{
    net::SocketAddr,
    num::{NonZeroU32, NonZeroUsize},
    sync::Arc,
};

use anyhow::Context;
use tokio::{
    sync::{
        mpsc,
        oneshot::{self, error::RecvError},
    },
    task::JoinHandle,
};

pub use self::capture::CaptureApp;
use self::wiring::Wiring;
use crate::{
    access::UnusableKeys,
    config::ServeConfig,
    http::{
        self, AdvertisedWebTransport, SharedState, WebTransportAdmission,
        accept_loop::{self, AcceptLoop},
        internal::{self, InternalListener},
    },
    ops::{
        connection_limiter::Limits, descriptors, own_thread, shutdown::Shutdown,
        telemetry::metrics::Metrics,
    },
    transport::{
        ShardError,
        tls::TlsFailure,
        wt::{BindError, WebTransport},
    },
};

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
        let (feeding, phase) = wiring.feeder.start(&wiring, publisher);
        let (shards, failed) = wiring.shards()?;
        measure_limits(&config, &limits, &wiring.metrics);
        let settings = wiring.settings(limits);
        let tls = wiring.tls()?;
        let advertised = web_transport.as_ref().map(advertised);
        let state = wiring.state(phase.clone(), advertised, settings.clone())?;
        // The receiver waits as long as this runs.
        let _ = internal.send(Arc::clone(&state));
        let (addr, node) = (accept_loop.local_addr(), &config.node);
        tracing::info!(http.addr = %addr, tls = tls.is_some(), %node, "listening");
        if let Some(web_transport) = web_transport {
            serve_web_transport(web_transport, &wiring, &state, &settings);
        }
        if let Some(maintenance) = wiring.feeder.maintenance(&wiring, phase)? {
            shutdown.spawn_until_requested(maintenance.run());
        }
        let stop = shutdown.clone();
        shutdown.spawn(async move {
            accept_loop.serve(http::router(state), shards, tls, &settings, &stop).await;
        });
        let feeding = own_thread::run("capture", feeding)?;
        wait_for_end(shutdown.spawn(feeding), failed).await
    }
}

/// What pages need to know of WebTransport.
fn advertised(web_transport: &WebTransport) -> AdvertisedWebTransport {
    AdvertisedWebTransport {
        certificate: web_transport.published(),
        port: web_transport.local_addr().port(),
    }
}

/// Serves sessions in a task.
fn serve_web_transport(
    web_transport: WebTransport,
    wiring: &Wiring<'_>,
    state: &SharedState,
    settings: &http::Settings,
) {
    tracing::info!(wt.addr = %web_transport.local_addr(), "WebTransport is on");
    let serving = web_transport.serve(
        WebTransportAdmission::new(Arc::clone(state)),
        settings.limiter.clone(),
        wiring.current_keys(),
        wiring.metrics.clone(),
        wiring.shutdown.clone(),
    );
    wiring.shutdown.spawn(serving);
}

/// Why the keys or certificates that were configured cannot be used, if that ended the server.
pub(crate) fn unusable_files(error: &anyhow::Error) -> Option<String> {
    let keys = error.downcast_ref::<UnusableKeys>().map(ToString::to_string);
    let tls = error.downcast_ref::<TlsFailure>().map(ToString::to_string);
    let bound = error.downcast_ref::<BindError>().filter(|it| it.is_of_configuration());
    keys.or(tls).or(bound.map(ToString::to_string))
}

/// Waits for the end of what feeds the hub, or for a shard that fails.
async fn wait_for_end(
    feeding: JoinHandle<Result<anyhow::Result<()>, RecvError>>,
    mut shards: mpsc::Receiver<ShardError>,
) -> anyhow::Result<()> {
    tokio::select! {
        fed = feeding => fed?.context("the capture panicked")?,
        Some(error) = shards.recv() => Err(error.into()),
    }
}

/// Shows the limits as gauges, so that an alert can compare a value with its limit.
fn measure_limits(config: &ServeConfig, limits: &Limits, metrics: &Metrics) {
    let or_none =
        |limit: Option<NonZeroU32>| limit.map_or(f64::INFINITY, |limit| limit.get().into());
    metrics.max_connections.set(i64::try_from(limits.streams).unwrap_or(i64::MAX));
    metrics.max_connections_per_address.set(or_none(limits.per_address));
    metrics.max_connects_per_second.set(or_none(limits.per_second));
    metrics.history_rounds.set(recent_rounds(config.history));
    metrics.resume_limit_rounds.set(config.resume_limit.into());
    metrics.retention_seconds.set(config.retention.as_secs_f64());
    metrics.heartbeat_seconds.set(config.heartbeat.as_secs_f64());
}

fn recent_rounds(history: NonZeroUsize) -> i64 {
    i64::try_from(history.get()).unwrap_or(i64::MAX)
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
        wait_for_end(shutdown.spawn(std::future::ready(Ok(Ok(())))), shards)
            .await
            .expect("a clean end");
    }
}
