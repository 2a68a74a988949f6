//! The door: accepts connections and lets hyper read HTTP/1 from them.
//!
//! An accept loop of our own, because the ready-made one (`axum::serve`) has no limit to how long a
//! request head may take, none to the number of connections, and no hold on the socket underneath.
//!
//! A granted stream leaves here: its route's response stays away from hyper, the connection waits
//! until hyper has written what came before, and the socket goes to a shard with the head of the
//! response and the bytes that hyper has read but not used. So hyper reads every request and axum
//! decides on all of them, and neither is there when rounds are written.
//!
//! HTTP/2 is left to a proxy: a stream there is one of many on a connection, and a slow one would
//! hold up the others.

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

/// Connections the kernel may hold for us until they are accepted: a storm of reconnects comes
/// within a second. (Linux takes at most `net.core.somaxconn`, 4096 by default.)
const LISTEN_BACKLOG: i32 = 4096;
/// Bounds what a slow reader holds in the kernel, which doubles it; left alone it grows to 4 MiB.
const SEND_BUFFER_BYTES: usize = 64 * 1024;
/// A head that takes longer is an attack or a dead peer. Bounds an idle keep-alive as well.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// The most bytes of a request head, and of a response that waits for its socket.
const BUFFER_BYTES: usize = 16 * 1024;
/// The most headers of a request.
const HEADERS_MAX: usize = 100;
/// The wait after a failed accept. Without it the loop would spin while descriptors are short.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// What a connection may still take once a stop was asked for: streams have ended by themselves
/// then, only what was written last has to leave.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(3);

/// What every connection works with.
#[derive(Clone, Debug)]
struct ConnectionContext {
    router: Router,
    shards: Shards,
    shutdown: Shutdown,
}

/// A bound listener.
#[derive(Debug)]
pub(crate) struct AcceptLoop {
    listener: TcpListener,
    address: SocketAddr,
}

/// Binds, or says which address could not be bound and why. Needs a runtime to be there.
pub(crate) fn bind(address: SocketAddr) -> io::Result<AcceptLoop> {
    let listener = listen(address).map_err(|error| {
        io::Error::new(error.kind(), format!("cannot listen on {address}: {error}"))
    })?;
    let address = listener.local_addr()?;
    Ok(AcceptLoop { listener, address })
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restart must not wait for the old connections' TIME-WAIT.
    socket.set_reuse_address(true)?;
    // Accepted sockets inherit it.
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

    /// Serves until a stop is asked for; streams go to the shards. Connections are tasks of
    /// `shutdown`, whose `finish` waits for them.
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

    /// The next connection, however long it takes: an accept that fails is logged once in a row.
    async fn accept(&self) -> (TcpStream, SocketAddr) {
        let mut failing = false;
        loop {
            match self.listener.accept().await {
                Ok(accepted) => return accepted,
                Err(error) if is_peer_error(&error) => {}
                Err(error) => {
                    if !failing {
                        tracing::error!(%error, "no connection can be accepted: retrying");
                    }
                    failing = true;
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// Whether the error belongs to the connection that was to be accepted, and not to us.
fn is_peer_error(error: &io::Error) -> bool {
    use ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

/// Readies a socket; `None` when its peer has left already.
fn configure(
    tcp: TcpStream,
    patience: Duration,
    permit: OwnedSemaphorePermit,
) -> Option<MeteredSocket> {
    // A round is one small write: Nagle's algorithm would hold it back for a round trip.
    tcp.set_nodelay(true).ok()?;
    // A peer that vanished acknowledges nothing; TCP alone would retry for 15 minutes. A quarter
    // later than our own deadline for blocked writes, which tells the peer by a reset.
    #[cfg(target_os = "linux")]
    SockRef::from(&tcp).set_tcp_user_timeout(Some(patience * 5 / 4)).ok()?;
    Some(MeteredSocket::new(tcp, patience, permit))
}

/// One connection, for as long as it speaks HTTP. Its errors are its peer's affair.
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
        tracing::debug!(%error, "a connection ended");
    } else if let Err(error) = hand_off_stream(http.into_parts(), &hand_off, &context).await {
        tracing::debug!(%error, "a stream was not opened");
    }
}

/// Lets hyper work until the connection ends, or a stream was granted and all that hyper had to
/// write before it is with the kernel.
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

/// Answers a request, unless that grants a stream: then hyper waits for a response that never
/// comes, and reads nothing meanwhile.
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

/// Hands a granted stream to a shard; without one the connection is over. A stream that cannot be
/// opened after all is closed without an answer, so that its client asks for the same again.
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
    async fn a_busy_port_is_named_in_the_error() {
        let accept_loop = bind("127.0.0.1:0".parse().expect("an address")).expect("bind");
        let error = bind(accept_loop.local_addr()).expect_err("busy");
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        assert!(error.to_string().contains(&accept_loop.local_addr().to_string()), "{error}");
    }
}
