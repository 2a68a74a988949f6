//! One subscriber's socket, as small as it can be: whatever is only sometimes there is boxed.

use std::{
    io::{self, ErrorKind, Read, Write},
    time::{Duration, Instant},
};

use bytes::Bytes;
use mio::net::TcpStream;
use socket2::SockRef;

use super::{
    granted_stream::Permits,
    protocol::Protocol,
    send_queue::{Flushed, SendQueue},
};
use crate::transport::{
    close::CloseReason,
    frame_reader::{Event, FrameReader, ReadError},
    frame_writer,
};

/// Messages of clients are read and ignored up to this size: they have nothing to say.
const MESSAGE_BYTES_MAX: u64 = 4096;
/// Pings in a row that a peer may leave without a pong, each for a heartbeat.
const UNANSWERED_MAX: u8 = 2;

/// A connection as its shard knows it.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) socket: TcpStream,
    /// The list it is a member of, and its place there.
    pub(super) group: u32,
    pub(super) member_index: u32,
    pub(super) protocol: Protocol,
    /// Pings since the last pong.
    unanswered: u8,
    /// What it has that others do not.
    pub(super) send_queue: Option<Box<SendQueue>>,
    /// A frame or a message of which a part has come.
    reader: Option<Box<FrameReader>>,
    _permits: Permits,
}

/// What became of bytes that all subscribers of a list get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SendOutcome {
    /// The kernel has them.
    All,
    /// The kernel has so many of them.
    Partial(usize),
    /// Not tried: the connection has a backlog.
    Queued,
    /// The connection is gone.
    Broken,
}

/// What a peer said that something follows from.
#[derive(Debug, Default)]
pub(super) struct ReceivedFrames {
    /// Answers to its pings, and where the last of them begins.
    pub(super) pongs: Vec<u8>,
    pub(super) last_pong: usize,
    /// Why the connection ends, and with which last words.
    pub(super) end: Option<(CloseReason, Bytes)>,
}

impl Connection {
    pub(super) fn new(
        socket: TcpStream,
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
            send_queue: None,
            reader: None,
            _permits: permits,
        }
    }

    /// The path of nearly every delivery: one system call, nothing else touched.
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

    /// Writes what waits. Returns how many rounds went out by that.
    pub(super) fn flush(&mut self, now: Instant) -> (Flushed, u32) {
        match &mut self.send_queue {
            Some(send_queue) => send_queue.flush(&mut self.socket, now),
            None => (Flushed::All, 0),
        }
    }

    pub(super) fn is_closing(&self) -> bool {
        self.send_queue.as_ref().is_some_and(|send_queue| send_queue.is_closing())
    }

    /// Notes that a ping goes out; says whether the peer left too many without an answer.
    pub(super) fn count_ping(&mut self) -> bool {
        if self.protocol != Protocol::WebSocket {
            return true;
        }
        self.unanswered += 1;
        self.unanswered <= UNANSWERED_MAX
    }

    /// Reads once.
    pub(super) fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.socket.read(into)
    }

    /// Takes in what the peer sent: control frames of a WebSocket, nothing of all else.
    pub(super) fn handle_bytes(&mut self, bytes: &mut [u8]) -> ReceivedFrames {
        let mut received = ReceivedFrames::default();
        if self.protocol != Protocol::WebSocket || self.is_closing() {
            return received;
        }
        let unanswered = &mut self.unanswered;
        let mut queue_rounds = |event: Event<'_>| received.queue_rounds(event, unanswered);
        let read = match &mut self.reader {
            Some(reader) => {
                let read = reader.read(bytes, &mut queue_rounds);
                self.reader.take_if(|reader| reader.is_idle());
                read
            }
            // Most come whole: then there is nothing to keep.
            None => {
                let mut reader = FrameReader::new(MESSAGE_BYTES_MAX);
                let read = reader.read(bytes, &mut queue_rounds);
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

    /// Ends our half; the peer is to end its own.
    pub(super) fn finish(&self) {
        // A peer that is gone already needs no goodbye.
        let _ = self.socket.shutdown(std::net::Shutdown::Write);
    }

    /// Has the socket reset when it is dropped. After a plain close a full one stays in FIN-WAIT-1
    /// with its kernel memory, and the peer sees nothing.
    pub(super) fn reset(&self) {
        let _ = SockRef::from(&self.socket).set_linger(Some(Duration::ZERO));
    }
}

impl ReceivedFrames {
    fn queue_rounds(&mut self, event: Event<'_>, unanswered: &mut u8) {
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
