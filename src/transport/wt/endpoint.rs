//! The QUIC endpoint: binds, accepts connections, reloads the certificate, closes in order.

use std::{
    fmt, io,
    net::{SocketAddr, UdpSocket},
    sync::Arc,
    time::Duration,
};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_util::task::TaskTracker;
use wtransport::{
    Endpoint, ServerConfig,
    config::QuicTransportConfig,
    endpoint::endpoint_side::Server,
    quinn::{IdleTimeout, VarInt},
};

use super::{
    admission::Admission,
    certificate::{CertificateError, Certificates, PublishedCertificate},
    session_setup::SessionSetup,
    topic_tasks::TopicTasks,
    wire::{H3_NO_ERROR, SEND_BUFFER_BYTES, STREAMS_BYTES},
};
use crate::{
    access::CurrentKeys,
    config::WebTransportConfig,
    ops::{connection_limiter::ConnectionLimiter, shutdown::Shutdown, telemetry::metrics::Metrics},
};

/// The buffer for datagrams of a client, which no code reads: the library keeps the newest ones. It is also
/// the largest DATAGRAM frame that the client may send, with its type and its length
/// (`max_datagram_frame_size`, RFC 9221 section 3).
const RECEIVE_BUFFER_BYTES: usize = 4 * 1024;
/// The bytes that a client may send on streams. The server reads only its settings and its request,
/// which fit.
const RECEIVE_WINDOW_BYTES: u32 = 32 * 1024;
/// Concurrent streams of a client: three for HTTP/3, and some reserved stream types (RFC 9114
/// section 6.2.3).
const PEER_STREAMS: u32 = 16;
/// Socket buffers for bursts while the process does other work. `net.core.rmem_max` and `wmem_max`
/// may limit them.
const SOCKET_BUFFER_BYTES: usize = 4 * 1024 * 1024;
/// Between two looks at the connections that were given up.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long the sessions may take to end, and then the endpoint.
const END_WAIT: Duration = Duration::from_secs(2);

/// Why WebTransport cannot be served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BindError {
    /// The address cannot be bound.
    #[error("cannot listen on {0} (UDP): {1}")]
    Address(SocketAddr, io::Error),
    /// There is no usable certificate.
    #[error(
        "WebTransport: {0}. Check --wt-cert (DATASTREAM_WT_CERT) and --wt-key (DATASTREAM_WT_KEY)."
    )]
    Certificate(#[from] CertificateError),
}

impl BindError {
    /// Whether another configuration helps, and waiting does not.
    pub(crate) fn is_of_configuration(&self) -> bool {
        matches!(self, Self::Certificate(_))
    }
}

/// A bound endpoint.
pub(crate) struct WebTransport {
    endpoint: Endpoint<Server>,
    certificates: Certificates,
    address: SocketAddr,
    heartbeat: Duration,
}

impl fmt::Debug for WebTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebTransport").field("address", &self.address).finish_non_exhaustive()
    }
}

impl WebTransport {
    /// Reads or makes the certificate and binds. Must run inside a tokio runtime.
    pub(crate) fn bind(
        config: &WebTransportConfig,
        heartbeat: Duration,
    ) -> Result<Self, BindError> {
        let unbound = |error| BindError::Address(config.addr, error);
        let certificates = Certificates::load(config.certificate.clone())?;
        let socket = socket(config.addr).map_err(unbound)?;
        let address = socket.local_addr().map_err(unbound)?;
        let server = ServerConfig::builder()
            .with_bind_socket(socket)
            .with_custom_tls_and_transport(certificates.tls()?, transport(heartbeat))
            .build();
        let endpoint = Endpoint::server(server).map_err(unbound)?;
        Ok(Self { endpoint, certificates, address, heartbeat })
    }

    /// The bound address, with the port that the system chose for port 0.
    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// The certificate as published to pages.
    pub(crate) fn published(&self) -> watch::Receiver<PublishedCertificate> {
        self.certificates.published()
    }

    /// Serves until a shutdown is requested, then ends every session.
    pub(crate) async fn serve<G: Admission>(
        self,
        admission: G,
        limiter: ConnectionLimiter,
        keys: CurrentKeys,
        metrics: Metrics,
        shutdown: Shutdown,
    ) {
        let Self { endpoint, certificates, address, heartbeat } = self;
        let tasks = TaskTracker::new();
        let topic_tasks =
            TopicTasks::new(heartbeat, keys, metrics.clone(), shutdown.clone(), tasks.clone());
        let setup = Arc::new(SessionSetup::new(
            admission,
            limiter,
            &metrics,
            topic_tasks,
            heartbeat,
            shutdown.clone(),
            tasks.clone(),
        ));
        tokio::select! {
            () = shutdown.requested() => {}
            () = accept(&endpoint, &setup) => {}
            () = renew(&endpoint, certificates, address, heartbeat) => {}
        }
        // Nothing accepts any more: `accept` was dropped, and this function owns the endpoint.
        end(endpoint, &tasks).await;
    }
}

/// Sets up a session for each connection, as far as there is room.
async fn accept<G: Admission>(endpoint: &Endpoint<Server>, setup: &Arc<SessionSetup<G>>) {
    let mut looks = interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = looks.tick() => setup.show_given_up(endpoint.open_connections()),
            incoming = endpoint.accept() => match setup.has_room(endpoint.open_connections()) {
                true => setup.receive(incoming),
                false => incoming.refuse(),
            },
        }
    }
}

/// Uses each new certificate.
async fn renew(
    endpoint: &Endpoint<Server>,
    mut certificates: Certificates,
    address: SocketAddr,
    heartbeat: Duration,
) {
    loop {
        certificates.renewed().await;
        reload(endpoint, &certificates, address, heartbeat);
    }
}

/// Waits for the sessions to end, and then for the endpoint.
async fn end(endpoint: Endpoint<Server>, sessions: &TaskTracker) {
    sessions.close();
    let ended = timeout(END_WAIT, sessions.wait()).await;
    endpoint.close(H3_NO_ERROR.into(), b"");
    if ended.and(timeout(END_WAIT, endpoint.wait_idle()).await).is_err() {
        tracing::warn!("some WebTransport sessions did not end in time");
    }
}

/// Uses the current certificate for new connections.
fn reload(
    endpoint: &Endpoint<Server>,
    certificates: &Certificates,
    address: SocketAddr,
    heartbeat: Duration,
) {
    let reloaded = certificates.tls().map_err(|error| error.to_string()).and_then(|tls| {
        let builder = ServerConfig::builder().with_bind_address(address);
        let config = builder.with_custom_tls_and_transport(tls, transport(heartbeat)).build();
        endpoint.reload_config(config, false).map_err(|error| error.to_string())
    });
    match reloaded {
        Ok(()) => certificates.publish(),
        Err(error) => {
            tracing::error!(%error, "cannot use the new certificate: keeping the old one");
        }
    }
}

/// `[::]` accepts IPv4 as well, whatever the system's default. Browsers try `localhost` as `::1`
/// and do not fall back.
fn socket(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES)?;
    socket.set_send_buffer_size(SOCKET_BUFFER_BYTES)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// A peer times out after two silent heartbeats. Four pings fit into that time, so that a lost ping
/// does not end a session, and a NAT or firewall does not drop the connection, as many do after 30
/// s.
fn transport(heartbeat: Duration) -> QuicTransportConfig {
    let mut config = QuicTransportConfig::default();
    config.max_idle_timeout(IdleTimeout::try_from(heartbeat * 2).ok());
    config.keep_alive_interval(Some(heartbeat / 2));
    config.datagram_send_buffer_size(SEND_BUFFER_BYTES);
    config.datagram_receive_buffer_size(Some(RECEIVE_BUFFER_BYTES));
    config.send_window(STREAMS_BYTES as u64);
    config.receive_window(VarInt::from_u32(RECEIVE_WINDOW_BYTES));
    config.stream_receive_window(VarInt::from_u32(RECEIVE_WINDOW_BYTES / 2));
    config.max_concurrent_uni_streams(VarInt::from_u32(PEER_STREAMS));
    config.max_concurrent_bidi_streams(VarInt::from_u32(PEER_STREAMS));
    config
}
