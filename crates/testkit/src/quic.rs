//! QUIC connections to the port for WebTransport, without a request.

use std::net::SocketAddr;

use wtransport::quinn;

use super::{Certificate, TestServer, eventually, pinned::trusting};

/// A client that trusts a server by the hash of its certificate.
#[derive(Debug)]
pub struct QuicClient {
    endpoint: quinn::Endpoint,
    address: SocketAddr,
}

impl QuicClient {
    /// A client of this server.
    pub async fn of(server: &TestServer) -> Self {
        let certificate = Certificate::of(server).await;
        let endpoint = quinn::Endpoint::client(([127, 0, 0, 1], 0).into());
        let mut endpoint = endpoint.expect("an endpoint");
        let config = trusting(certificate.hash()).build().quic_config().clone();
        endpoint.set_default_client_config(config);
        let port = certificate.url.trim_end_matches("/wt").rsplit_once(':').expect("a port").1;
        let address = SocketAddr::from(([127, 0, 0, 1], port.parse().expect("a port")));
        Self { endpoint, address }
    }

    /// A connection, unless the server refuses it.
    pub async fn try_connect(&self) -> Option<quinn::Connection> {
        self.endpoint.connect(self.address, "localhost").expect("a name").await.ok()
    }

    /// A connection. On a loaded machine a handshake can take longer than its token for the retry is
    /// valid: then it is tried again.
    pub async fn connect(&self) -> quinn::Connection {
        eventually("a handshake", || self.try_connect()).await
    }
}
