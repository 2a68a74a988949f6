//! A session: sending rounds and messages to its client, and its close.

use std::{fmt, time::Duration};

use bytes::Bytes;
use futures_util::{FutureExt, future::BoxFuture};
use tokio::time::{sleep, timeout};
use wtransport::{
    Connection, SendStream,
    error::{SendDatagramError, StreamOpeningError, StreamWriteError},
    quinn,
};

use super::wire::{self, Datagram, SEND_BUFFER_BYTES, STREAMS_BYTES};
use crate::{
    access::Lease,
    ops::{
        memory_budget::{Charge, ClientMemory},
        telemetry::metrics::{ByTransport, MemoryUse},
    },
    stream::frame::encoded_bytes,
    transport::{SessionRecord, close::CloseReason},
};

/// The most large rounds that may wait for their stream. Without a limit, a peer that permits no
/// more streams or bytes would make the server hold all of them.
pub(super) const LATE_MAX: usize = 8;
/// How long the acknowledgment of `bye` may take.
const BYE_TIMEOUT: Duration = Duration::from_secs(1);
/// The time between the acknowledgment of `bye` and the close. A browser has received it then, but
/// drops data that its page has not read when the connection ends.
const LINGER: Duration = Duration::from_millis(100);
/// An empty buffer is reported with 32 bytes less: the library keeps them for the next datagram, and
/// counts as many for each that waits, besides its payload. So one that waits takes more than this.
const BUFFER_SLACK: usize = 64;

/// A stream failed: the connection ended, or the peer stopped the stream.
#[derive(Debug)]
pub(super) struct StreamFailed;

/// A round on its own stream, which the library holds until the peer has acknowledged it.
#[derive(Debug)]
pub(super) struct StreamedRound {
    stream: SendStream,
    _memory: Charge,
}

impl StreamedRound {
    /// Writes a round on a stream of its own. `None` if the connection ended, or the peer stopped
    /// the stream.
    async fn write(connection: Connection, json: Bytes, mut memory: Charge) -> Option<Self> {
        let held = json.len().min(STREAMS_BYTES);
        let mut stream = open_stream(&connection, json).await.ok()?;
        stream.quic_stream_mut().finish().ok()?;
        // The library has a copy of what the peer has not acknowledged.
        memory.shrink(held);
        Some(Self { stream, _memory: memory })
    }

    /// Waits for the acknowledgment, or the end of the connection.
    pub(super) async fn acknowledged(mut self) {
        let _ = self.stream.stopped().await;
    }
}

/// The outcome of sending a round.
pub(super) enum RoundOutcome {
    /// The library accepted it as a datagram.
    Sent,
    /// The library accepted it on a stream.
    Streamed(StreamedRound),
    /// It waits for a stream.
    Late(BoxFuture<'static, Option<StreamedRound>>),
    /// The connection ended, which `closed` reports, or the peer stopped the stream.
    Closed,
    /// Dropped, because too many large rounds wait, or have all the memory for them.
    Dropped,
}

/// A session of a client.
pub(super) struct Session {
    connection: Connection,
    record: SessionRecord,
    lease: Lease,
    memory: ClientMemory,
    /// Datagrams that the library accepted.
    sent_datagrams: u64,
    /// Datagrams that the library dropped, as far as known.
    dropped: u64,
    /// Large rounds that wait for their stream.
    late: usize,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("id", &self.id()).finish_non_exhaustive()
    }
}

impl Session {
    pub(super) fn new(
        connection: Connection,
        record: SessionRecord,
        lease: Lease,
        memory: ClientMemory,
    ) -> Self {
        Self { connection, record, lease, memory, sent_datagrams: 0, dropped: 0, late: 0 }
    }

    /// How long its token opens the session.
    pub(super) fn lease(&self) -> Lease {
        self.lease
    }

    /// Identifies the connection within the process.
    pub(super) fn id(&self) -> usize {
        self.connection.stable_id()
    }

    /// Resolves with the reason when the connection ends.
    pub(super) fn closed(&self) -> BoxFuture<'static, (usize, CloseReason)> {
        let (id, quic) = (self.id(), self.connection.quic_connection().clone());
        async move {
            let reason = match quic.closed().await {
                quinn::ConnectionError::TimedOut => CloseReason::NoPong,
                _ => CloseReason::Client,
            };
            (id, reason)
        }
        .boxed()
    }

    /// Sends a round as a datagram, or on its own stream if it is too large.
    pub(super) fn send(&mut self, round: &Datagram) -> RoundOutcome {
        match self.send_datagram(round) {
            Ok(()) => {
                self.sent_datagrams += 1;
                RoundOutcome::Sent
            }
            Err(SendDatagramError::NotConnected) => RoundOutcome::Closed,
            // A peer without datagrams gets every round on a stream.
            Err(SendDatagramError::TooLarge | SendDatagramError::UnsupportedByPeer) => {
                self.send_stream(round.json.clone())
            }
        }
    }

    fn send_datagram(&self, round: &Datagram) -> Result<(), SendDatagramError> {
        let Some(first) = &round.first else { return Err(SendDatagramError::TooLarge) };
        if self.connection.session_id().into_u64() != 0 {
            return self.connection.send_datagram(&round.json);
        }
        let sent = self.connection.quic_connection().send_datagram(first.clone());
        sent.map_err(|error| match error {
            quinn::SendDatagramError::TooLarge => SendDatagramError::TooLarge,
            quinn::SendDatagramError::ConnectionLost(_) => SendDatagramError::NotConnected,
            quinn::SendDatagramError::UnsupportedByPeer | quinn::SendDatagramError::Disabled => {
                SendDatagramError::UnsupportedByPeer
            }
        })
    }

    /// Whether half of the datagram send buffer is free.
    pub(super) fn has_room(&self) -> bool {
        self.connection.quic_connection().datagram_send_buffer_space() >= SEND_BUFFER_BYTES / 2
    }

    /// Writes a round on its own stream. It completes at once unless the peer is slow.
    fn send_stream(&mut self, json: Bytes) -> RoundOutcome {
        let memory = match self.late < LATE_MAX {
            // Until it is written, it keeps a frame.
            true => self.memory.take(MemoryUse::queues, encoded_bytes(json.len())).ok(),
            false => None,
        };
        let Some(memory) = memory else {
            self.count_drops(1);
            return RoundOutcome::Dropped;
        };
        let mut write = StreamedRound::write(self.connection.clone(), json, memory).boxed();
        match (&mut write).now_or_never() {
            Some(Some(streamed)) => RoundOutcome::Streamed(streamed),
            Some(None) => RoundOutcome::Closed,
            None => {
                self.late += 1;
                RoundOutcome::Late(write)
            }
        }
    }

    /// Notes that a late round was written, or failed.
    pub(super) fn late_round_done(&mut self) {
        self.late = self.late.saturating_sub(1);
    }

    /// Sends a message on its own stream and waits for the acknowledgment.
    pub(super) async fn send_acknowledged(&self, text: Bytes) -> Result<(), StreamFailed> {
        self.open_stream(text).await?.finish().await.or_else(|error| stopped(&error))
    }

    /// Opens a stream and writes this on it.
    pub(super) async fn open_stream(&self, text: Bytes) -> Result<SendStream, StreamFailed> {
        open_stream(&self.connection, text).await
    }

    /// Counts the rounds of the opening.
    pub(super) fn written(&self, rounds: usize) {
        self.record.written(rounds);
    }

    /// Counts the datagrams that the library dropped since the last call. The library does not
    /// report drops, but it counts sent datagrams: if its buffer is empty, it dropped the others.
    pub(super) fn count_dropped(&mut self) {
        let quic = self.connection.quic_connection();
        let empty = quic.datagram_send_buffer_space() + BUFFER_SLACK >= SEND_BUFFER_BYTES;
        if empty || quic.close_reason().is_some() {
            let missing = self.sent_datagrams.saturating_sub(quic.stats().frame_tx.datagram);
            let new = missing.saturating_sub(self.dropped);
            self.dropped += new;
            self.count_drops(new);
        }
    }

    fn count_drops(&self, rounds: u64) {
        let label = ByTransport { transport: self.record.transport };
        self.record.metrics.rounds_dropped_total.get_or_create(&label).inc_by(rounds);
    }

    /// Notes that the connection has ended.
    pub(super) fn note_closed(mut self, reason: CloseReason) {
        self.count_dropped();
        if reason != CloseReason::Client {
            self.record.close(reason);
        }
    }

    /// Sends `bye` and closes, also if the peer does not acknowledge it.
    pub(super) async fn close(mut self, reason: CloseReason) {
        self.record.close(reason);
        if let Ok(Ok(())) = timeout(BYE_TIMEOUT, self.send_acknowledged(wire::bye(reason))).await {
            sleep(LINGER).await;
        }
        let code = u32::from(reason.code());
        self.connection.close(code.into(), reason.text().as_bytes());
        self.count_dropped();
    }
}

async fn open_stream(connection: &Connection, text: Bytes) -> Result<SendStream, StreamFailed> {
    let mut stream = connection.open_uni().await.map_err(|_| StreamFailed)?.await?;
    stream.write_all(&text).await?;
    Ok(stream)
}

/// A stream that the peer stopped is no failure: the peer has read enough of it.
pub(super) fn stopped(error: &StreamWriteError) -> Result<(), StreamFailed> {
    match error {
        StreamWriteError::Stopped(_) | StreamWriteError::Closed => Ok(()),
        StreamWriteError::NotConnected | StreamWriteError::QuicProto => Err(StreamFailed),
    }
}

impl From<StreamWriteError> for StreamFailed {
    fn from(_: StreamWriteError) -> Self {
        Self
    }
}

impl From<StreamOpeningError> for StreamFailed {
    fn from(_: StreamOpeningError) -> Self {
        Self
    }
}
