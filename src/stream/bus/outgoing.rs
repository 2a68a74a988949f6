//! A message on its way into the log.

use async_nats::HeaderMap;
use bytes::Bytes;

/// Bytes of a message besides its subject, headers and payload, as far as NATS counts them.
const OVERHEAD: usize = 256;

/// A message to append.
#[derive(Clone, Debug)]
pub(crate) struct Outgoing {
    pub(crate) subject: String,
    pub(crate) headers: HeaderMap,
    pub(crate) payload: Bytes,
}

impl Outgoing {
    /// About the bytes that it takes on the wire.
    pub(crate) fn size(&self) -> usize {
        self.subject.len() + self.payload.len() + OVERHEAD
    }
}
