//! The socket under an HTTP connection, with a timeout for blocked writes.
//!
//! hyper has no write timeout: a connection whose peer reads nothing would keep its memory as long
//! as TCP retries. Here a blocked write fails if the peer takes less than [`PROGRESS_BYTES_MIN`]
//! within `patience`, and the socket is reset. After a plain close, a full socket would stay in
//! FIN-WAIT-1 with its kernel memory, and the peer would not notice.
//!
//! The timeout of `tokio-io-timeout` ends with any progress, even of one byte, and resets nothing.

use std::{
    future::Future,
    io::{self, ErrorKind, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Buf, Bytes};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::Sleep,
};

/// A peer must take this many bytes per `patience`. One that reads a byte now and then holds as
/// much memory as one that reads nothing.
pub(crate) const PROGRESS_BYTES_MIN: usize = 16 * 1024;

/// A TCP connection whose blocked writes time out.
#[derive(Debug)]
pub(crate) struct MeteredSocket {
    tcp: TcpStream,
    patience: Duration,
    blocked: Option<BlockedWrite>,
    gauge: WriteGauge,
    /// Bytes that were read from the socket before, and not used.
    unread: Bytes,
}

/// Whether the last write to a socket was blocked. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct WriteGauge(Arc<AtomicBool>);

/// A blocked write: its deadline, and the bytes taken since it blocked.
#[derive(Debug)]
struct BlockedWrite {
    until: Pin<Box<Sleep>>,
    taken: usize,
}

impl WriteGauge {
    /// Whether the socket did not take the whole last write: hyper holds the rest in its buffer.
    pub(crate) fn is_blocked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl MeteredSocket {
    /// Wraps a connected socket. The flag is set while the peer does not take what it was sent.
    pub(crate) fn new(tcp: TcpStream, patience: Duration, is_blocked: Arc<AtomicBool>) -> Self {
        let gauge = WriteGauge(is_blocked);
        Self { tcp, patience, blocked: None, gauge, unread: Bytes::new() }
    }

    /// The gauge of this socket, for use while hyper owns the socket.
    pub(crate) fn gauge(&self) -> WriteGauge {
        self.gauge.clone()
    }

    /// The socket.
    pub(crate) fn into_inner(self) -> TcpStream {
        self.tcp
    }

    /// Puts bytes back that were read and not used.
    pub(crate) fn put_back(&mut self, unread: Bytes) {
        self.unread = unread;
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
            blocked.taken += taken;
            if blocked.taken >= PROGRESS_BYTES_MIN {
                self.blocked = None;
            }
        }
    }

    fn poll_blocked(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let patience = self.patience;
        let blocked = self.blocked.get_or_insert_with(|| BlockedWrite {
            until: Box::pin(tokio::time::sleep(patience)),
            taken: 0,
        });
        if blocked.until.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
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
        if self.unread.is_empty() {
            return Pin::new(&mut self.tcp).poll_read(cx, buffer);
        }
        let taken = self.unread.len().min(buffer.remaining());
        buffer.put_slice(&self.unread[..taken]);
        self.unread.advance(taken);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for MeteredSocket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.tcp).poll_write(cx, bytes);
        self.track_write(cx, bytes.len(), outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wanted = slices.iter().map(|slice| slice.len()).sum();
        let outcome = Pin::new(&mut self.tcp).poll_write_vectored(cx, slices);
        self.track_write(cx, wanted, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    async fn pair(patience: Duration) -> (MeteredSocket, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let peer = TcpStream::connect(listener.local_addr().expect("address"));
        let (peer, accepted) = tokio::join!(peer, listener.accept());
        let socket = MeteredSocket::new(accepted.expect("accept").0, patience, Arc::default());
        (socket, peer.expect("connect"))
    }

    #[tokio::test]
    async fn a_peer_that_reads_nothing_is_reset() {
        let (mut socket, mut peer) = pair(Duration::from_millis(50)).await;
        let gauge = socket.gauge();
        assert!(!gauge.is_blocked());
        let error = socket.write_all(&vec![0; 64 << 20]).await.expect_err("nobody reads");
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!(gauge.is_blocked());
        drop(socket);
        let error = peer.read_to_end(&mut Vec::new()).await.expect_err("a reset");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }

    #[tokio::test]
    async fn a_peer_that_reads_gets_all_bytes() {
        let (mut socket, mut peer) = pair(Duration::from_secs(10)).await;
        let reader = async move {
            let mut read = Vec::new();
            peer.read_to_end(&mut read).await.expect("read");
            read.len()
        };
        let writer = async move {
            socket.write_all(&vec![0; 8 << 20]).await.expect("write");
            assert!(!socket.gauge().is_blocked());
        };
        assert_eq!(tokio::join!(reader, writer).0, 8 << 20);
    }

    #[tokio::test]
    async fn bytes_that_were_put_back_are_read_first() {
        let (mut socket, mut peer) = pair(Duration::from_secs(10)).await;
        peer.write_all(b"later").await.expect("write");
        socket.put_back(Bytes::from_static(b"first"));
        assert!(socket.has_bytes().await);
        let mut read = [0; 10];
        socket.read_exact(&mut read).await.expect("ten bytes");
        assert_eq!(&read, b"firstlater");
        drop(peer);
        assert!(!socket.has_bytes().await);
    }
}
