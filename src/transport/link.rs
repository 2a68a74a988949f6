//! The socket under an HTTP connection, with a limit to how long its peer may take nothing.
//!
//! hyper does not end a write that the peer never takes: the connection, its buffers and its memory
//! would stay for as long as TCP retries. Here a blocked write is given `patience`; where the peer
//! takes less than [`FLOOR`] in that time, the write fails and the socket is reset. (After a plain
//! close a full socket stays in FIN-WAIT-1 with its kernel memory, and the peer sees nothing.)

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

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::OwnedSemaphorePermit,
    time::Sleep,
};

/// Progress below this many bytes per `patience` does not count: a peer that reads a byte now and
/// then holds as much memory as one that reads nothing.
pub(crate) const FLOOR: usize = 16 * 1024;

/// A TCP connection whose blocked writes fail after a while.
#[derive(Debug)]
pub(crate) struct Link {
    tcp: TcpStream,
    patience: Duration,
    blocked: Option<Blocked>,
    gauge: Gauge,
    /// Given back when the socket is closed, not when HTTP is done with it.
    place: OwnedSemaphorePermit,
}

/// Whether a link holds bytes back. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gauge(Arc<AtomicBool>);

/// A write that the peer holds up.
#[derive(Debug)]
struct Blocked {
    until: Pin<Box<Sleep>>,
    taken: usize,
}

impl Gauge {
    /// Whether the last write was not taken whole: its writer has more of it in a buffer.
    pub(crate) fn is_blocked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Link {
    /// Wraps a connected socket, which holds a place among the open ones.
    pub(crate) fn new(tcp: TcpStream, patience: Duration, place: OwnedSemaphorePermit) -> Self {
        Self { tcp, patience, blocked: None, gauge: Gauge::default(), place }
    }

    /// A view that stays valid however deep the link is buried in other layers.
    pub(crate) fn gauge(&self) -> Gauge {
        self.gauge.clone()
    }

    /// The socket and its place.
    pub(crate) fn into_parts(self) -> (TcpStream, OwnedSemaphorePermit) {
        (self.tcp, self.place)
    }

    /// Judges what the socket said to a write of `wanted` bytes.
    fn judge(
        &mut self,
        cx: &mut Context<'_>,
        wanted: usize,
        outcome: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let is_whole = matches!(&outcome, Poll::Ready(Ok(taken)) if *taken == wanted);
        self.gauge.0.store(!is_whole, Ordering::Relaxed);
        match &outcome {
            Poll::Ready(Ok(_)) if is_whole => self.blocked = None,
            Poll::Ready(Ok(taken)) => self.progress(*taken),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => return self.wait(cx),
        }
        outcome
    }

    fn progress(&mut self, taken: usize) {
        if let Some(blocked) = &mut self.blocked {
            blocked.taken += taken;
            if blocked.taken >= FLOOR {
                self.blocked = None;
            }
        }
    }

    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let patience = self.patience;
        let blocked = self.blocked.get_or_insert_with(|| Blocked {
            until: Box::pin(tokio::time::sleep(patience)),
            taken: 0,
        });
        if blocked.until.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        // A socket that is gone already needs no reset.
        let _ = self.tcp.set_zero_linger();
        Poll::Ready(Err(io::Error::new(ErrorKind::TimedOut, "the peer takes nothing")))
    }
}

impl AsyncRead for Link {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Link {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.tcp).poll_write(cx, bytes);
        self.judge(cx, bytes.len(), outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wanted = slices.iter().map(|slice| slice.len()).sum();
        let outcome = Pin::new(&mut self.tcp).poll_write_vectored(cx, slices);
        self.judge(cx, wanted, outcome)
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
        sync::Semaphore,
    };

    async fn pair(patience: Duration) -> (Link, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let peer = TcpStream::connect(listener.local_addr().expect("address"));
        let (peer, accepted) = tokio::join!(peer, listener.accept());
        let place = Arc::new(Semaphore::new(1)).try_acquire_owned().expect("a place");
        (Link::new(accepted.expect("accept").0, patience, place), peer.expect("connect"))
    }

    #[tokio::test]
    async fn a_peer_that_takes_nothing_is_stalled_and_reset() {
        let (mut link, mut peer) = pair(Duration::from_millis(50)).await;
        let gauge = link.gauge();
        assert!(!gauge.is_blocked());
        let error = link.write_all(&vec![0; 64 << 20]).await.expect_err("nobody reads");
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!(gauge.is_blocked());
        drop(link);
        let error = peer.read_to_end(&mut Vec::new()).await.expect_err("a reset");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }

    #[tokio::test]
    async fn a_peer_that_reads_gets_all_of_it() {
        let (mut link, mut peer) = pair(Duration::from_secs(10)).await;
        let reader = async move {
            let mut read = Vec::new();
            peer.read_to_end(&mut read).await.expect("read");
            read.len()
        };
        let writer = async move {
            link.write_all(&vec![0; 8 << 20]).await.expect("write");
            assert!(!link.gauge().is_blocked());
        };
        assert_eq!(tokio::join!(reader, writer).0, 8 << 20);
    }
}
