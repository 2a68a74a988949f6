//! A connection on its way from the door to its shard.

use std::{any::Any, net::TcpStream};

use bytes::Bytes;

use super::protocol::Protocol;
use crate::stream::{
    feed::{FeedError, Prepared},
    hub::Joint,
    topic::Topic,
};

/// What a connection holds on to until it is closed: its places among those that are limited.
pub(crate) type Permits = Box<dyn Any + Send>;

/// A connection that was granted a stream.
#[derive(Debug)]
pub(crate) struct GrantedStream {
    /// The socket, non-blocking.
    pub socket: TcpStream,
    /// What the client sent behind its request.
    pub unread: Bytes,
    /// The head of the response, to be sent first.
    pub head: Vec<u8>,
    /// How rounds are written.
    pub protocol: Protocol,
    /// What to subscribe to.
    pub prepared: Prepared,
    /// Given back when the connection is closed.
    pub permits: Permits,
}

/// A connection whose stream is open: a command to its shard.
#[derive(Debug)]
pub(in crate::transport) struct OpenedStream {
    pub(super) socket: mio::net::TcpStream,
    pub(super) unread: Bytes,
    pub(super) head: Vec<u8>,
    pub(super) protocol: Protocol,
    pub(super) permits: Permits,
    pub(super) topic: Topic,
    pub(super) joint: Joint,
}

impl GrantedStream {
    /// Opens the stream and hands it to `push` before the next round is published.
    pub(in crate::transport) async fn open(
        self,
        push: impl FnOnce(OpenedStream) + Send,
    ) -> Result<(), FeedError> {
        let Self { socket, unread, head, protocol, prepared, permits } = self;
        let socket = mio::net::TcpStream::from_std(socket);
        let topic = prepared.topic().clone();
        let join =
            |joint| push(OpenedStream { socket, unread, head, protocol, permits, topic, joint });
        prepared.open(join).await
    }
}
