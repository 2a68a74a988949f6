//! The HTTP side: who may have what.
//!
//! Everything is decided here, on ordinary requests and responses: routes, origins, limits, what is
//! unknown or malformed, and what a refusal looks like. A stream that is granted leaves at the
//! [`door`], and `transport` alone writes to its client.

pub(crate) mod accept_loop;
mod access;
mod certificate;
mod hand_off;
mod handshake;
mod head;
mod health;
mod origin;
mod page;
mod problem;
mod rounds;
mod selection;
mod stream;
mod web_transport;

use std::{any::Any, sync::Arc, time::Duration};

use axum::{
    Router,
    body::HttpBody,
    extract::Request,
    http::{HeaderValue, Method, StatusCode, Uri, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use tokio::sync::watch;
use tower_http::{catch_panic::CatchPanicLayer, set_header::SetResponseHeaderLayer};

use crate::{
    config::AllowedOrigins,
    ops::{
        connection_limiter::Limits, phase::Phase, shutdown::Shutdown, telemetry::metrics::Metrics,
    },
    stream::feed::Feed,
};
use access::StreamAccess;
pub(crate) use certificate::AdvertisedWebTransport;
use problem::Problem;
pub(crate) use web_transport::WebTransportAdmission;

/// What the HTTP side is told by the configuration.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The time between two pings or heartbeat comments. A peer that takes nothing for two of them
    /// is let go.
    pub heartbeat: Duration,
    /// Whose pages may use the feed.
    pub allowed_origins: AllowedOrigins,
    /// How many streams there may be; see [`door::connections_that_fit`].
    pub limits: Limits,
}

/// What the handlers work with.
#[derive(Debug)]
pub(crate) struct AppState {
    feed: Feed,
    phase: watch::Receiver<Phase>,
    metrics: Metrics,
    shutdown: Shutdown,
    settings: Settings,
    access: StreamAccess,
    web_transport: Option<AdvertisedWebTransport>,
}

impl AppState {
    /// Puts the handles together.
    pub(crate) fn new(
        feed: Feed,
        phase: watch::Receiver<Phase>,
        metrics: Metrics,
        shutdown: Shutdown,
        settings: Settings,
    ) -> Self {
        let access =
            StreamAccess::new(feed.clone(), settings.limits, metrics.clone(), shutdown.clone());
        Self { feed, phase, metrics, shutdown, settings, access, web_transport: None }
    }

    /// The same, telling pages of WebTransport where it is on.
    pub(crate) fn advertising(self, web_transport: Option<AdvertisedWebTransport>) -> Self {
        Self { web_transport, ..self }
    }
}

/// The state as handlers get it: one counter a request, however many handles it has.
pub(crate) type SharedState = Arc<AppState>;

/// All routes, and what holds for each of them.
pub(crate) fn router(state: SharedState) -> Router {
    let cors = origin::cors(&state.settings.allowed_origins);
    let nosniff = HeaderValue::from_static("nosniff");
    Router::new()
        .merge(stream::router())
        .merge(rounds::router())
        .merge(certificate::router())
        .merge(health::router())
        .merge(page::router())
        .fallback(unknown_route)
        .method_not_allowed_fallback(unknown_method)
        .with_state(state)
        .layer(middleware::from_fn(refuse_body))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(SetResponseHeaderLayer::overriding(header::X_CONTENT_TYPE_OPTIONS, nosniff))
        .layer(cors)
}

async fn unknown_route(uri: Uri) -> Problem {
    Problem::not_found(format!("there is nothing at {}", uri.path()))
}

/// axum adds the `Allow` header.
async fn unknown_method(method: Method, uri: Uri) -> Problem {
    let detail = format!("{} does not answer {method}", uri.path());
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail)
}

/// No route reads a body. One that is announced is refused before it is read, and the connection
/// ends with the answer, so that nobody can make the server take in bytes for nothing.
async fn refuse_body(request: Request, next: Next) -> Response {
    if request.body().size_hint().exact() == Some(0) {
        return next.run(request).await;
    }
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "this server takes no request bodies")
        .with(header::CONNECTION, HeaderValue::from_static("close"))
        .into_response()
}

/// A defect: the panic hook has logged it, the client gets nothing of it.
fn panicked(_: Box<dyn Any + Send>) -> Response {
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the server failed: retry with backoff")
        .into_response()
}
