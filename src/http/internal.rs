//! The internal listener: `/metrics`, `/healthz` and `/readyz` for the operator's own programs.
//!
//! Plain HTTP without tokens. It answers until the process ends: a stop that takes long is seen in
//! its metrics. So it is no task that a stop waits for, but a future that runs beside everything.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, body::Body, middleware};
use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, oneshot},
    task::JoinSet,
    time::{sleep, timeout},
};
use tower::ServiceExt;

use super::{SharedState, body, health, host, unknown_method, unknown_route};
use crate::config::NodeName;

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
    /// Serves until it is dropped. Clients wait until the server has its state.
    pub(crate) async fn serve(self, state: oneshot::Receiver<SharedState>, node: &NodeName) {
        let Ok(state) = state.await else { return };
        tracing::info!(internal.addr = %self.address, "the internal listener is on");
        let router = router(state, node);
        let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let mut connections = JoinSet::new();
        loop {
            let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
            match self.listener.accept().await {
                Ok((socket, _)) => {
                    let router = router.clone();
                    connections.spawn(async move {
                        let _permit = permit;
                        // The peer may wait for nothing.
                        let _ = timeout(CONNECTION_TIMEOUT, serve_connection(socket, router)).await;
                    });
                }
                Err(_) => sleep(ACCEPT_PAUSE).await,
            }
            while connections.try_join_next().is_some() {}
        }
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

async fn serve_connection(socket: TcpStream, router: Router) {
    let service = service_fn(|request: Request<Incoming>| {
        let router = router.clone();
        async move { router.oneshot(request.map(Body::new)).await }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(socket), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "an internal connection failed");
    }
}
