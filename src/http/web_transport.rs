//! WebTransport requests, decided by the router like those of the other doors.
//!
//! A CONNECT request is put to a router of its own as a `GET` of the same path and origin; its
//! answer is a status, and for a `200` the session, which is left in a slot of the request.

use parking_lot::Mutex;
use std::sync::Arc;

use axum::{
    Extension, Router,
    body::Body,
    extract::State,
    http::{HeaderMap, Request, StatusCode, header},
    routing::get,
};
use tower::ServiceExt;

use super::{
    SharedState, hand_off::ClientAddress, origin, problem::Problem, selection,
    stream::StreamRequest,
};
use crate::transport::{
    GrantedSession,
    wt::{self, Admission, Refusal},
};

/// Where a handler leaves what it has granted.
type GrantSlot = Arc<Mutex<Option<GrantedSession>>>;

/// Who may come in by WebTransport.
#[derive(Clone, Debug)]
pub(crate) struct WebTransportAdmission(Router);

impl WebTransportAdmission {
    /// A gate that grants from the same places as the other doors.
    pub(crate) fn new(state: SharedState) -> Self {
        let router = Router::new()
            .route("/wt", get(open))
            .route("/wt/{game}", get(open))
            .route("/wt/type/{type}", get(open))
            .with_state(state);
        Self(router)
    }
}

impl Admission for WebTransportAdmission {
    async fn admit(&self, connect: wt::ConnectRequest) -> Result<GrantedSession, Refusal> {
        let malformed = Refusal(StatusCode::BAD_REQUEST.as_u16());
        // A URI may be a whole URL, or a host alone; a path it must be here.
        if !connect.path.starts_with('/') {
            return Err(malformed);
        }
        let slot = GrantSlot::default();
        let mut request = Request::get(connect.path)
            .extension(ClientAddress(connect.address))
            .extension(Arc::clone(&slot));
        if let Some(origin) = connect.origin {
            request = request.header(header::ORIGIN, origin);
        }
        let request = request.body(Body::empty()).map_err(|_| malformed)?;
        let Ok(response) = self.0.clone().oneshot(request).await;
        let granted = slot.lock().take();
        granted.ok_or(Refusal(response.status().as_u16()))
    }
}

async fn open(
    State(state): State<SharedState>,
    Extension(slot): Extension<GrantSlot>,
    Extension(ClientAddress(client)): Extension<ClientAddress>,
    headers: HeaderMap,
    stream_request: StreamRequest,
) -> Result<StatusCode, Problem> {
    let after = selection::after(&stream_request.parameters)?;
    origin::guard(&state.settings.allowed_origins, &headers)?;
    let topic = stream_request.topic(&state.feed).await?;
    let session = state.access.session(client, topic, after).await?;
    *slot.lock() = Some(session);
    Ok(StatusCode::OK)
}
