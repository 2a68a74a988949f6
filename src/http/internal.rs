//! The internal listener: `/metrics`, `/healthz` and `/readyz` for the operator's own programs.
//!
//! Plain HTTP without tokens. It answers until the process ends: a stop that takes long is seen in
//! its metrics. So it is no task that a stop waits for, but a future that runs beside everything.

use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{Router, body::Body, middleware};
use hyper::{Request, body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::{AbortHandle, JoinSet},
    time::{sleep, timeout},
};
use tower::ServiceExt;

use super::{
    SharedState, body,
    connection::LINGER,
    health, host,
    refused_head::{self, ProblemSocket},
    unknown_method, unknown_route,
};
use crate::{config::NodeName, transport::metered_socket::linger};

/// The most connections: a few scrapers and probes.
const CONNECTIONS_MAX: usize = 64;
/// The timeout for a request head. Also limits an idle keep-alive connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// A connection is closed after this time, so that peers that read nothing cannot hold all of them.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(300);
/// The wait after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The internal listener, bound to its address.
#[derive(Debug)]
pub(crate) struct InternalListener {
    listener: TcpListener,
    address: SocketAddr,
}

/// Binds. The error names the address. Must run inside a tokio runtime.
pub(crate) fn bind(address: SocketAddr) -> io::Result<InternalListener> {
    let listener = super::accept_loop::listen(address).map_err(|error| {
        io::Error::new(error.kind(), format!("cannot listen on {address} (internal): {error}"))
    })?;
    let address = listener.local_addr()?;
    Ok(InternalListener { listener, address })
}

impl InternalListener {
    /// The bound address.
    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves until it is dropped. Clients wait until the server has its state.
    pub(crate) async fn serve(self, state: oneshot::Receiver<SharedState>, node: &NodeName) {
        let Ok(state) = state.await else { return };
        tracing::info!(internal.addr = %self.address, "the internal listener is on");
        let router = router(state, node);
        let mut open = OpenConnections::default();
        loop {
            match self.listener.accept().await {
                Ok((socket, _)) => open.serve(socket, router.clone()),
                Err(_) => sleep(ACCEPT_PAUSE).await,
            }
        }
    }
}

/// The open connections, oldest first. There is always room for one more: silent peers must not
/// keep a probe out.
#[derive(Debug, Default)]
struct OpenConnections {
    open: VecDeque<OpenConnection>,
    tasks: JoinSet<()>,
}

#[derive(Debug)]
struct OpenConnection {
    task: AbortHandle,
    /// The requests that are being answered: 1 or 0.
    answering: Arc<AtomicUsize>,
}

impl OpenConnections {
    /// Serves a connection. At the limit, the oldest one that waits for a request is closed.
    fn serve(&mut self, socket: TcpStream, router: Router) {
        while self.tasks.try_join_next().is_some() {}
        self.open.retain(|open| !open.task.is_finished());
        if self.open.len() >= CONNECTIONS_MAX {
            let silent = |open: &OpenConnection| open.answering.load(Ordering::Relaxed) == 0;
            let oldest = self.open.iter().position(silent).unwrap_or(0);
            self.open.remove(oldest);
        }
        let answering = Arc::new(AtomicUsize::new(0));
        let served = serve_connection(socket, router, Arc::clone(&answering));
        // The peer may wait for nothing.
        let task = self.tasks.spawn(async { drop(timeout(CONNECTION_TIMEOUT, served).await) });
        self.open.push_back(OpenConnection { task, answering });
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn router(state: SharedState, node: &NodeName) -> Router {
    health::internal_router(node)
        .fallback(unknown_route)
        .method_not_allowed_fallback(unknown_method)
        .with_state(state)
        .layer(middleware::from_fn(body::refuse))
        .layer(middleware::from_fn(host::check))
}

async fn serve_connection(socket: TcpStream, router: Router, answering: Arc<AtomicUsize>) {
    let service = service_fn(|request: Request<Incoming>| {
        let (router, answering) = (router.clone(), Arc::clone(&answering));
        async move {
            answering.fetch_add(1, Ordering::Relaxed);
            let answer = router.oneshot(request.map(Body::new)).await;
            answering.fetch_sub(1, Ordering::Relaxed);
            answer
        }
    });
    let socket = TokioIo::new(ProblemSocket::new(socket));
    let mut http = refused_head::builder(HEAD_TIMEOUT).serve_connection(socket, service);
    let Err(error) = (&mut http).await else { return };
    tracing::debug!(%error, "an internal connection failed");
    if error.is_parse() {
        let mut socket = http.into_parts().io.into_inner().into_inner();
        let _ = timeout(LINGER, linger(&mut socket)).await;
    }
}
