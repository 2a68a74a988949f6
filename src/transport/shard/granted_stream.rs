//! A connection between the accept loop and its shard.

use std::{any::Any, net::TcpStream};

use bytes::Bytes;

use super::{protocol::Protocol, socket::Socket};
use crate::{
    access::Lease,
    stream::{
        feed::{FeedError, Prepared},
        hub::Joint,
        topic::Topic,
    },
    transport::tls::Tls,
};

/// The permits of a connection, released when it is closed.
pub(crate) type Permits = Box<dyn Any + Send>;

/// A connection whose request was granted a stream.
#[derive(Debug)]
pub(crate) struct GrantedStream {
    /// The socket, non-blocking.
    pub socket: TcpStream,
    /// The keys of the connection, if it has TLS.
    pub tls: Option<Box<Tls>>,
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
    /// How long the request's token opens the stream.
    pub lease: Lease,
}

/// A connection with an open stream: the content of a command to its shard.
#[derive(Debug)]
pub(in crate::transport) struct OpenedStream {
    pub(super) socket: Socket,
    pub(super) unread: Bytes,
    pub(super) head: Vec<u8>,
    pub(super) protocol: Protocol,
    pub(super) permits: Permits,
    pub(super) lease: Lease,
    pub(super) topic: Topic,
    pub(super) joint: Joint,
}

impl GrantedStream {
    /// Opens the stream and passes it to `push` before the next round is published.
    pub(in crate::transport) async fn open(
        self,
        push: impl FnOnce(OpenedStream) + Send,
    ) -> Result<(), FeedError> {
        let Self { socket, tls, unread, head, protocol, prepared, permits, lease } = self;
        let socket = Socket::new(socket, tls);
        let topic = prepared.topic().clone();
        let join = |joint| {
            push(OpenedStream { socket, unread, head, protocol, permits, lease, topic, joint });
        };
        prepared.open(join).await
    }
}
