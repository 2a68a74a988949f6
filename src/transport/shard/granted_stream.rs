//! A connection between its HTTP task and its shard.

use std::{any::Any, net::TcpStream, sync::Arc};

use bytes::Bytes;

use super::{
    command_queue::{Command, CommandQueue},
    protocol::Protocol,
    replay_task::{self, ReplayHandle, ReplayNumber, ReplayTask},
    socket::Socket,
};
use crate::{
    access::Lease,
    stream::{
        feed::{FeedError, Prepared},
        hub::{Joint, Stored},
        replay::StoredReader,
        topic::Topic,
    },
    transport::tls::Tls,
};

/// The permits of a connection, released when it is closed.
pub(crate) type Permits = Box<dyn Any + Send + Sync>;

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
    /// Set if rounds that only the database has come first.
    pub(super) replay: Option<ReplayHandle>,
}

impl GrantedStream {
    /// Opens the stream on a shard before the next round is published. Returns what reads the stored
    /// rounds of its opening, if there are any.
    pub(in crate::transport) async fn open(
        self,
        queue: &Arc<CommandQueue>,
        number: ReplayNumber,
    ) -> Result<Option<(ReplayTask, StoredReader)>, FeedError> {
        let Self { socket, tls, unread, head, protocol, prepared, permits, lease } = self;
        let socket = Socket::new(socket, tls);
        let topic = prepared.topic().clone();
        let join = |mut joint: Joint| {
            let stored = joint.opening.take_stored();
            // A gap closes a WebSocket: it gets no seed.
            let is_closed = protocol.ends_with(&joint.opening);
            let stored = if is_closed { Stored::default() } else { stored };
            let ends = (!stored.is_empty()).then(|| replay_task::new(number, queue));
            let (replay, task) = ends.unzip();
            let opened = OpenedStream {
                socket,
                unread,
                head,
                protocol,
                permits,
                lease,
                topic,
                joint,
                replay,
            };
            queue.push(Command::Open(Box::new(opened)));
            (stored, task)
        };
        let ((stored, task), source) = prepared.subscribe_by_outlet(join).await?;
        Ok(task.zip(source.reader(stored)))
    }
}
