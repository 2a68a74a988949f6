//! WebTransport requests, decided by the same rules as those of the other transports.
//!
//! A CONNECT request becomes a `GET` with the same path and origin, for a router of its own. With
//! `200`, the handler puts the session into a slot in the request.

use parking_lot::Mutex;
use std::sync::Arc;

use axum::{
    Extension, Router,
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderName, Request, StatusCode, header},
    response::Response,
    routing::get,
};
use tower::ServiceExt;

use super::{
    SharedState, authorization::RouteKind, hand_off::Client, origin, problem::Problem,
    stream::StreamRequest,
};
use crate::{
    config::TrustedProxies,
    transport::{
        GrantedSession,
        wt::{self, Admission, SessionRefusal},
    },
};

/// The header fields of a refusal that a client may need.
const FIELDS: [HeaderName; 2] = [header::WWW_AUTHENTICATE, header::RETRY_AFTER];

/// The slot for the session that a handler grants.
type GrantSlot = Arc<Mutex<Option<GrantedSession>>>;

/// Decides on WebTransport requests.
#[derive(Clone, Debug)]
pub(crate) struct WebTransportAdmission {
    router: Router,
    proxies: TrustedProxies,
}

impl WebTransportAdmission {
    /// Uses the same limits as the other transports.
    pub(crate) fn new(state: SharedState) -> Self {
        let proxies = state.settings.trusted_proxies.clone();
        let router = Router::new()
            .route("/wt", get(open))
            .route("/wt/{game}", get(open))
            .route("/wt/type/{type}", get(open))
            .with_state(state);
        Self { router, proxies }
    }
}

impl Admission for WebTransportAdmission {
    async fn admit(&self, connect: wt::ConnectRequest) -> Result<GrantedSession, SessionRefusal> {
        let malformed = || SessionRefusal::of(StatusCode::BAD_REQUEST.as_u16());
        // `Request::get` would accept a whole URL, or a host alone.
        if !connect.path.starts_with('/') {
            return Err(malformed());
        }
        let slot = GrantSlot::default();
        let mut request = Request::get(connect.path)
            .extension(Client { address: self.proxies.direct(connect.address), is_encrypted: true })
            .extension(Arc::clone(&slot));
        for (name, value) in [
            (header::ORIGIN, connect.origin),
            (header::AUTHORIZATION, connect.authorization),
            (header::COOKIE, connect.cookie),
        ] {
            if let Some(value) = value {
                request = request.header(name, value);
            }
        }
        let request = request.body(Body::empty()).map_err(|_| malformed())?;
        let Ok(response) = self.router.clone().oneshot(request).await;
        let granted = slot.lock().take();
        granted.ok_or_else(|| refusal(&response))
    }
}

/// The contract has one status for all that a client should repeat later.
fn refusal(response: &Response) -> SessionRefusal {
    let status = match response.status() {
        StatusCode::SERVICE_UNAVAILABLE => StatusCode::TOO_MANY_REQUESTS,
        status => status,
    };
    let field = |name: &HeaderName| {
        let value = response.headers().get(name)?.to_str().ok()?;
        Some((name.as_str().to_owned(), value.to_owned()))
    };
    SessionRefusal { status: status.as_u16(), fields: FIELDS.iter().filter_map(field).collect() }
}

async fn open(
    State(state): State<SharedState>,
    Extension(slot): Extension<GrantSlot>,
    Extension(client): Extension<Client>,
    headers: HeaderMap,
    stream_request: StreamRequest,
) -> Result<StatusCode, Problem> {
    let (selection, start) = (stream_request.selection()?, stream_request.start()?);
    origin::guard(&state.settings.allowed_origins, &headers)?;
    let presented = stream_request.presented(RouteKind::WebTransport, &headers);
    let permission = state.permission_for(&selection, presented).await?;
    let topic = state.feed.topic(&selection).await?;
    let session = state.grants.session(client.address, topic, start, permission.lease()).await?;
    *slot.lock() = Some(session);
    Ok(StatusCode::OK)
}
