//! One session: what is sent to it, and how it ends.

use std::{fmt, time::Duration};

use bytes::Bytes;
use futures_util::{FutureExt, future::BoxFuture};
use tokio::time::{sleep, timeout};
use wtransport::{
    Connection, SendStream,
    error::{SendDatagramError, StreamOpeningError, StreamWriteError},
    quinn,
};

use super::wire::{self, Datagram, SEND_BUFFER_BYTES};
use crate::{
    ops::telemetry::metrics::ByTransport,
    transport::{SessionRecord, close::CloseReason},
};

/// Large rounds that may wait for their stream at once: a peer that gives no more streams, or no
/// more room on them, would otherwise make us keep them all.
pub(super) const LATE_MAX: usize = 8;
/// How long the last words may take to be acknowledged.
const BYE_TIMEOUT: Duration = Duration::from_secs(1);
/// Between the acknowledgment of the last words and the close: a browser has them by then, but
/// drops what its page has not read when the connection ends.
const LINGER: Duration = Duration::from_millis(100);
/// What the library reserves in an empty buffer (it counts 32 bytes a datagram).
const BUFFER_SLACK: usize = 64;

/// A stream that came to nothing: the connection ended, or the peer wants no more of it.
#[derive(Debug)]
pub(super) struct StreamFailed;

/// What became of a round.
pub(super) enum DatagramOutcome {
    /// It is on its way.
    Done,
    /// It needs a stream, and the stream needs time; then it says whether it took the round.
    Late(BoxFuture<'static, bool>),
    /// The connection is over, which is told elsewhere, or the peer stopped the stream.
    Gone,
    /// The peer is behind with what came before.
    Dropped,
}

/// One session of a client.
pub(super) struct Session {
    connection: Connection,
    record: SessionRecord,
    /// Datagrams handed to the library.
    sent_datagrams: u64,
    /// Those of them that it is known to have dropped.
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
    pub(super) fn new(connection: Connection, record: SessionRecord) -> Self {
        Self { connection, record, sent_datagrams: 0, dropped: 0, late: 0 }
    }

    /// Names the connection within the process.
    pub(super) fn id(&self) -> usize {
        self.connection.stable_id()
    }

    /// Resolves when the connection is over, with the reason.
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

    /// Sends a round as a datagram, on a stream of its own if it is too large for one.
    pub(super) fn send(&mut self, round: &Datagram) -> DatagramOutcome {
        match self.send_datagram(round) {
            Ok(()) => {
                self.sent_datagrams += 1;
                DatagramOutcome::Done
            }
            Err(SendDatagramError::NotConnected) => DatagramOutcome::Gone,
            // A peer that takes no datagrams gets everything by stream.
            Err(SendDatagramError::TooLarge | SendDatagramError::UnsupportedByPeer) => {
                self.send_stream(round.json.clone())
            }
        }
    }

    fn send_datagram(&self, round: &Datagram) -> Result<(), SendDatagramError> {
        if self.connection.session_id().into_u64() != 0 {
            return self.connection.send_datagram(&round.json);
        }
        let sent = self.connection.quic_connection().send_datagram(round.first.clone());
        sent.map_err(|error| match error {
            quinn::SendDatagramError::TooLarge => SendDatagramError::TooLarge,
            quinn::SendDatagramError::ConnectionLost(_) => SendDatagramError::NotConnected,
            quinn::SendDatagramError::UnsupportedByPeer | quinn::SendDatagramError::Disabled => {
                SendDatagramError::UnsupportedByPeer
            }
        })
    }

    /// Whether half of the buffer for datagrams is free.
    pub(super) fn has_room(&self) -> bool {
        self.connection.quic_connection().datagram_send_buffer_space() >= SEND_BUFFER_BYTES / 2
    }

    /// Writes at once what can be written at once, which is all of it unless the peer is slow.
    fn send_stream(&mut self, json: Bytes) -> DatagramOutcome {
        if self.late >= LATE_MAX {
            self.count_drops(1);
            return DatagramOutcome::Dropped;
        }
        let connection = self.connection.clone();
        let mut write = async move {
            let Ok(mut stream) = open_stream(&connection, json).await else { return false };
            // Its end is acknowledged some time later; nobody needs to know when.
            stream.quic_stream_mut().finish().is_ok()
        }
        .boxed();
        match (&mut write).now_or_never() {
            Some(true) => DatagramOutcome::Done,
            Some(false) => DatagramOutcome::Gone,
            None => {
                self.late += 1;
                DatagramOutcome::Late(write)
            }
        }
    }

    /// A late round has got its stream.
    pub(super) fn late_round_done(&mut self) {
        self.late = self.late.saturating_sub(1);
    }

    /// Sends this on a stream of its own and waits until it has arrived.
    pub(super) async fn send_acknowledged(&self, text: Bytes) -> Result<(), StreamFailed> {
        self.open_stream(text).await?.finish().await.or_else(|error| stopped(&error))
    }

    /// Begins a stream with this.
    pub(super) async fn open_stream(&self, text: Bytes) -> Result<SendStream, StreamFailed> {
        open_stream(&self.connection, text).await
    }

    /// Counts rounds of the opening.
    pub(super) fn written(&self, rounds: usize) {
        self.record.written(rounds);
    }

    /// Counts what the library dropped from its buffer since the last look. It says nothing when
    /// it does; but it says what it sent, and with an empty buffer the rest was dropped.
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

    /// Notes that the connection is over.
    pub(super) fn note_closed(mut self, reason: CloseReason) {
        self.count_dropped();
        if reason != CloseReason::Client {
            self.record.close(reason);
        }
    }

    /// Says `bye` and closes. A peer that does not take it is closed all the same.
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

/// A peer may stop a stream that it has read enough of.
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
