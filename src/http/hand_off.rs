//! The hand-off of a granted stream from its route to its shard.
//!
//! The route answers with a response head, and with the grant in its extensions. All layers see an
//! ordinary response. The task of the connection finds the grant, takes the socket from hyper and
//! hands both to a shard. A layer that replaces the response revokes the grant.

use parking_lot::Mutex;
use std::{net::IpAddr, sync::Arc};

use axum::{
    http::{Extensions, response::Parts},
    response::{IntoResponse, Response},
};

use super::stream_grants::StreamPermit;
use crate::{access::Lease, stream::feed::Prepared, transport::Protocol};

/// A granted stream.
#[derive(Debug)]
pub(super) struct Grant {
    pub(super) prepared: Prepared,
    pub(super) protocol: Protocol,
    pub(super) permit: StreamPermit,
    pub(super) lease: Lease,
}

/// A grant in the extensions of a response. Extensions must be `Clone`, which a grant is not: the
/// first taker gets it.
#[derive(Clone, Debug)]
struct GrantExtension(Arc<Mutex<Option<Grant>>>);

/// Passes a grant from the service of a connection to its task. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct HandOff(Arc<Mutex<Option<(Parts, Grant)>>>);

/// The sender of a request.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Client {
    /// Its address; unknown behind a proxy that does not say it.
    pub(super) address: Option<IpAddr>,
    /// Whether its connection has TLS.
    pub(super) is_encrypted: bool,
}

impl Grant {
    /// The response with this grant in its extensions.
    pub(super) fn attach_to(self, head: impl IntoResponse) -> Response {
        let mut response = head.into_response();
        response.extensions_mut().insert(GrantExtension(Arc::new(Mutex::new(Some(self)))));
        response
    }
}

impl HandOff {
    /// Takes the grant out of a response and keeps it. Returns a response without a grant.
    pub(super) fn intercept(&self, mut response: Response) -> Option<Response> {
        let extension = response.extensions_mut().remove::<GrantExtension>();
        let grant = extension.and_then(|GrantExtension(grant)| grant.lock().take());
        let Some(grant) = grant else { return Some(response) };
        *self.0.lock() = Some((response.into_parts().0, grant));
        None
    }

    /// Whether a stream was granted.
    pub(super) fn has_grant(&self) -> bool {
        self.0.lock().is_some()
    }

    /// The grant, and the response head.
    pub(super) fn take_grant(&self) -> Option<(Parts, Grant)> {
        self.0.lock().take()
    }
}

/// The sender of a request with these extensions.
pub(super) fn client(extensions: &Extensions) -> Client {
    extensions.get().copied().unwrap_or_default()
}
