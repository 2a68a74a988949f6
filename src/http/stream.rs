//! The stream routes: `/ws…` and `/sse…`. Each request is checked to the end, refused with a
//! problem body or granted a place; only then is its subscription opened and handed to `transport`.
//!
//! The order of the checks is part of the contract: malformed (400), origin (403, handshakes only),
//! unknown game or type (404), no upgrade (426), full (503; WebTransport: 429).

use std::collections::HashMap;

use axum::{
    Router,
    body::Body,
    extract::{FromRequestParts, Path, Query, Request, State},
    http::{
        HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header, request::Parts,
    },
    response::{IntoResponse, Response},
    routing::get,
};
use futures_util::stream;
use hyper_util::rt::TokioIo;

use super::{
    AppState, Shared, handshake, origin,
    problem::Problem,
    selection::{self, Named, Parameters},
};
use crate::{
    round::RoundId,
    telemetry::metrics::Transport,
    topic::Topic,
    transport::{Record, Session, link::LinkHandle, sse, ws},
};

/// Tells nginx, and what took the header over from it, not to collect events in a buffer.
const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");
/// A full server is asked again after 1 to this many seconds, so that not all come back at once.
const FULL_RETRY_SECONDS_MAX: u8 = 10;

pub(super) fn router() -> Router<Shared> {
    Router::new()
        .route("/ws", get(web_socket))
        .route("/ws/{game}", get(web_socket))
        .route("/ws/type/{type}", get(web_socket))
        .route("/sse", get(events))
        .route("/sse/{game}", get(events))
        .route("/sse/type/{type}", get(events))
}

async fn web_socket(
    State(state): State<Shared>,
    asked: Asked,
    mut request: Request,
) -> Result<Response, Problem> {
    let headers = request.headers();
    let is_upgrade = handshake::is_upgrade(request.method(), request.version(), headers);
    let after = selection::after(&asked.parameters)?;
    if is_upgrade {
        origin::guard(&state.settings.allowed_origins, headers)?;
    }
    let topic = state.topic(asked).await?;
    if !is_upgrade {
        return Err(handshake::upgrade_required());
    }
    let accept = handshake::accept(headers)?;
    let session = state.admit(Transport::websocket, &topic, after, link(&request)).await?;
    state.shutdown.spawn(upgraded(hyper::upgrade::on(&mut request), session));
    Ok(handshake::switching(accept).into_response())
}

/// Waits until the 101 is sent and the connection is ours. The session begins with what its
/// subscription has gathered by then: nothing falls in between.
async fn upgraded(upgrade: hyper::upgrade::OnUpgrade, session: Session) {
    match upgrade.await {
        Ok(connection) => ws::serve(TokioIo::new(connection), session).await,
        Err(error) => tracing::debug!(%error, "the client left before the upgrade"),
    }
}

async fn events(
    State(state): State<Shared>,
    asked: Asked,
    request: Request,
) -> Result<Response, Problem> {
    let after = selection::last_event_id(request.headers(), &asked.parameters)?;
    let topic = state.topic(asked).await?;
    let body = if request.method() == Method::HEAD {
        // Of unknown length like the real one: an empty body would announce `content-length: 0`.
        Body::from_stream(stream::empty::<Result<&str, std::convert::Infallible>>())
    } else {
        let session = state.admit(Transport::sse, &topic, after, link(&request)).await?;
        Body::from_stream(sse::body(session))
    };
    let mut response = (event_headers(request.version(), request.headers()), body).into_response();
    // A 1.1 response to a 1.0 request that asks for keep-alive would have hyper promise it.
    *response.version_mut() = request.version();
    Ok(response)
}

/// The head of an event stream. `keep-alive` is the contract's, for HTTP/1.1 alone; it would be
/// untrue for a client that wants the connection closed, and for HTTP/1.0, where the close is what
/// ends the body.
fn event_headers(version: Version, request: &HeaderMap) -> HeaderMap {
    let closes = handshake::lists(request, &header::CONNECTION, "close");
    let stays = version == Version::HTTP_11 && !closes;
    let connection = HeaderValue::from_static(if stays { "keep-alive" } else { "close" });
    HeaderMap::from_iter([
        (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform")),
        (X_ACCEL_BUFFERING, HeaderValue::from_static("no")),
        (header::CONNECTION, connection),
    ])
}

/// The socket under this request, as the door marked it.
fn link(request: &Request) -> LinkHandle {
    request.extensions().get().cloned().unwrap_or_default()
}

impl AppState {
    pub(super) async fn topic(&self, asked: Asked) -> Result<Topic, Problem> {
        let selection = selection::selection(asked.named, &asked.parameters)?;
        Ok(self.feed.topic(&selection).await?)
    }

    /// Grants a place and opens the subscription.
    pub(super) async fn admit(
        &self,
        transport: Transport,
        topic: &Topic,
        after: Option<RoundId>,
        link: LinkHandle,
    ) -> Result<Session, Problem> {
        if self.shutdown.is_requested() {
            return Err(Problem::unavailable("the server is shutting down", 1));
        }
        let Ok(place) = self.places.clone().try_acquire_owned() else {
            self.metrics.connections_refused_total.inc();
            return Err(full(transport));
        };
        let (opening, subscription) = self.feed.open(topic, after).await?;
        Ok(Session {
            opening,
            subscription,
            heartbeat: self.settings.heartbeat,
            shutdown: self.shutdown.clone(),
            record: Record::open(&self.metrics, transport, &self.shutdown, link, place),
        })
    }
}

/// A full server. Over WebTransport no header reaches a page: its status alone has to say that it
/// is the number of streams, not the server, that is in the way.
fn full(transport: Transport) -> Problem {
    let status = match transport {
        Transport::webtransport => StatusCode::TOO_MANY_REQUESTS,
        Transport::websocket | Transport::sse => StatusCode::SERVICE_UNAVAILABLE,
    };
    let seconds = fastrand::u8(1..=FULL_RETRY_SECONDS_MAX);
    let seconds = HeaderValue::from(u16::from(seconds));
    Problem::new(status, "the server is full").with(header::RETRY_AFTER, seconds)
}

/// What the path and the query of a stream request say.
pub(super) struct Asked {
    named: Named,
    pub(super) parameters: Parameters,
}

impl<S: Send + Sync> FromRequestParts<S> for Asked {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = Path::<HashMap<String, String>>::from_request_parts(parts, state).await;
        let Path(mut path) = path.map_err(|error| Problem::malformed(error.body_text()))?;
        let query = Query::<Parameters>::from_request_parts(parts, state).await;
        let Query(parameters) = query.map_err(|error| Problem::malformed(error.body_text()))?;
        let named = match (path.remove("game"), path.remove("type")) {
            (Some(game), _) => Named::Game(game),
            (None, Some(kind)) => Named::Type(kind),
            (None, None) => Named::Nothing,
        };
        Ok(Self { named, parameters })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_http_1_1_is_told_that_the_connection_stays() {
        let keep = event_headers(Version::HTTP_11, &HeaderMap::new());
        assert_eq!(keep[header::CONNECTION], "keep-alive");
        assert_eq!(keep[header::CACHE_CONTROL], "no-cache, no-transform");
        let old = event_headers(Version::HTTP_10, &HeaderMap::new());
        assert_eq!(old[header::CONNECTION], "close");
        let close = HeaderValue::from_static("close");
        let closing = HeaderMap::from_iter([(header::CONNECTION, close)]);
        assert_eq!(event_headers(Version::HTTP_11, &closing)[header::CONNECTION], "close");
    }
}
