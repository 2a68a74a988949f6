//! The socket under an HTTP connection, with a timeout for blocked writes.
//!
//! hyper has no write timeout: a connection whose peer reads nothing would keep its memory as long
//! as TCP retries. Here a blocked write fails if the peer takes less than [`rate_min`] on average
//! over `patience`, and the socket is reset. After a plain close, a full socket would stay in
//! FIN-WAIT-1 with its kernel memory, and the peer would not notice.
//!
//! With TLS, what hyper writes is sealed here, and what it reads is opened.
//!
//! The timeout of `tokio-io-timeout` ends with any progress, even of one byte, and resets nothing.

use std::{
    future::{Future, poll_fn},
    io::{self, ErrorKind, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use bytes::{Buf, Bytes};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::TcpStream,
    time::{Sleep, sleep},
};

use crate::{
    ops::{memory_budget::MemoryBudget, telemetry::metrics::MemoryUse},
    transport::{
        read_pace::{ReadPace, rate_min},
        tls::{CIPHERTEXT_BYTES, Tls, TlsAcceptor},
    },
};

/// The first byte of TLS: a record of a handshake (RFC 8446 section 5.1). No HTTP method starts so.
const HANDSHAKE_RECORD: u8 = 22;

/// A TCP connection whose blocked writes time out.
#[derive(Debug)]
pub(crate) struct MeteredSocket {
    tcp: TcpStream,
    patience: Duration,
    budget: MemoryBudget,
    blocked: Option<BlockedWrite>,
    gauge: WriteGauge,
    /// Bytes that were read from the socket before, and not used.
    unread: Bytes,
    /// The keys, after [`encrypt`](Self::encrypt).
    tls: Option<Box<Tls>>,
}

/// Whether the last write to a socket was blocked. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct WriteGauge(Arc<AtomicBool>);

/// A blocked write: the end of its window, and the pace of the peer since it blocked.
#[derive(Debug)]
struct BlockedWrite {
    until: Pin<Box<Sleep>>,
    pace: ReadPace,
}

impl BlockedWrite {
    fn new(patience: Duration) -> Self {
        Self { until: Box::pin(sleep(patience)), pace: ReadPace::new(Instant::now()) }
    }

    /// Ready once the peer took less than `rate` bytes per second over a window.
    fn poll_too_slow(&mut self, cx: &mut Context<'_>, window: Duration, rate: usize) -> Poll<()> {
        while self.until.as_mut().poll(cx).is_ready() {
            if self.pace.is_too_slow(Instant::now(), window, rate) {
                return Poll::Ready(());
            }
            self.until = Box::pin(sleep(window));
        }
        Poll::Pending
    }
}

impl WriteGauge {
    /// Whether the socket did not take the whole last write: hyper holds the rest in its buffer.
    pub(crate) fn is_blocked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Ends the write half and waits for the end of the peer's, so that it gets the answer: a close with
/// unread bytes would be a reset.
pub(crate) async fn linger(tcp: &mut TcpStream) {
    let mut rest = [0; 1024];
    let _ = tcp.shutdown().await;
    while tcp.read(&mut rest).await.is_ok_and(|read| read > 0) {}
}

impl MeteredSocket {
    /// Wraps a connected socket. The flag is set while the peer does not take what it was sent.
    pub(crate) fn new(
        tcp: TcpStream,
        patience: Duration,
        budget: MemoryBudget,
        is_blocked: Arc<AtomicBool>,
    ) -> Self {
        let gauge = WriteGauge(is_blocked);
        Self { tcp, patience, budget, blocked: None, gauge, unread: Bytes::new(), tls: None }
    }

    /// The gauge of this socket, for use while hyper owns the socket.
    pub(crate) fn gauge(&self) -> WriteGauge {
        self.gauge.clone()
    }

    /// The socket, its keys, and the bytes that were read and not used.
    pub(crate) fn into_parts(self) -> (TcpStream, Option<Box<Tls>>, Bytes) {
        (self.tcp, self.tls, self.unread)
    }

    /// Puts bytes back that were read and not used.
    pub(crate) fn put_back(&mut self, unread: Bytes) {
        self.unread = if self.unread.is_empty() {
            unread
        } else {
            [unread, std::mem::take(&mut self.unread)].concat().into()
        };
    }

    /// Completes a TLS handshake. A peer that sends no TLS gets `plain_answer`.
    pub(crate) async fn encrypt(
        &mut self,
        acceptor: &TlsAcceptor,
        plain_answer: impl Fn() -> Vec<u8>,
    ) -> io::Result<()> {
        let mut first = [0];
        if self.tcp.peek(&mut first).await? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        if first != [HANDSHAKE_RECORD] {
            self.tcp.write_all(&plain_answer()).await?;
            self.linger().await;
            return Err(io::Error::new(ErrorKind::InvalidData, "no TLS"));
        }
        self.tls = Some(Box::new(acceptor.begin().map_err(io::Error::other)?));
        poll_fn(|cx| self.poll_handshake(cx)).await
    }

    /// See [`linger`].
    pub(crate) async fn linger(&mut self) {
        linger(&mut self.tcp).await;
    }

    fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.poll_sealed(cx))?;
            if !self.tls.as_ref().is_some_and(|tls| tls.is_handshaking()) {
                return Poll::Ready(Ok(()));
            }
            match ready!(self.poll_receive(cx)) {
                Ok(0) => return Poll::Ready(Err(ErrorKind::UnexpectedEof.into())),
                Ok(_) => {}
                Err(error) => {
                    // The alert says why. A peer that does not take it at once does not get it.
                    let _ = self.poll_sealed(cx);
                    return Poll::Ready(Err(error));
                }
            }
        }
    }

    /// Reads ciphertext, and adds its plaintext to the unread bytes. Returns the number of bytes
    /// that came from the socket.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut bytes = [0; CIPHERTEXT_BYTES];
        let mut buffer = ReadBuf::new(&mut bytes);
        ready!(Pin::new(&mut self.tcp).poll_read(cx, &mut buffer))?;
        let mut plain = Vec::from(std::mem::take(&mut self.unread));
        let received = match &mut self.tls {
            Some(tls) if !buffer.filled().is_empty() => tls.receive(buffer.filled(), &mut plain),
            _ => Ok(()),
        };
        self.unread = plain.into();
        Poll::Ready(received.map(|()| buffer.filled().len()))
    }

    /// Writes what TLS has sealed.
    fn poll_sealed(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(tls) = &mut self.tls else { return Poll::Ready(Ok(())) };
        let mut sealed = std::mem::take(tls.unsent_mut());
        let written = loop {
            if sealed.is_empty() {
                break Poll::Ready(Ok(()));
            }
            let outcome = Pin::new(&mut self.tcp).poll_write(cx, &sealed);
            match self.track_write(cx, sealed.len(), outcome) {
                Poll::Ready(Ok(taken)) => sealed.advance(taken),
                Poll::Ready(Err(error)) => break Poll::Ready(Err(error)),
                Poll::Pending => break Poll::Pending,
            }
        };
        if let Some(tls) = &mut self.tls {
            *tls.unsent_mut() = sealed;
        }
        written
    }

    fn poll_read_tls(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.unread.is_empty() {
            let is_over = self.tls.as_ref().is_some_and(|tls| tls.is_peer_closed());
            if is_over || ready!(self.poll_receive(cx))? == 0 {
                return Poll::Ready(Ok(()));
            }
            // An answer to a KeyUpdate. If it does not fit, the next write takes it along.
            if let Poll::Ready(Err(error)) = self.poll_sealed(cx) {
                return Poll::Ready(Err(error));
            }
        }
        self.take_unread(buffer);
        Poll::Ready(Ok(()))
    }

    fn take_unread(&mut self, buffer: &mut ReadBuf<'_>) {
        let taken = self.unread.len().min(buffer.remaining());
        buffer.put_slice(&self.unread[..taken]);
        self.unread.advance(taken);
    }

    fn poll_write_tls(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_sealed(cx))?;
        let sealed = self.tls.as_mut().map_or(Ok(0), |tls| tls.seal_unsent(bytes))?;
        match self.poll_sealed(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            // The gauge says whether bytes are left. The next write or flush takes them.
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(sealed)),
        }
    }

    /// Waits until there are bytes to read. Holds no buffer meanwhile. Returns false if the peer
    /// has disconnected.
    pub(crate) async fn has_bytes(&self) -> bool {
        !self.unread.is_empty() || self.tcp.peek(&mut [0]).await.is_ok_and(|peeked| peeked > 0)
    }

    /// Makes the drop of a socket that the peer does not read a reset. After a plain close it would
    /// keep its kernel memory.
    pub(crate) fn reset_if_blocked(&self) {
        if self.gauge.is_blocked() {
            // This fails only for a socket that is closed already.
            let _ = self.tcp.set_zero_linger();
        }
    }

    /// Updates the gauge and the timeout after a write of `wanted` bytes.
    fn track_write(
        &mut self,
        cx: &mut Context<'_>,
        wanted: usize,
        outcome: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let is_whole = matches!(&outcome, Poll::Ready(Ok(taken)) if *taken == wanted);
        self.gauge.0.store(!is_whole, Ordering::Relaxed);
        match &outcome {
            Poll::Ready(Ok(_)) if is_whole => self.blocked = None,
            Poll::Ready(Ok(taken)) => self.note_progress(*taken),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => return self.poll_blocked(cx),
        }
        outcome
    }

    fn note_progress(&mut self, taken: usize) {
        if let Some(blocked) = &mut self.blocked {
            blocked.pace.take(taken);
        }
    }

    fn poll_blocked(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let patience = self.patience;
        let rate = rate_min(self.budget.is_half_used(MemoryUse::lists));
        let blocked = self.blocked.get_or_insert_with(|| BlockedWrite::new(patience));
        ready!(blocked.poll_too_slow(cx, patience, rate));
        // This fails only for a socket that is closed already.
        let _ = self.tcp.set_zero_linger();
        Poll::Ready(Err(io::Error::new(
            ErrorKind::TimedOut,
            "write timed out: the peer reads too slowly",
        )))
    }
}

impl AsyncRead for MeteredSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.tls.is_some() {
            return self.poll_read_tls(cx, buffer);
        }
        if self.unread.is_empty() {
            return Pin::new(&mut self.tcp).poll_read(cx, buffer);
        }
        self.take_unread(buffer);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for MeteredSocket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.tls.is_some() {
            return self.poll_write_tls(cx, bytes);
        }
        let outcome = Pin::new(&mut self.tcp).poll_write(cx, bytes);
        self.track_write(cx, bytes.len(), outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.tls.is_some() {
            let first = slices.iter().find(|slice| !slice.is_empty());
            return self.poll_write_tls(cx, first.map_or(&[], |slice| slice));
        }
        let wanted = slices.iter().map(|slice| slice.len()).sum();
        let outcome = Pin::new(&mut self.tcp).poll_write_vectored(cx, slices);
        self.track_write(cx, wanted, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.tls.is_none() && self.tcp.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_sealed(cx))?;
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(tls) = &mut self.tls {
            tls.close();
        }
        ready!(self.poll_sealed(cx))?;
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
