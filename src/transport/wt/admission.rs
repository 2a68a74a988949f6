//! The interface to `http`, which grants or refuses sessions by the rules of all transports.

use std::{future::Future, net::IpAddr};

use crate::transport::GrantedSession;

/// The CONNECT request of a client.
#[derive(Clone)]
pub(crate) struct ConnectRequest {
    /// Path and query, as sent.
    pub path: String,
    /// The page's origin. Browsers always send it.
    pub origin: Option<String>,
    /// The request's `authorization`. Browsers other than Safari cannot send it.
    pub authorization: Option<String>,
    /// The request's `cookie`.
    pub cookie: Option<String>,
    /// The client's address.
    pub address: IpAddr,
}

/// A refused request: the HTTP status of the response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refusal(pub u16);

/// Grants and refuses sessions.
pub(crate) trait Admission: Send + Sync + 'static {
    /// Grants a session, or refuses the request.
    fn admit(
        &self,
        request: ConnectRequest,
    ) -> impl Future<Output = Result<GrantedSession, Refusal>> + Send;
}
