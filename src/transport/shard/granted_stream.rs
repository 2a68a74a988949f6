//! A connection between the accept loop and its shard.

use std::{any::Any, net::TcpStream};

use bytes::Bytes;

use super::protocol::Protocol;
use crate::stream::{
    feed::{FeedError, Prepared},
    hub::Joint,
    topic::Topic,
};

/// The permits of a connection, released when it is closed.
pub(crate) type Permits = Box<dyn Any + Send>;

/// A connection whose request was granted a stream.
#[derive(Debug)]
pub(crate) struct GrantedStream {
    /// The socket, non-blocking.
    pub socket: TcpStream,
    /// Bytes that the client sent after its request.
    pub unread: Bytes,
    /// The head of the response, sent first.
    pub head: Vec<u8>,
    /// How the rounds are framed.
    pub protocol: Protocol,
    /// The subscription, ready to open.
    pub prepared: Prepared,
    /// Released when the connection is closed.
    pub permits: Permits,
}

/// A connection with an open stream: the content of a command to its shard.
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
    /// Opens the stream and passes it to `push` before the next round is published.
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
