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

/// A refused request. The response has no body: the library writes heads alone, and a page sees
/// neither.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SessionRefusal {
    /// The HTTP status.
    pub status: u16,
    /// Its header fields, with names in lower case (RFC 9114 section 4.2).
    pub fields: Vec<(String, String)>,
}

impl SessionRefusal {
    /// A refusal without header fields.
    pub(crate) fn of(status: u16) -> Self {
        Self { status, fields: Vec::new() }
    }
}

/// Grants and refuses sessions.
pub(crate) trait Admission: Send + Sync + 'static {
    /// Grants a session, or refuses the request.
    fn admit(
        &self,
        request: ConnectRequest,
    ) -> impl Future<Output = Result<GrantedSession, SessionRefusal>> + Send;
}
