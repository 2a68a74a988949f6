//! The stream routes: `/ws…` and `/sse…`. Each request is refused with a problem body, or granted a
//! stream, which the task of the connection hands to a shard.
//!
//! The order of the checks is part of the contract: malformed (400), origin (403, not for events),
//! token (401, 403), unknown game or type (404), no upgrade (426), limit reached (503; WebTransport:
//! 429).

use std::{collections::HashMap, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::{FromRequestParts, Path, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, Version, header, request::Parts},
    response::{IntoResponse, Response},
    routing::get,
};
use futures_util::stream;
use tokio::sync::watch;

use super::{
    AppState, SharedState,
    authorization::{Presented, RouteKind},
    hand_off, handshake, origin,
    problem::Problem,
    selection::{self, Parameters, PathSelection},
};
use crate::{
    ops::phase::Phase,
    stream::{feed::FeedError, start_point::StartPoint, topic::Selection},
    transport::{Protocol, retry_line},
};

/// How long an `EventSource` waits for a server that is not ready. Clients give up after 4 to 5 s
/// without a head: LaunchDarkly's Java client, httpx, reconnecting-websocket.
const ANSWER_WITHIN: Duration = Duration::from_millis(1_800);
/// Turns off the buffering of events in nginx, and in proxies that know the same header.
const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

pub(super) fn router() -> Router<SharedState> {
    Router::new()
        .route("/ws", get(web_socket))
        .route("/ws/{game}", get(web_socket))
        .route("/ws/type/{type}", get(web_socket))
        .route("/sse", get(events))
        .route("/sse/{game}", get(events))
        .route("/sse/type/{type}", get(events))
}

async fn web_socket(
    State(state): State<SharedState>,
    stream_request: StreamRequest,
    request: Request,
) -> Result<Response, Problem> {
    let headers = request.headers();
    let is_upgrade = handshake::is_upgrade(request.method(), request.version(), headers);
    let (selection, start) = (stream_request.selection()?, stream_request.start()?);
    if is_upgrade {
        handshake::check_key(headers)?;
    }
    origin::guard(&state.settings.allowed_origins, headers)?;
    let presented = stream_request.presented(RouteKind::WebSocket, headers);
    let permission = state.permission_for(&selection, presented).await?;
    let topic = match state.feed.topic(&selection).await {
        Err(unknown @ FeedError::Unknown(_)) => return Err(unknown.into()),
        _ if !is_upgrade => return Err(handshake::upgrade_required()),
        topic => topic?,
    };
    let accept = handshake::accept(headers)?;
    let client = hand_off::client(request.extensions());
    let lease = permission.lease();
    let grant = state.grants.stream(Protocol::WebSocket, client, topic, start, lease).await?;
    Ok(grant.attach_to(handshake::switching(accept, headers)))
}

async fn events(
    State(state): State<SharedState>,
    stream_request: StreamRequest,
    request: Request,
) -> Result<Response, Problem> {
    let (request, _) = request.into_parts();
    let opened = open_events(&state, stream_request, &request);
    let mut response = if is_event_source(&request) {
        retry_if_temporary(state.phase.clone(), opened).await?
    } else {
        opened.await?
    };
    // An HTTP/1.1 response to an HTTP/1.0 request with keep-alive would promise keep-alive.
    *response.version_mut() = request.version;
    Ok(response)
}

/// Answers an `EventSource`, within [`ANSWER_WITHIN`] if the server is not ready.
async fn retry_if_temporary(
    phase: watch::Receiver<Phase>,
    opened: impl Future<Output = Result<Response, Problem>>,
) -> Result<Response, Problem> {
    let opened = tokio::select! {
        opened = opened => opened,
        () = unready(phase) => return Ok(retry_later("the server is not ready")),
    };
    match opened {
        Err(problem) => match problem.retry_reason() {
            Some(reason) => Ok(retry_later(reason)),
            None => Err(problem),
        },
        opened => opened,
    }
}

/// Ends once [`ANSWER_WITHIN`] has passed and the capture is not live.
async fn unready(mut phase: watch::Receiver<Phase>) {
    tokio::time::sleep(ANSWER_WITHIN).await;
    if phase.wait_for(|phase| !matches!(phase, Phase::Live { .. })).await.is_err() {
        // The server stops, which ends all requests.
        std::future::pending::<()>().await;
    }
}

/// Whether the client is an `EventSource`: browsers always send this header.
fn is_event_source(request: &Parts) -> bool {
    request.method == Method::GET && handshake::accepts(&request.headers, "text/event-stream")
}

/// An event stream that ends at once, so that an `EventSource` reconnects with its last id. Any
/// status other than 200 would stop it for good (WHATWG HTML, "server-sent events", "fail the
/// connection").
fn retry_later(reason: &str) -> Response {
    let head = event_headers(Version::HTTP_10, &HeaderMap::new());
    // One block, because each block without data is an empty event to many handlers. Without its blank
    // line, two libraries wait 3 s (go-sse, r3labs/sse).
    (head, format!("{}: {reason}\n\n", retry_line())).into_response()
}

/// The head of an event stream. The contract requires `keep-alive`, which is for HTTP/1.1 only: in
/// HTTP/1.0 the close ends the body. A client may also ask for `close`.
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

/// The head of an event stream with its grant, or the head alone for `HEAD`.
async fn open_events(
    state: &AppState,
    stream_request: StreamRequest,
    request: &Parts,
) -> Result<Response, Problem> {
    let start = selection::events_start_point(&request.headers, &stream_request.parameters)?;
    let selection = stream_request.selection()?;
    let presented = stream_request.presented(RouteKind::Events, &request.headers);
    let permission = state.permission_for(&selection, presented).await?;
    let topic = state.feed.topic(&selection).await?;
    let head = event_headers(request.version, &request.headers);
    let client = hand_off::client(&request.extensions);
    if request.method == Method::HEAD {
        // The status of GET (RFC 9110, section 9.3.2): browsers hide the status of a refused
        // WebSocket, so a page asks for it here.
        state.grants.check(client.address)?;
        // Of unknown length like the stream: an empty body would announce `content-length: 0`.
        let body = Body::from_stream(stream::empty::<Result<&str, std::convert::Infallible>>());
        return Ok((head, body).into_response());
    }
    let protocol = match request.version {
        Version::HTTP_10 => Protocol::Plain,
        _ => Protocol::Chunked,
    };
    let lease = permission.lease();
    Ok(state.grants.stream(protocol, client, topic, start, lease).await?.attach_to(head))
}

/// The path and the query of a stream request.
pub(super) struct StreamRequest {
    path_selection: PathSelection,
    parameters: Parameters,
}

impl StreamRequest {
    /// The selection, or 400 if it is too long.
    pub(super) fn selection(&self) -> Result<Selection, Problem> {
        selection::selection(&self.path_selection, &self.parameters)
    }

    /// The start of the stream by the query.
    pub(super) fn start(&self) -> Result<StartPoint, Problem> {
        selection::start_point(&self.parameters)
    }

    /// The places for a token.
    pub(super) fn presented<'a>(
        &'a self,
        kind: RouteKind,
        headers: &'a HeaderMap,
    ) -> Presented<'a> {
        Presented { kind, headers, parameters: &self.parameters }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for StreamRequest {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = Path::<HashMap<String, String>>::from_request_parts(parts, state).await;
        let Path(mut path) = path.map_err(|error| Problem::malformed(error.body_text()))?;
        let parameters = selection::parameters(parts.uri.query())?;
        let path_selection = match (path.remove("game"), path.remove("type")) {
            (Some(game), _) => PathSelection::Game(game),
            (None, Some(kind)) => PathSelection::Type(kind),
            (None, None) => PathSelection::Nothing,
        };
        Ok(Self { path_selection, parameters })
    }
}

#[cfg(test)]
mod tests {
    use std::{num::NonZeroUsize, sync::Arc};

    use axum::{body::to_bytes, http::StatusCode};
    use tower::ServiceExt;

    use super::*;
    use crate::{
        config::AllowedOrigins,
        http::{self, Settings},
        ops::{
            connection_limiter::{ConnectionLimiter, Limits},
            memory_budget::MemoryBudget,
            shutdown::Shutdown,
            telemetry::metrics::Metrics,
        },
        postgres::{
            pool::Pool,
            round_queries::{QueryPools, RoundQueries},
            target::PgTarget,
        },
        stream::{
            feed::Feed,
            games::Games,
            hub::{self, Publisher},
            skipped_rounds::SkippedRounds,
        },
    };

    /// All routes, on a hub without a database.
    fn routes(limits: Limits, shutdown: &Shutdown) -> (Router, Publisher) {
        let metrics = Metrics::default();
        let (hub, publisher) = hub::new(NonZeroUsize::MIN, metrics.clone());
        publisher.open();
        let target = PgTarget::resolve(Some("host=nowhere user=u dbname=d"), |_| None);
        let pool = Pool::lazy(&target.expect("a target"), "query", 1).expect("a pool");
        let queries = Arc::new(RoundQueries::new(
            QueryPools::one(&pool),
            metrics.clone(),
            SkippedRounds::new(metrics.clone(), 1 << 20),
        ));
        let feed = Feed::new(hub, Games::default(), queries, 1, MemoryBudget::unlimited());
        let allowed_origins = AllowedOrigins::Any;
        let settings = Settings {
            heartbeat: Duration::from_secs(15),
            allowed_origins,
            limiter: ConnectionLimiter::new(limits, metrics.clone()),
            trusted_proxies: Default::default(),
            budget: MemoryBudget::unlimited(),
            access: Default::default(),
            has_internal: false,
        };
        let phase = watch::channel(Phase::CatchingUp).1;
        let state = AppState::new(feed, phase, metrics, shutdown.clone(), settings, None);
        (http::router(Arc::new(state)), publisher)
    }

    async fn events_for(routes: &Router, accept: &str) -> (StatusCode, String) {
        let request = Request::get("/sse").header(header::ACCEPT, accept).body(Body::empty());
        let response = routes.clone().oneshot(request.expect("a request")).await.expect("one");
        let status = response.status();
        let body = to_bytes(response.into_body(), 4096).await.expect("a body");
        (status, String::from_utf8_lossy(&body).into_owned())
    }

    /// An `EventSource` is told to retry for this reason; other clients get 503.
    async fn assert_told_to_retry(routes: &Router, reason: &str) {
        let (status, body) = events_for(routes, "text/event-stream").await;
        let (retry, rest) = body.split_once('\n').expect("a line");
        let delay = retry.strip_prefix("retry: ").and_then(|delay| delay.parse().ok());
        assert!(delay.is_some_and(|delay: u32| (1500..=2500).contains(&delay)), "{retry}");
        assert_eq!((status, rest), (StatusCode::OK, &*format!(": {reason}\n\n")));
        let (status, body) = events_for(routes, "*/*").await;
        assert!(status == StatusCode::SERVICE_UNAVAILABLE && body.contains(reason), "{body}");
    }

    #[tokio::test]
    async fn an_event_source_is_told_to_retry_during_a_shutdown() {
        let (limits, shutdown) =
            (Limits { streams: 1, per_address: None, per_second: None }, Shutdown::default());
        let (routes, _publisher) = routes(limits, &shutdown);
        shutdown.request();
        assert_told_to_retry(&routes, "the server is shutting down").await;
    }

    #[tokio::test]
    async fn an_event_source_is_told_to_retry_at_the_rate_limit_and_refused_by_a_full_server() {
        let per_second = std::num::NonZeroU32::new(1);
        let limits = Limits { streams: 1, per_address: None, per_second };
        let (limited, _publisher) = routes(limits, &Shutdown::default());
        let (status, _) = events_for(&limited, "text/event-stream").await;
        assert_eq!(status, StatusCode::OK);
        assert_told_to_retry(&limited, "too many streams were opened within a second").await;
        let reached = Limits { streams: 0, per_address: None, per_second: None };
        let (reached, _publisher) = routes(reached, &Shutdown::default());
        let (status, _) = events_for(&reached, "text/event-stream").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    }

    #[test]
    fn only_http_1_1_gets_keep_alive() {
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
