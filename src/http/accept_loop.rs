//! The accept loop: accepts connections and gives each its own task, within the limits.
//!
//! `axum::serve` has no timeout for request heads, no limit on connections, and no access to the
//! socket. This loop and [`connection`](super::connection) have all three.
//!
//! HTTP/2 is left to a proxy: many streams share one connection there, and a slow one would delay
//! the others.

use std::{
    io::{self, ErrorKind},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use axum::Router;
#[cfg(target_os = "linux")]
use socket2::SockRef;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    net::{TcpListener, TcpStream},
    time::{MissedTickBehavior, interval},
};

use super::{
    Settings,
    connection::{self, ConnectionContext},
};
use crate::{
    ops::{
        connection_limiter::{ConnectionLimiter, Kind},
        shutdown::Shutdown,
    },
    transport::{Shards, metered_socket::MeteredSocket, tls::TlsAcceptor},
};

/// Connections that the kernel may queue until they are accepted: a burst of reconnects arrives
/// within a second. Linux limits this to `net.core.somaxconn`, 4096 by default.
const LISTEN_BACKLOG: i32 = 4096;
/// Bounds the kernel memory of a slow reader. Linux doubles it; without it, the buffer grows to 4
/// MiB.
const SEND_BUFFER_BYTES: usize = 64 * 1024;
/// The wait after a failed accept. Without it, the loop would spin while descriptors are exhausted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);
/// The time between two checks for connections that have waited too long.
const CHECK_INTERVAL: Duration = Duration::from_millis(250);

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

/// Binds and listens.
pub(super) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
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
        tls: Option<TlsAcceptor>,
        settings: &Settings,
        shutdown: &Shutdown,
    ) {
        let context = Arc::new(ConnectionContext {
            router,
            shards,
            tls,
            shutdown: shutdown.clone(),
            proxies: settings.trusted_proxies.clone(),
            budget: settings.budget.clone(),
        });
        tokio::select! {
            () = shutdown.requested() => {}
            () = self.accept_all(&context, settings) => {}
            () = close_excess(&settings.limiter) => {}
        }
    }

    /// Serves each connection in its own task.
    async fn accept_all(&self, context: &Arc<ConnectionContext>, settings: &Settings) {
        let (patience, budget) = (settings.heartbeat * 2, &settings.budget);
        loop {
            let (tcp, client) = self.accept(&settings.limiter).await;
            let peer = client.ip().to_canonical();
            let address = context.proxies.direct(peer);
            let Some(pending) = settings.limiter.connect(Kind::Http, address) else { continue };
            if configure(&tcp, patience).is_some() {
                let flag = pending.blocked_flag();
                let socket = MeteredSocket::new(tcp, patience, budget.clone(), flag);
                let served = connection::serve(socket, peer, pending, Arc::clone(context));
                context.shutdown.spawn(served);
            }
        }
    }

    /// Accepts the next connection. Of failures in a row, only the first is logged.
    async fn accept(&self, limiter: &ConnectionLimiter) -> (TcpStream, SocketAddr) {
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
                    limiter.close_oldest();
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// Closes connections without a stream that exceed the limits.
async fn close_excess(limiter: &ConnectionLimiter) {
    let mut ticks = interval(CHECK_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        limiter.close_excess();
    }
}

/// Whether the error is of the accepted connection, not of this process.
fn is_peer_error(error: &io::Error) -> bool {
    use ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

/// Sets the socket options; `None` if the peer has disconnected.
fn configure(tcp: &TcpStream, patience: Duration) -> Option<()> {
    // Nagle's algorithm would delay a round, which is a small write, by a round trip.
    tcp.set_nodelay(true).ok()?;
    // For a peer that vanished, TCP alone would retry for 15 minutes. This timeout is a quarter
    // longer than the one for blocked writes, which resets the connection and so informs the peer.
    #[cfg(target_os = "linux")]
    SockRef::from(tcp).set_tcp_user_timeout(Some(patience * 5 / 4)).ok()?;
    Some(())
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
