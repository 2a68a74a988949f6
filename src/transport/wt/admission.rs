//! Who may come in: decided elsewhere, by the rules of all doors.

use std::{future::Future, net::IpAddr};

use crate::transport::GrantedSession;

/// What a client asked for in its CONNECT request.
#[derive(Clone, Debug)]
pub(crate) struct ConnectRequest {
    /// Path and query, as sent.
    pub path: String,
    /// The page's origin, which browsers always send.
    pub origin: Option<String>,
    /// The client's address.
    pub address: IpAddr,
}

/// A request that is not granted: the HTTP status to answer with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refusal(pub u16);

/// Decides what a client gets.
pub(crate) trait Admission: Send + Sync + 'static {
    /// Grants a session or refuses it.
    fn admit(
        &self,
        asked: ConnectRequest,
    ) -> impl Future<Output = Result<GrantedSession, Refusal>> + Send;
}
