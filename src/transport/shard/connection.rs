//! The socket of one subscriber. Rare state is boxed: an ordinary connection takes 64 bytes.

use std::{
    io::{ErrorKind, Write},
    time::Instant,
};

use bytes::Bytes;

use super::{
    granted_stream::Permits,
    protocol::Protocol,
    send_queue::{Flushed, SendQueue},
    socket::Socket,
};
use crate::{
    stream::hub::Position,
    transport::{
        close::CloseReason,
        frame_reader::{Event, FrameReader, ReadError},
        frame_writer,
    },
};

/// The most bytes of a client message. The server ignores its content.
const MESSAGE_BYTES_MAX: u64 = 4096;
/// A peer may leave this many pings in a row without a pong.
const UNANSWERED_MAX: u8 = 2;

/// A connection of a shard.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) socket: Socket,
    /// The number of its group, and its index there.
    pub(super) group: u32,
    pub(super) member_index: u32,
    pub(super) protocol: Protocol,
    /// Pings since the last pong.
    unanswered: u8,
    /// Set on an event stream until its first event.
    pub(super) awaits_event: bool,
    /// Whether it is in the queue of [`Reads`](super::reads::Reads).
    pub(super) waits_for_read: bool,
    /// Whether it was closed because it sent too much.
    pub(super) is_flooding: bool,
    /// Bytes received in the second `received_in`.
    received: u32,
    received_in: u32,
    /// Whether it is counted as over the limit of its send queue.
    pub(super) is_behind: bool,
    /// Set while the socket is full.
    pub(super) send_queue: Option<Box<SendQueue>>,
    /// Set while a frame or a message is incomplete.
    reader: Option<Box<FrameReader>>,
    _permits: Permits,
}

/// The outcome of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SendOutcome {
    /// The kernel accepted all bytes.
    All,
    /// The kernel accepted this many bytes.
    Partial(usize),
    /// Not written, because the connection has a send queue, or because these rounds are its first
    /// event.
    Queued,
    /// The connection is broken.
    Broken,
}

/// The frames from a peer that need an answer.
#[derive(Debug, Default)]
pub(super) struct ReceivedFrames {
    /// Pongs to its pings, and the offset of the last one.
    pub(super) pongs: Vec<u8>,
    pub(super) last_pong: usize,
    /// Why to close the connection, with the close message.
    pub(super) end: Option<(CloseReason, Bytes)>,
}

impl Connection {
    pub(super) fn new(
        socket: Socket,
        protocol: Protocol,
        permits: Permits,
        group: u32,
        member_index: u32,
    ) -> Self {
        Self {
            socket,
            group,
            member_index,
            protocol,
            unanswered: 0,
            awaits_event: false,
            waits_for_read: false,
            is_flooding: false,
            received: 0,
            received_in: 0,
            is_behind: false,
            send_queue: None,
            reader: None,
            _permits: permits,
        }
    }

    /// Writes rounds. Nearly every delivery takes this path.
    #[inline]
    pub(super) fn send_rounds(&mut self, bytes: &[u8]) -> SendOutcome {
        if self.awaits_event {
            return SendOutcome::Queued;
        }
        self.send(bytes)
    }

    /// Writes with one system call.
    #[inline]
    pub(super) fn send(&mut self, bytes: &[u8]) -> SendOutcome {
        if self.send_queue.is_some() {
            return SendOutcome::Queued;
        }
        match self.socket.write(bytes) {
            Ok(taken) if taken == bytes.len() => SendOutcome::All,
            Ok(taken) => SendOutcome::Partial(taken),
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::Interrupted => SendOutcome::Partial(0),
                _ => SendOutcome::Broken,
            },
        }
    }

    /// Writes the send queue, and what TLS holds. Returns the number of rounds that were completed.
    pub(super) fn flush(&mut self, now: Instant) -> (Flushed, u32) {
        let (flushed, rounds) = match &mut self.send_queue {
            Some(send_queue) => send_queue.flush(&mut self.socket, now),
            None => (Flushed::All, 0),
        };
        let flushed = match flushed {
            Flushed::All => match self.socket.flush_sealed() {
                Ok(true) => Flushed::All,
                Ok(false) => Flushed::Blocked,
                Err(_) => Flushed::Broken,
            },
            other => other,
        };
        (flushed, rounds)
    }

    /// Whether live rounds are of use: its queue does not lag, and it is not closing.
    pub(super) fn takes_rounds(&self) -> bool {
        self.send_queue.as_ref().is_none_or(|queue| queue.takes_rounds())
    }

    /// Queues what precedes the first event, if that is about to be queued.
    pub(super) fn begin_events(&mut self, sent_up_to: Position) {
        if std::mem::take(&mut self.awaits_event) {
            let start = || Box::new(SendQueue::new(sent_up_to));
            let send_queue = self.send_queue.get_or_insert_with(start);
            send_queue.push_kept(self.protocol.before_first_event(), 0);
        }
    }

    /// Drops the live rounds of its send queue, which is refilled from the ring buffers.
    pub(super) fn drop_live_rounds(&mut self) {
        if let Some(send_queue) = &mut self.send_queue {
            send_queue.drop_live_rounds();
        }
    }

    pub(super) fn is_closing(&self) -> bool {
        self.send_queue.as_ref().is_some_and(|send_queue| send_queue.is_closing())
    }

    /// Counts a ping that is due. Returns false if too many have no pong.
    pub(super) fn count_ping(&mut self) -> bool {
        if self.protocol != Protocol::WebSocket {
            return true;
        }
        self.unanswered += 1;
        self.unanswered <= UNANSWERED_MAX
    }

    /// Counts received bytes. Returns their number in this second.
    pub(super) fn count_received(&mut self, bytes: usize, second: u32) -> u32 {
        if self.received_in != second {
            (self.received, self.received_in) = (0, second);
        }
        self.received = self.received.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
        self.received
    }

    /// Reads the control frames of a WebSocket. Ignores all other bytes.
    pub(super) fn handle_bytes(&mut self, bytes: &mut [u8]) -> ReceivedFrames {
        let mut received = ReceivedFrames::default();
        if self.protocol != Protocol::WebSocket || self.is_closing() {
            return received;
        }
        let unanswered = &mut self.unanswered;
        let mut handle = |event: Event<'_>| received.handle(event, unanswered);
        let read = match &mut self.reader {
            Some(reader) => {
                let read = reader.read(bytes, &mut handle);
                self.reader.take_if(|reader| reader.is_idle());
                read
            }
            // Most frames arrive whole, and leave no state.
            None => {
                let mut reader = FrameReader::new(MESSAGE_BYTES_MAX);
                let read = reader.read(bytes, &mut handle);
                self.reader = (!reader.is_idle()).then(|| Box::new(reader));
                read
            }
        };
        if let Err(error) = read {
            let reason = error.into();
            received.end = Some((reason, Protocol::WebSocket.close_message(reason)));
        }
        received
    }

    /// Closes the write half. The peer then closes its half.
    pub(super) fn finish(&mut self) {
        self.socket.finish();
    }

    /// Makes the drop of the socket a reset. After a plain close, a full socket would stay in
    /// FIN-WAIT-1 with its kernel memory, and the peer would not notice.
    pub(super) fn reset(&self) {
        self.socket.reset();
    }
}

impl ReceivedFrames {
    fn handle(&mut self, event: Event<'_>, unanswered: &mut u8) {
        match event {
            Event::Pong(_) => *unanswered = 0,
            Event::Ping(payload) => {
                self.last_pong = self.pongs.len();
                frame_writer::pong(payload, &mut self.pongs);
            }
            Event::Close(code) => {
                self.end = Some((CloseReason::Client, frame_writer::close(code, "")));
            }
            Event::Data { .. } => {}
        }
    }
}

impl From<ReadError> for CloseReason {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Protocol => Self::Protocol,
            ReadError::NotUtf8 => Self::NotUtf8,
            ReadError::TooLarge => Self::TooLarge,
        }
    }
}
