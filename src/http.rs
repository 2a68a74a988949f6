//! HTTP: routes, origins, limits, refusals.
//!
//! This module decides on every request with ordinary requests and responses. A [`connection`]
//! hands the socket of a granted stream to `transport`, which alone writes to its client.

pub(crate) mod accept_loop;
mod api;
mod authorization;
mod body;
mod bus_role;
mod certificate;
mod connection;
mod exchange;
mod hand_off;
mod handshake;
mod head;
mod health;
mod host;
pub(crate) mod internal;
mod lists;
mod origin;
mod page;
mod problem;
mod refused_head;
mod rounds;
mod selection;
mod stream;
mod stream_grants;
mod web_transport;

use std::{any::Any, sync::Arc, time::Duration};

use axum::{
    Router,
    http::{HeaderValue, Method, StatusCode, Uri, header},
    middleware,
    response::{IntoResponse, Response},
};
use tokio::sync::watch;
use tower_http::{catch_panic::CatchPanicLayer, set_header::SetResponseHeaderLayer};

use crate::{
    access::TokenVerifier,
    config::{AllowedOrigins, TrustedProxies},
    ops::{
        connection_limiter::ConnectionLimiter, memory_budget::MemoryBudget, phase::Phase,
        shutdown::Shutdown, telemetry::metrics::Metrics,
    },
    stream::feed::Feed,
};
pub(crate) use authorization::AccessSettings;
pub(crate) use bus_role::BusRole;
pub(crate) use certificate::AdvertisedWebTransport;
use problem::Problem;
use stream_grants::StreamGrants;
pub(crate) use web_transport::WebTransportAdmission;

/// The configuration of HTTP.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The time between two pings or heartbeat comments. A peer that takes nothing for twice this
    /// time is reset.
    pub heartbeat: Duration,
    /// The origins whose pages may subscribe.
    pub allowed_origins: AllowedOrigins,
    /// The limits on connections.
    pub limiter: ConnectionLimiter,
    /// The proxies that say the address of their client.
    pub trusted_proxies: TrustedProxies,
    /// The memory of the process.
    pub budget: MemoryBudget,
    /// The places for tokens.
    pub access: AccessSettings,
    /// Whether `/metrics` is on the internal listener alone.
    pub has_internal: bool,
}

/// The state of the handlers.
#[derive(Debug)]
pub(crate) struct AppState {
    feed: Feed,
    phase: watch::Receiver<Phase>,
    metrics: Metrics,
    shutdown: Shutdown,
    settings: Settings,
    grants: StreamGrants,
    /// Verifies tokens. `None`: every client may listen.
    verifier: Option<TokenVerifier>,
    web_transport: Option<AdvertisedWebTransport>,
    bus: BusRole,
}

impl AppState {
    /// The state without WebTransport.
    pub(crate) fn new(
        feed: Feed,
        phase: watch::Receiver<Phase>,
        metrics: Metrics,
        shutdown: Shutdown,
        settings: Settings,
        verifier: Option<TokenVerifier>,
    ) -> Self {
        let limiter = settings.limiter.clone();
        let grants = StreamGrants::new(feed.clone(), limiter, metrics.clone(), shutdown.clone());
        let (web_transport, bus) = (None, BusRole::None);
        Self { feed, phase, metrics, shutdown, settings, grants, verifier, web_transport, bus }
    }

    /// The same for a server with this role on the bus.
    pub(crate) fn on_bus(self, bus: BusRole) -> Self {
        Self { bus, ..self }
    }

    /// The same, with WebTransport advertised to pages if it is on.
    pub(crate) fn advertising(self, web_transport: Option<AdvertisedWebTransport>) -> Self {
        Self { web_transport, ..self }
    }
}

/// The state as handlers get it. A request clones one `Arc` instead of each handle.
pub(crate) type SharedState = Arc<AppState>;

/// All routes, and the layers around them.
pub(crate) fn router(state: SharedState) -> Router {
    let cors = origin::cors(&state.settings.allowed_origins);
    let nosniff = HeaderValue::from_static("nosniff");
    Router::new()
        .merge(stream::router())
        .merge(rounds::router())
        .merge(lists::router())
        .merge(certificate::router())
        .merge(health::router(state.settings.has_internal))
        .merge(page::router())
        .merge(api::router())
        .fallback(unknown_route)
        .method_not_allowed_fallback(unknown_method)
        .with_state(state)
        .layer(middleware::from_fn(body::refuse))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(SetResponseHeaderLayer::overriding(header::X_CONTENT_TYPE_OPTIONS, nosniff))
        .layer(cors)
}

async fn unknown_route(uri: Uri) -> Problem {
    Problem::not_found(format!("no route matches {}", uri.path()))
}

/// axum adds the `Allow` header.
async fn unknown_method(method: Method, uri: Uri) -> Problem {
    let detail = format!("{} does not support {method}", uri.path());
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail)
}

/// A defect. The panic hook has logged it; the client sees no details.
fn panicked(_: Box<dyn Any + Send>) -> Response {
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the server failed: retry with backoff")
        .into_response()
}
