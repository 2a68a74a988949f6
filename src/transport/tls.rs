//! TLS of one connection, without its socket: bytes in, bytes out.
//!
//! rustls' unbuffered connection holds no data, only keys: 3.2 KB, where its buffered one holds 7.4.
//! What is sealed goes into one buffer of the thread, and from there to the socket. Only what the
//! socket does not take is kept, at most the rest of one record beside answers to the peer's own
//! messages.

mod acceptor;
pub mod blocking;

use std::{
    cell::RefCell,
    io::{self, ErrorKind, Write},
    sync::Arc,
};

use bytes::{Buf, BytesMut};
use rustls::{
    ServerConfig,
    server::UnbufferedServerConnection,
    unbuffered::{ConnectionState, EncodeTlsData, ReadTraffic, UnbufferedStatus},
};

pub(crate) use self::acceptor::{TlsAcceptor, TlsFailure};

/// Ciphertext that is read in one call. The buffer is on the stack.
pub(super) const CIPHERTEXT_BYTES: usize = 4096;
/// The most plaintext of a record (RFC 8446 section 5.1).
const RECORD_MAX: usize = 16 * 1024;
/// A sealed record, and a KeyUpdate that may precede it.
const SEALED_MAX: usize = RECORD_MAX + 1024;
/// The most bytes received that are no whole record or message yet. A record has up to 16,640, and a
/// ClientHello may have several.
const RECEIVED_MAX: usize = 32 * 1024;
/// The most unsent bytes. Only a peer that sends KeyUpdates and reads nothing exceeds this.
const UNSENT_MAX: usize = 64 * 1024;

thread_local! {
    /// The buffers in which this thread joins and seals: one of each for all its connections.
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch {
        sealed: vec![0; SEALED_MAX],
        joined: Vec::with_capacity(RECORD_MAX),
    });
}

struct Scratch {
    sealed: Vec<u8>,
    joined: Vec<u8>,
}

/// The keys and the state of a connection.
pub(crate) struct Tls {
    connection: UnbufferedServerConnection,
    received: Vec<u8>,
    unsent: BytesMut,
    is_peer_closed: bool,
    is_closed: bool,
    /// Set after an error: rustls must not be called again.
    has_failed: bool,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("unsent", &self.unsent.len()).finish_non_exhaustive()
    }
}

/// What a step asks to do next.
enum Step {
    Again,
    Done,
}

fn invalid(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, error)
}

/// Appends the plaintext of the received records. An error does not hide the records around it.
fn read_records<D>(mut traffic: ReadTraffic<'_, '_, D>, plain: &mut Vec<u8>) -> io::Result<Step> {
    let mut outcome = Ok(Step::Again);
    while let Some(record) = traffic.next_record() {
        match record {
            Ok(record) => plain.extend_from_slice(record.payload),
            Err(error) => outcome = Err(invalid(error)),
        }
    }
    outcome
}

/// Appends a message of rustls' own to the unsent bytes.
fn encode<D>(
    mut data: EncodeTlsData<'_, D>,
    sealed: &mut [u8],
    unsent: &mut BytesMut,
) -> io::Result<Step> {
    let size = data.encode(sealed).map_err(invalid)?;
    unsent.extend_from_slice(&sealed[..size]);
    Ok(Step::Again)
}

impl Tls {
    pub(super) fn new(config: Arc<ServerConfig>) -> Result<Self, rustls::Error> {
        Ok(Self {
            connection: UnbufferedServerConnection::new(config)?,
            received: Vec::new(),
            unsent: BytesMut::new(),
            is_peer_closed: false,
            is_closed: false,
            has_failed: false,
        })
    }

    /// Whether the handshake is not complete.
    pub(super) fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    /// Whether the peer has sent its last byte.
    pub(super) fn is_peer_closed(&self) -> bool {
        self.is_peer_closed
    }

    /// Whether the socket must still take bytes.
    pub(super) fn has_unsent(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// The bytes that the socket must still take.
    pub(super) fn unsent_mut(&mut self) -> &mut BytesMut {
        &mut self.unsent
    }

    /// Takes bytes from the socket and appends their plaintext. Answers to the peer's own messages
    /// become unsent bytes, and so does the alert after an error.
    pub(super) fn receive(&mut self, bytes: &[u8], plain: &mut Vec<u8>) -> io::Result<()> {
        if self.has_failed {
            return Err(ErrorKind::BrokenPipe.into());
        }
        self.received.extend_from_slice(bytes);
        let outcome = self.process(plain);
        if outcome.is_err() {
            self.fail();
        }
        if self.received.is_empty() {
            self.received = Vec::new();
        }
        if self.received.len() > RECEIVED_MAX || self.unsent.len() > UNSENT_MAX {
            return Err(io::Error::new(ErrorKind::InvalidData, "too much without an end"));
        }
        outcome
    }

    /// Ends the connection after an error. The alert, if there is one, becomes unsent bytes. rustls is
    /// called for nothing else: it would process the received bytes again, and counts on them.
    fn fail(&mut self) {
        self.has_failed = true;
        SCRATCH.with_borrow_mut(|scratch| {
            while self.connection.wants_write() {
                match self.connection.process_tls_records(&mut self.received).state {
                    Ok(ConnectionState::EncodeTlsData(data)) => {
                        if encode(data, &mut scratch.sealed, &mut self.unsent).is_err() {
                            break;
                        }
                    }
                    // What came before the error is not passed on.
                    Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                        while traffic.next_record().is_some() {}
                    }
                    _ => break,
                }
            }
        });
        self.received = Vec::new();
    }

    fn process(&mut self, plain: &mut Vec<u8>) -> io::Result<()> {
        SCRATCH.with_borrow_mut(|scratch| {
            while matches!(self.process_next(plain, &mut scratch.sealed)?, Step::Again) {}
            Ok(())
        })
    }

    /// Does what rustls asks for next.
    fn process_next(&mut self, plain: &mut Vec<u8>, sealed: &mut [u8]) -> io::Result<Step> {
        let UnbufferedStatus { discard, state } =
            self.connection.process_tls_records(&mut self.received);
        let step = match state.map_err(invalid) {
            Err(error) => Err(error),
            Ok(ConnectionState::ReadTraffic(traffic)) => read_records(traffic, plain),
            Ok(ConnectionState::EncodeTlsData(data)) => encode(data, sealed, &mut self.unsent),
            Ok(ConnectionState::TransmitTlsData(data)) => {
                data.done();
                Ok(Step::Again)
            }
            Ok(ConnectionState::PeerClosed) => {
                self.is_peer_closed = true;
                Ok(Step::Again)
            }
            // Early data is off: without tickets there is none.
            Ok(_) => Ok(Step::Done),
        };
        self.received.drain(..discard);
        step
    }

    /// Seals one record into `sealed`. Returns its size.
    fn seal(&mut self, plain: &[u8], sealed: &mut [u8]) -> io::Result<usize> {
        if self.has_failed {
            return Err(ErrorKind::BrokenPipe.into());
        }
        loop {
            // rustls counts on the bytes that it has seen before: never pass it other ones.
            let UnbufferedStatus { discard, state } =
                self.connection.process_tls_records(&mut self.received);
            let state = state.map_err(|error| {
                self.has_failed = true;
                invalid(error)
            });
            let size = match state? {
                ConnectionState::WriteTraffic(mut traffic) => {
                    Some(traffic.encrypt(plain, sealed).map_err(invalid)?)
                }
                ConnectionState::EncodeTlsData(data) => {
                    encode(data, sealed, &mut self.unsent)?;
                    None
                }
                ConnectionState::TransmitTlsData(data) => {
                    data.done();
                    None
                }
                ConnectionState::PeerClosed => {
                    self.is_peer_closed = true;
                    None
                }
                _ => return Err(ErrorKind::BrokenPipe.into()),
            };
            self.received.drain(..discard);
            if let Some(size) = size {
                return Ok(size);
            }
        }
    }

    /// Seals one record behind the unsent bytes. Returns how many of these bytes it has.
    pub(super) fn seal_unsent(&mut self, plain: &[u8]) -> io::Result<usize> {
        let plain = &plain[..plain.len().min(RECORD_MAX)];
        SCRATCH.with_borrow_mut(|scratch| {
            let size = self.seal(plain, &mut scratch.sealed)?;
            self.unsent.extend_from_slice(&scratch.sealed[..size]);
            Ok(plain.len())
        })
    }

    /// Adds the alert `close_notify`, after which the peer knows that nothing was cut off.
    pub(super) fn close(&mut self) {
        if std::mem::replace(&mut self.is_closed, true) || self.has_failed {
            return;
        }
        SCRATCH.with_borrow_mut(|scratch| {
            let UnbufferedStatus { discard, state } =
                self.connection.process_tls_records(&mut self.received);
            if let Ok(ConnectionState::WriteTraffic(mut traffic)) = state
                && let Ok(size) = traffic.queue_close_notify(&mut scratch.sealed)
            {
                self.unsent.extend_from_slice(&scratch.sealed[..size]);
            }
            self.received.drain(..discard);
        });
    }

    /// Writes the unsent bytes. Returns whether the socket took all.
    pub(super) fn flush(&mut self, socket: &mut impl Write) -> io::Result<bool> {
        while !self.unsent.is_empty() {
            match socket.write(&self.unsent) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(taken) => self.unsent.advance(taken),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        self.unsent = BytesMut::new();
        Ok(true)
    }

    /// Seals up to one record of these bytes and writes it. What the socket does not take is
    /// unsent. Returns how many bytes were sealed.
    pub(super) fn write(&mut self, plain: &[u8], socket: &mut impl Write) -> io::Result<usize> {
        if self.has_unsent() && !self.flush(socket)? {
            return Err(ErrorKind::WouldBlock.into());
        }
        let plain = &plain[..plain.len().min(RECORD_MAX)];
        SCRATCH.with_borrow_mut(|scratch| {
            let size = self.seal(plain, &mut scratch.sealed)?;
            let mut sealed = &scratch.sealed[..size];
            if !self.has_unsent() {
                match socket.write(sealed) {
                    Ok(taken) => sealed.advance(taken),
                    Err(error) => match error.kind() {
                        ErrorKind::WouldBlock | ErrorKind::Interrupted => {}
                        _ => return Err(error),
                    },
                }
            }
            self.unsent.extend_from_slice(sealed);
            Ok(plain.len())
        })
    }

    /// As `write`, for bytes in several pieces: one record holds as many as fit.
    pub(super) fn write_vectored(
        &mut self,
        pieces: &[io::IoSlice<'_>],
        socket: &mut impl Write,
    ) -> io::Result<usize> {
        match pieces {
            [] => Ok(0),
            [one] => self.write(one, socket),
            [first, ..] if first.len() >= RECORD_MAX => self.write(first, socket),
            pieces => {
                let mut joined =
                    SCRATCH.with_borrow_mut(|scratch| std::mem::take(&mut scratch.joined));
                joined.clear();
                for piece in pieces {
                    let room = RECORD_MAX - joined.len();
                    joined.extend_from_slice(&piece[..piece.len().min(room)]);
                }
                let written = self.write(&joined, socket);
                SCRATCH.with_borrow_mut(|scratch| scratch.joined = joined);
                written
            }
        }
    }
}

#[cfg(test)]
mod tests;
