//! A WebTransport client that reads datagrams and streams and trusts the certificate by its hash.

use std::time::Duration;

use tokio::time::timeout;
use wtransport::{Connection, Endpoint, error::ConnectingError, tls::Sha256Digest};

use super::{
    WireRound, get,
    pinned::{Certificate, trusting},
    server::TestServer,
    within,
};

/// A datagram that does not arrive in this time is lost.
const SILENCE: Duration = Duration::from_secs(5);

impl Certificate {
    pub async fn of(server: &TestServer) -> Self {
        let answer = get(&server.http("/wt/certificate")).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        serde_json::from_str(&answer.body).expect("a certificate")
    }
}

/// A connected session.
#[derive(Debug)]
pub struct WtClient {
    pub connection: Connection,
}

impl WtClient {
    /// Connects; the path begins with `/wt`.
    #[track_caller]
    pub fn connect(server: &TestServer, path: &str) -> impl Future<Output = Self> {
        let connecting = Self::try_connect(server, path);
        within(format!("a session at {path}"), async move {
            Self { connection: connecting.await.expect("a session") }
        })
    }

    /// Connects, or returns the error.
    pub async fn try_connect(
        server: &TestServer,
        path: &str,
    ) -> Result<Connection, ConnectingError> {
        let certificate = Certificate::of(server).await;
        Self::pinned(&certificate.url.replace("/wt", path), certificate.hash()).await
    }

    /// Connects to a server whose certificate has one of these hashes.
    pub async fn pinned(
        url: &str,
        hashes: impl IntoIterator<Item = Sha256Digest>,
    ) -> Result<Connection, ConnectingError> {
        let client = Endpoint::client(trusting(hashes).build());
        client.expect("an endpoint").connect(url).await
    }

    /// Connects and then vanishes: its runtime stops and the connection is never closed.
    pub fn vanish(server: &TestServer, path: &str) {
        let connect = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.expect("a runtime");
            std::mem::forget(runtime.block_on(Self::connect(server, path)));
            std::mem::forget(runtime);
        };
        std::thread::scope(|scope| scope.spawn(connect).join().expect("a session"));
    }

    /// The next round in a datagram.
    #[track_caller]
    pub fn next_datagram(&self) -> impl Future<Output = WireRound> {
        let connection = self.connection.clone();
        within("a datagram", async move {
            let datagram = connection.receive_datagram().await.expect("a datagram");
            WireRound::parse(std::str::from_utf8(&datagram).expect("UTF-8"))
        })
    }

    /// The number of rounds that arrive as datagrams up to this one, which may be lost itself.
    pub async fn datagrams_until(&self, round_id: i64) -> usize {
        let (mut came, mut last) = (0, 0);
        while last != round_id {
            match timeout(SILENCE, self.next_datagram()).await {
                Ok(round) => (came, last) = (came + 1, round.round_id),
                Err(_) => break,
            }
        }
        came
    }

    /// The complete text of the next stream.
    #[track_caller]
    pub fn next_stream(&self) -> impl Future<Output = String> {
        let connection = self.connection.clone();
        within("a stream", async move {
            let mut stream = connection.accept_uni().await.expect("a stream");
            let (mut text, mut buffer) = (Vec::new(), [0; 4096]);
            while let Some(read) = stream.read(&mut buffer).await.expect("its bytes") {
                text.extend_from_slice(&buffer[..read]);
            }
            String::from_utf8(text).expect("UTF-8")
        })
    }

    /// The round in the next stream.
    pub async fn next_stream_round(&self) -> WireRound {
        WireRound::parse(&self.next_stream().await)
    }
}
