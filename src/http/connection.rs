//! A connection that speaks HTTP/1: hyper serves its requests, and a granted stream leaves it.
//!
//! While no request is under way, the connection is only a socket and a task that waits for bytes:
//! hyper, with its buffers of up to 32 KB, exists from the first byte of a request to the last byte
//! of its response. A connection may wait for [`HEAD_TIMEOUT`], and is closed earlier if the
//! limiter needs its place.
//!
//! When a route grants a stream, hyper does not get its response. The loop waits until hyper has
//! written all earlier responses. Then it hands the socket to a shard, with the response head and
//! the bytes that hyper has read beyond the request. So hyper reads every request and axum decides
//! on it, but neither takes part when rounds are written.

use std::{
    convert::Infallible,
    error::Error,
    future::{Future, poll_fn},
    net::IpAddr,
    pin::Pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    http::{HeaderMap, HeaderValue, StatusCode},
    response::Response,
};
use hyper::{Request, body::Incoming, server::conn::http1::Parts, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::time::timeout;
use tower::ServiceExt;

use super::{
    exchange::{Exchanges, TrackedBody},
    hand_off::{Client, HandOff},
    head, host, problem,
    refused_head::{self, ProblemSocket},
};
use crate::{
    config::TrustedProxies,
    ops::{connection_limiter::PendingConnection, memory_budget::MemoryBudget, shutdown::Shutdown},
    transport::{
        GrantedStream, Shards,
        metered_socket::{MeteredSocket, WriteGauge},
        tls::TlsAcceptor,
    },
};

/// Proxies add the address of their client to it.
const X_FORWARDED_FOR: &str = "x-forwarded-for";
/// The timeout for a request head: a slower one is an attack or a dead peer. Also limits an idle
/// keep-alive connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Why a request without TLS is refused on a port with TLS.
const PLAIN_HTTP: &str = "this port speaks TLS: use https:// or wss://";
/// How long a client that was refused may take to end the connection. A close while it sends would be
/// a reset, and it might lose the answer.
pub(super) const LINGER: Duration = Duration::from_secs(1);
/// How long a connection may take after a shutdown request. The shards end the streams; hyper only
/// has to send its last response.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(3);

/// The handles that each connection needs.
#[derive(Debug)]
pub(super) struct ConnectionContext {
    pub(super) router: Router,
    pub(super) shards: Shards,
    pub(super) tls: Option<TlsAcceptor>,
    pub(super) shutdown: Shutdown,
    pub(super) proxies: TrustedProxies,
    pub(super) budget: MemoryBudget,
}

impl ConnectionContext {
    /// The client that sent this request.
    fn client(&self, peer: IpAddr, headers: &HeaderMap) -> Client {
        let forwarded = headers.get_all(X_FORWARDED_FOR).iter();
        let address = self.proxies.client(peer, forwarded.map(HeaderValue::as_bytes));
        Client { address, is_encrypted: self.tls.is_some() }
    }
}

/// Why hyper stopped.
enum Stopped {
    /// The connection has ended.
    Closed,
    /// All requests are answered, or a stream was granted.
    Idle,
}

/// Serves a connection until it ends, or is a stream.
pub(super) async fn serve(
    mut socket: MeteredSocket,
    peer: IpAddr,
    pending: PendingConnection,
    context: Arc<ConnectionContext>,
) {
    let pending = Arc::new(pending);
    if let Some(tls) = &context.tls
        && !encrypts(&mut socket, tls, &pending, &context.shutdown).await
    {
        return;
    }
    let _keys = context.tls.is_some().then(|| context.budget.count_keys());
    while waits(&socket, &pending, &context.shutdown).await {
        // In a box of its own: a connection that waits holds none of it.
        match Box::pin(speak_http(socket, peer, &pending, &context)).await {
            Some(idle) => socket = idle,
            None => return,
        }
    }
}

/// Completes a TLS handshake. Returns false if there is none.
async fn encrypts(
    socket: &mut MeteredSocket,
    tls: &TlsAcceptor,
    pending: &PendingConnection,
    shutdown: &Shutdown,
) -> bool {
    let plain_answer = || problem::last_response(StatusCode::BAD_REQUEST, PLAIN_HTTP);
    let encrypted = tokio::select! {
        encrypted = timeout(HEAD_TIMEOUT, socket.encrypt(tls, plain_answer)) => encrypted,
        () = pending.closed() => return false,
        () = shutdown.requested() => return false,
    };
    match encrypted {
        Ok(Ok(())) => true,
        Ok(Err(error)) => {
            tracing::debug!(%error, "the TLS handshake failed");
            false
        }
        Err(_) => false,
    }
}

/// Waits for the first bytes of a request. Returns false if the connection must close.
async fn waits(socket: &MeteredSocket, pending: &PendingConnection, shutdown: &Shutdown) -> bool {
    tokio::select! {
        biased;
        arrived = timeout(HEAD_TIMEOUT, socket.has_bytes()) => arrived.unwrap_or(false),
        () = pending.closed() => false,
        () = shutdown.requested() => false,
    }
}

/// Serves requests. Returns the socket once all that have arrived are answered. Errors are logged
/// at debug, because peers cause them.
async fn speak_http(
    socket: MeteredSocket,
    peer: IpAddr,
    pending: &Arc<PendingConnection>,
    context: &Arc<ConnectionContext>,
) -> Option<MeteredSocket> {
    let _memory = context.budget.count_http();
    let progress = Progress::new(&socket, pending);
    let service = service_fn(|request| {
        let (hand_off, exchanges) = (progress.hand_off.clone(), progress.exchanges.clone());
        Box::pin(answer(Arc::clone(context), request, peer, hand_off, exchanges))
    });
    let socket = TokioIo::new(ProblemSocket::new(socket));
    let mut http = refused_head::builder(HEAD_TIMEOUT).serve_connection(socket, service);
    let stopped = tokio::select! {
        stopped = progress.until_idle(&mut http) => stopped,
        () = pending.closed() => {
            http.into_parts().io.into_inner().into_inner().reset_if_blocked();
            return None;
        }
        () = context.shutdown.requested() => {
            Pin::new(&mut http).graceful_shutdown();
            let end = progress.until_idle(&mut http);
            timeout(DRAIN_TIMEOUT, end).await.unwrap_or(Ok(Stopped::Closed))
        }
    };
    match stopped {
        Err(error) => {
            tracing::debug!(%error, "the connection failed");
            if error.is_parse() {
                linger(http.into_parts().io.into_inner().into_inner(), pending).await;
            }
            None
        }
        Ok(Stopped::Closed) => None,
        Ok(Stopped::Idle) => after_requests(http.into_parts(), &progress.hand_off, context).await,
    }
}

/// Waits until the client has ended a connection whose request was refused.
async fn linger(mut socket: MeteredSocket, pending: &PendingConnection) {
    tokio::select! {
        _ = timeout(LINGER, socket.linger()) => {}
        () = pending.closed() => {}
    }
}

/// Shows how far hyper has come with the requests of a connection.
struct Progress {
    gauge: WriteGauge,
    hand_off: HandOff,
    exchanges: Exchanges,
}

impl Progress {
    fn new(socket: &MeteredSocket, pending: &Arc<PendingConnection>) -> Self {
        let exchanges = Exchanges::new(Arc::clone(pending));
        Self { gauge: socket.gauge(), hand_off: HandOff::default(), exchanges }
    }

    /// Runs hyper until the connection ends, or until the kernel has accepted the responses to all
    /// requests so far, or to those before a granted stream.
    async fn until_idle<C>(&self, http: &mut C) -> hyper::Result<Stopped>
    where
        C: Future<Output = hyper::Result<()>> + Unpin,
    {
        poll_fn(|cx| match Pin::new(&mut *http).poll(cx) {
            Poll::Ready(ended) => Poll::Ready(ended.map(|()| Stopped::Closed)),
            Poll::Pending if self.gauge.is_blocked() => Poll::Pending,
            Poll::Pending if self.hand_off.has_grant() || self.exchanges.are_done() => {
                Poll::Ready(Ok(Stopped::Idle))
            }
            Poll::Pending => Poll::Pending,
        })
        .await
    }
}

/// Hands a granted stream to a shard, or returns the socket, with what hyper has read of the next
/// request.
async fn after_requests<S>(
    parts: Parts<TokioIo<ProblemSocket<MeteredSocket>>, S>,
    hand_off: &HandOff,
    context: &ConnectionContext,
) -> Option<MeteredSocket> {
    if hand_off.has_grant() {
        if let Err(error) = hand_off_stream(parts, hand_off, context).await {
            tracing::debug!(%error, "the stream was not opened");
        }
        return None;
    }
    let mut socket = parts.io.into_inner().into_inner();
    socket.put_back(parts.read_buf);
    Some(socket)
}

/// Answers a request. If a stream is granted, this future never completes: hyper waits for the
/// response and reads nothing meanwhile.
async fn answer(
    context: Arc<ConnectionContext>,
    mut request: Request<Incoming>,
    peer: IpAddr,
    hand_off: HandOff,
    exchanges: Exchanges,
) -> Result<Response<TrackedBody>, Infallible> {
    let exchange = exchanges.begin(request.body());
    if let Some(refused) = host::refuse(&request) {
        return Ok(exchange.track(refused));
    }
    let client = context.client(peer, request.headers());
    request.extensions_mut().insert(client);
    let response = context.router.clone().oneshot(request.map(Body::new)).await?;
    match hand_off.intercept(response) {
        Some(response) => Ok(exchange.track(response)),
        None => std::future::pending().await,
    }
}

/// Hands a granted stream to a shard. If the stream cannot be opened, the connection is closed
/// without a response, and the client repeats the same request.
async fn hand_off_stream<S>(
    parts: Parts<TokioIo<ProblemSocket<MeteredSocket>>, S>,
    hand_off: &HandOff,
    context: &ConnectionContext,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    let Some((head, grant)) = hand_off.take_grant() else { return Ok(()) };
    let protocol = grant.protocol;
    let mut socket = parts.io.into_inner().into_inner();
    socket.put_back(parts.read_buf);
    let (tcp, tls, unread) = socket.into_parts();
    let stream = GrantedStream {
        socket: tcp.into_std()?,
        tls,
        unread,
        head: head::write(&head, protocol.is_chunked()),
        protocol,
        prepared: grant.prepared,
        permits: Box::new(grant.permit),
        lease: grant.lease,
    };
    tokio::select! {
        biased;
        opened = context.shards.open_stream(stream) => Ok(opened?),
        () = context.shutdown.requested() => Ok(()),
    }
}
