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

use super::{Shared, hand_off::ClientAddress, origin, problem::Problem, selection, stream::Asked};
use crate::transport::{
    Session,
    wt::{self, Gate, Refusal},
};

/// Where a handler leaves what it has granted.
type Slot = Arc<Mutex<Option<Session>>>;

/// Who may come in by WebTransport.
#[derive(Clone, Debug)]
pub(crate) struct WebTransportGate(Router);

impl WebTransportGate {
    /// A gate that grants from the same places as the other doors.
    pub(crate) fn new(state: Shared) -> Self {
        let router = Router::new()
            .route("/wt", get(open))
            .route("/wt/{game}", get(open))
            .route("/wt/type/{type}", get(open))
            .with_state(state);
        Self(router)
    }
}

impl Gate for WebTransportGate {
    async fn admit(&self, asked: wt::Asked) -> Result<Session, Refusal> {
        let malformed = Refusal(StatusCode::BAD_REQUEST.as_u16());
        // A URI may be a whole URL, or a host alone; a path it must be here.
        if !asked.path.starts_with('/') {
            return Err(malformed);
        }
        let slot = Slot::default();
        let mut request = Request::get(asked.path)
            .extension(ClientAddress(asked.address))
            .extension(Arc::clone(&slot));
        if let Some(origin) = asked.origin {
            request = request.header(header::ORIGIN, origin);
        }
        let request = request.body(Body::empty()).map_err(|_| malformed)?;
        let Ok(response) = self.0.clone().oneshot(request).await;
        let granted = slot.lock().take();
        granted.ok_or(Refusal(response.status().as_u16()))
    }
}

async fn open(
    State(state): State<Shared>,
    Extension(slot): Extension<Slot>,
    Extension(ClientAddress(client)): Extension<ClientAddress>,
    headers: HeaderMap,
    asked: Asked,
) -> Result<StatusCode, Problem> {
    let after = selection::after(&asked.parameters)?;
    origin::guard(&state.settings.allowed_origins, &headers)?;
    let topic = state.topic(asked).await?;
    let session = state.session(client, topic, after).await?;
    *slot.lock() = Some(session);
    Ok(StatusCode::OK)
}
