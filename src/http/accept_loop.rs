//! The accept loop: accepts connections, serves HTTP/1 on them with hyper, and hands off streams.
//!
//! `axum::serve` has no timeout for request heads, no limit on connections, and no access to the
//! socket. This loop has all three.
//!
//! When a route grants a stream, hyper does not get its response. The loop waits until hyper has
//! written all earlier responses. Then it hands the socket to a shard, with the response head and
//! the bytes that hyper has read beyond the request. So hyper reads every request and axum decides
//! on it, but neither takes part when rounds are written.
//!
//! HTTP/2 is left to a proxy: many streams share one connection there, and a slow one would delay
//! the others.

use std::{
    convert::Infallible,
    error::Error,
    future::{Future, poll_fn},
    io::{self, ErrorKind},
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{Router, body::Body, response::Response};
use hyper::{
    Request,
    body::Incoming,
    server::conn::http1::{self, Parts},
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tower::ServiceExt;

use super::{
    Settings,
    hand_off::{ClientAddress, HandOff},
    head,
};
use crate::{
    ops::{descriptors::SPARE_CONNECTIONS, shutdown::Shutdown},
    transport::{
        GrantedStream, Shards,
        metered_socket::{MeteredSocket, WriteGauge},
    },
};

/// Connections that the kernel may queue until they are accepted: a burst of reconnects arrives
/// within a second. Linux limits this to `net.core.somaxconn`, 4096 by default.
const LISTEN_BACKLOG: i32 = 4096;
/// Bounds the kernel memory of a slow reader. Linux doubles it; without it, the buffer grows to 4
/// MiB.
const SEND_BUFFER_BYTES: usize = 64 * 1024;
/// The timeout for a request head: a slower one is an attack or a dead peer. Also limits an idle
/// keep-alive connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// The most bytes of a request head, and of responses that wait for the socket.
const BUFFER_BYTES: usize = 16 * 1024;
/// The most headers of a request.
const HEADERS_MAX: usize = 100;
/// The wait after a failed accept. Without it, the loop would spin while descriptors are exhausted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long a connection may take after a shutdown request. The shards end the streams; hyper only
/// has to send its last response.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(3);

/// The handles that each connection needs.
#[derive(Clone, Debug)]
struct ConnectionContext {
    router: Router,
    shards: Shards,
    shutdown: Shutdown,
}

/// The accept loop, bound to its address.
#[derive(Debug)]
pub(crate) struct AcceptLoop {
    listener: TcpListener,
    address: SocketAddr,
}

/// Binds. The error names the address. Must run inside a tokio runtime.
pub(crate) fn bind(address: SocketAddr) -> io::Result<AcceptLoop> {
    let listener = listen(address).map_err(|error| {
        io::Error::new(error.kind(), format!("cannot listen on {address}: {error}"))
    })?;
    let address = listener.local_addr()?;
    Ok(AcceptLoop { listener, address })
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restart must not wait for connections in TIME-WAIT.
    socket.set_reuse_address(true)?;
    // Accepted sockets inherit this size.
    socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(LISTEN_BACKLOG)?;
    TcpListener::from_std(socket.into())
}

impl AcceptLoop {
    /// The bound address, with the port that the system chose for port 0.
    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves until a shutdown is requested. Connections are tasks of `shutdown`, whose `finish`
    /// waits for them.
    pub(crate) async fn serve(
        self,
        router: Router,
        shards: Shards,
        settings: &Settings,
        shutdown: &Shutdown,
    ) {
        let connections = settings.limits.streams.saturating_add(SPARE_CONNECTIONS);
        let permits = Arc::new(Semaphore::new(connections.min(Semaphore::MAX_PERMITS)));
        let patience = settings.heartbeat * 2;
        let context = ConnectionContext { router, shards, shutdown: shutdown.clone() };
        let accept = async {
            loop {
                let Ok(permit) = permits.clone().acquire_owned().await else { return };
                let (tcp, client) = self.accept().await;
                if let Some(socket) = configure(tcp, patience, permit) {
                    shutdown.spawn(serve_connection(socket, client, context.clone()));
                }
            }
        };
        tokio::select! {
            () = shutdown.requested() => {}
            () = accept => {}
        }
    }

    /// Accepts the next connection. Of failures in a row, only the first is logged.
    async fn accept(&self) -> (TcpStream, SocketAddr) {
        let mut failing = false;
        loop {
            match self.listener.accept().await {
                Ok(accepted) => return accepted,
                Err(error) if is_peer_error(&error) => {}
                Err(error) => {
                    if !failing {
                        tracing::error!(%error, "cannot accept connections: retrying");
                    }
                    failing = true;
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// Whether the error is of the accepted connection, not of this process.
fn is_peer_error(error: &io::Error) -> bool {
    use ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

/// Sets the socket options; `None` if the peer has disconnected.
fn configure(
    tcp: TcpStream,
    patience: Duration,
    permit: OwnedSemaphorePermit,
) -> Option<MeteredSocket> {
    // Nagle's algorithm would delay a round, which is a small write, by a round trip.
    tcp.set_nodelay(true).ok()?;
    // For a peer that vanished, TCP alone would retry for 15 minutes. This timeout is a quarter
    // longer than the one for blocked writes, which resets the connection and so informs the peer.
    #[cfg(target_os = "linux")]
    SockRef::from(&tcp).set_tcp_user_timeout(Some(patience * 5 / 4)).ok()?;
    Some(MeteredSocket::new(tcp, patience, permit))
}

/// Serves a connection as long as it speaks HTTP. Errors are logged at debug, because peers cause
/// them.
async fn serve_connection(socket: MeteredSocket, client: SocketAddr, context: ConnectionContext) {
    let (gauge, hand_off, shutdown) = (socket.gauge(), HandOff::default(), &context.shutdown);
    let service = service_fn(|request| {
        Box::pin(answer(context.router.clone(), request, client, hand_off.clone()))
    });
    let mut http = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(BUFFER_BYTES)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(socket), service);
    let ended = tokio::select! {
        ended = poll_fn(|cx| poll_until_granted(&mut http, &hand_off, &gauge, cx)) => Some(ended),
        () = shutdown.requested() => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            Pin::new(&mut http).graceful_shutdown();
            let end = poll_fn(|cx| poll_until_granted(&mut http, &hand_off, &gauge, cx));
            tokio::time::timeout(DRAIN_TIMEOUT, end).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "the connection failed");
    } else if let Err(error) = hand_off_stream(http.into_parts(), &hand_off, &context).await {
        tracing::debug!(%error, "the stream was not opened");
    }
}

/// Polls hyper until the connection ends, or until a stream is granted and the kernel has accepted
/// all earlier responses.
fn poll_until_granted<C>(
    http: &mut C,
    hand_off: &HandOff,
    gauge: &WriteGauge,
    cx: &mut Context<'_>,
) -> Poll<hyper::Result<()>>
where
    C: Future<Output = hyper::Result<()>> + Unpin,
{
    match Pin::new(http).poll(cx) {
        Poll::Pending if hand_off.has_grant() && !gauge.is_blocked() => Poll::Ready(Ok(())),
        other => other,
    }
}

/// Answers a request. If a stream is granted, this future never completes: hyper waits for the
/// response and reads nothing meanwhile.
async fn answer(
    router: Router,
    mut request: Request<Incoming>,
    client: SocketAddr,
    hand_off: HandOff,
) -> Result<Response, Infallible> {
    request.extensions_mut().insert(ClientAddress(client.ip()));
    let response = router.oneshot(request.map(Body::new)).await?;
    match hand_off.intercept(response) {
        Some(response) => Ok(response),
        None => std::future::pending().await,
    }
}

/// Hands a granted stream to a shard. If the stream cannot be opened, the connection is closed
/// without a response, and the client repeats the same request.
async fn hand_off_stream<S>(
    parts: Parts<TokioIo<MeteredSocket>, S>,
    hand_off: &HandOff,
    context: &ConnectionContext,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    let Some((head, grant)) = hand_off.take_grant() else { return Ok(()) };
    let (tcp, permit) = parts.io.into_inner().into_parts();
    let protocol = grant.protocol;
    let stream = GrantedStream {
        socket: tcp.into_std()?,
        unread: parts.read_buf,
        head: head::write(&head, protocol.is_chunked()),
        protocol,
        prepared: grant.prepared,
        permits: Box::new((grant.permit, permit)),
    };
    tokio::select! {
        biased;
        opened = context.shards.open_stream(stream) => Ok(opened?),
        () = context.shutdown.requested() => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_error_names_a_busy_port() {
        let accept_loop = bind("127.0.0.1:0".parse().expect("an address")).expect("bind");
        let error = bind(accept_loop.local_addr()).expect_err("busy");
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        assert!(error.to_string().contains(&accept_loop.local_addr().to_string()), "{error}");
    }
}
