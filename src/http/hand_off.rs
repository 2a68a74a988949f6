//! A granted stream on its way from its route to the door.
//!
//! The route answers with the head of the response and, beside it, what was granted. All layers see
//! an ordinary response; the door finds the grant in its extensions, takes the socket out of HTTP
//! and hands both to a shard. A layer that makes another response of it revokes the grant by that.

use parking_lot::Mutex;
use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use axum::{
    http::{Extensions, response::Parts},
    response::{IntoResponse, Response},
};

use crate::{ops::connection_limiter::Permit, stream::feed::Prepared, transport::Protocol};

/// What was granted.
#[derive(Debug)]
pub(super) struct Grant {
    pub(super) prepared: Prepared,
    pub(super) protocol: Protocol,
    pub(super) permit: Permit,
}

/// A grant beside a response. Extensions have to be cloneable, a grant is not: the first taker
/// has it.
#[derive(Clone, Debug)]
struct GrantExtension(Arc<Mutex<Option<Grant>>>);

/// Where the door's service leaves a granted stream for the connection under it. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct HandOff(Arc<Mutex<Option<(Parts, Grant)>>>);

/// The address of a connection's client, as the door saw it.
#[derive(Clone, Copy, Debug)]
pub(super) struct ClientAddress(pub(super) IpAddr);

impl Grant {
    /// The response that grants the stream.
    pub(super) fn attach_to(self, head: impl IntoResponse) -> Response {
        let mut response = head.into_response();
        response.extensions_mut().insert(GrantExtension(Arc::new(Mutex::new(Some(self)))));
        response
    }
}

impl HandOff {
    /// Takes a granted stream off its response; returns the response where there is none.
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

    /// The granted stream, and the head of its response.
    pub(super) fn take_grant(&self) -> Option<(Parts, Grant)> {
        self.0.lock().take()
    }
}

/// The client's address; unspecified where no door was passed.
pub(super) fn client_address(extensions: &Extensions) -> IpAddr {
    let known = extensions.get::<ClientAddress>();
    known.map_or(Ipv4Addr::UNSPECIFIED.into(), |ClientAddress(address)| *address)
}
