//! Fetches a JWK set: one request on a connection of its own, without redirects.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Request, StatusCode, body::Bytes, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore, crypto::ring, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, lookup_host},
    task::spawn_blocking,
    time::timeout,
};
use tokio_rustls::TlsConnector;

use super::key_set::{DOCUMENT_BYTES_MAX, KeySet, KeySetError, Origin};
use crate::config::KeyUrl;

/// The limit for name resolution, connection and answer together. Requests wait for it.
pub(super) const FETCH_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a fetch failed. It never quotes the answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error("{0}")]
    Connection(#[from] io::Error),
    #[error("no answer within 5 s")]
    Slow,
    #[error("{0} is not a loopback address. Use https.")]
    NotLoopback(SocketAddr),
    #[error("the TLS configuration cannot be used: {0}")]
    Tls(String),
    #[error("{0}")]
    Http(#[from] hyper::Error),
    #[error("the answer is {0}")]
    Status(StatusCode),
    #[error("the answer has more than 256 KiB, or broke off")]
    Body,
    #[error(transparent)]
    Content(#[from] KeySetError),
}

/// Fetches from one URL.
#[derive(Debug)]
pub(super) struct Fetcher(KeyUrl);

impl Fetcher {
    pub(super) fn new(url: KeyUrl) -> Self {
        Self(url)
    }

    /// Fetches and reads the set.
    pub(super) async fn fetch(&self) -> Result<KeySet, FetchError> {
        let fetched = timeout(FETCH_TIMEOUT, self.document()).await;
        let document = fetched.unwrap_or(Err(FetchError::Slow))?;
        Ok(KeySet::parse(&document, Origin::Url)?)
    }

    async fn document(&self) -> Result<Bytes, FetchError> {
        let socket = self.connect().await?;
        if !self.0.is_https() {
            return self.request(socket).await;
        }
        let name = ServerName::try_from(self.0.host().to_owned());
        let name = name.map_err(|error| FetchError::Tls(error.to_string()))?;
        self.request(connector().await?.connect(name, socket).await?).await
    }

    async fn connect(&self) -> Result<TcpStream, FetchError> {
        let addresses: Vec<_> = lookup_host((self.0.host(), self.0.port())).await?.collect();
        let other = addresses.iter().find(|address| !address.ip().is_loopback());
        match other {
            // `localhost` may be another machine by DNS.
            Some(other) if !self.0.is_https() => Err(FetchError::NotLoopback(*other)),
            _ => Ok(TcpStream::connect(&addresses[..]).await?),
        }
    }

    async fn request<S>(&self, socket: S) -> Result<Bytes, FetchError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (mut sender, connection) = http1::handshake(TokioIo::new(socket)).await?;
        let exchange = async {
            let response = sender.send_request(self.head()).await?;
            if response.status() != StatusCode::OK {
                return Err(FetchError::Status(response.status()));
            }
            let body = Limited::new(response.into_body(), DOCUMENT_BYTES_MAX);
            Ok(body.collect().await.map_err(|_| FetchError::Body)?.to_bytes())
        };
        // The answer may be complete when the connection ends.
        let drive = async {
            let _ = connection.await;
            std::future::pending::<()>().await;
        };
        tokio::select! {
            answer = exchange => answer,
            () = drive => Err(FetchError::Body),
        }
    }

    fn head(&self) -> Request<Empty<Bytes>> {
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = self.0.path_and_query();
        let headers = request.headers_mut();
        headers.insert(header::HOST, self.0.host_header());
        headers.insert(header::ACCEPT, header::HeaderValue::from_static("application/json"));
        headers.insert(
            header::USER_AGENT,
            header::HeaderValue::from_static(concat!("datastream/", env!("CARGO_PKG_VERSION"))),
        );
        request
    }
}

/// Why no server of keys can be verified.
const NO_AUTHORITY: &str = "the system has no certificate authority. Install ca-certificates.";

/// Reads the system's authorities for each connection, so that renewed ones take effect.
async fn connector() -> Result<TlsConnector, FetchError> {
    // Some milliseconds, which must not delay rounds.
    let found = spawn_blocking(rustls_native_certs::load_native_certs).await;
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.map(|found| found.certs).unwrap_or_default());
    if roots.is_empty() {
        return Err(FetchError::Tls(NO_AUTHORITY.to_owned()));
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| FetchError::Tls(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}
