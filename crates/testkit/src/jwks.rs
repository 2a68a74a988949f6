//! A server of a JWK set, well behaved or not, with TLS or without.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivatePkcs8KeyDer},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::sleep,
};
use tokio_rustls::TlsAcceptor;
use wtransport::Identity;

use super::wait::beside;

/// What the server does with a request.
#[derive(Clone, Debug)]
pub enum Answer {
    /// `200` with this body.
    Body(String),
    /// These bytes as they are.
    Raw(String),
    /// Nothing: the connection stays open.
    Silence,
    /// `200` with this body, a byte in each tenth of a second.
    Drip(String),
}

/// A certificate for `localhost`, and the file with which clients trust it.
#[derive(Debug)]
pub struct KeysCertificate {
    folder: tempfile::TempDir,
    config: Arc<ServerConfig>,
}

impl Default for KeysCertificate {
    fn default() -> Self {
        let identity = Identity::self_signed(["localhost"]).expect("a certificate");
        let certificate = &identity.certificate_chain().as_slice()[0];
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("ca.pem"), certificate.to_pem()).expect("written");
        let chain = vec![CertificateDer::from(certificate.der().to_vec())];
        let key = PrivatePkcs8KeyDer::from(identity.private_key().secret_der().to_vec());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(chain, key.into())
            .expect("a pair");
        Self { folder, config: Arc::new(config) }
    }
}

impl KeysCertificate {
    /// The value of `SSL_CERT_FILE`.
    pub fn file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }
}

/// A running server. It stops when it is dropped.
#[derive(Debug)]
pub struct JwksServer {
    pub url: String,
    answer: Arc<Mutex<Answer>>,
    requests: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl JwksServer {
    /// A server on a free port.
    pub async fn start(answer: Answer) -> Self {
        Self::on_port(0, answer).await
    }

    /// A server on this port.
    pub async fn on_port(port: u16, answer: Answer) -> Self {
        Self::serve(port, answer, None).await
    }

    /// A server of `https` on a free port.
    pub async fn with_tls(certificate: &KeysCertificate, answer: Answer) -> Self {
        let tls = TlsAcceptor::from(Arc::clone(&certificate.config));
        let mut server = Self::serve(0, answer, Some(tls)).await;
        server.url = server.url.replace("http://127.0.0.1", "https://localhost");
        server
    }

    async fn serve(port: u16, answer: Answer, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.expect("a port");
        let url = format!("http://{}/jwks.json", listener.local_addr().expect("an address"));
        let (answer, requests) = (Arc::new(Mutex::new(answer)), Arc::new(AtomicUsize::new(0)));
        let (shown, counted) = (Arc::clone(&answer), Arc::clone(&requests));
        #[expect(clippy::disallowed_methods, reason = "aborted when this server is dropped")]
        let task = tokio::task::spawn(async move {
            let mut open = Vec::new();
            while let Ok((socket, _)) = listener.accept().await {
                let Some(mut socket) = connect(socket, tls.as_ref()).await else { continue };
                read_head(&mut socket).await;
                counted.fetch_add(1, Ordering::SeqCst);
                let answer = shown.lock().expect("not poisoned").clone();
                let bytes = match answer {
                    Answer::Silence => {
                        open.push(socket);
                        continue;
                    }
                    Answer::Drip(body) => {
                        beside(drip(socket, body));
                        continue;
                    }
                    Answer::Raw(bytes) => bytes,
                    Answer::Body(body) => head(&body) + &body,
                };
                // The client may have enough of it.
                let _ = socket.write_all(bytes.as_bytes()).await;
                let _ = socket.shutdown().await;
            }
        });
        Self { url, answer, requests, task }
    }

    /// Changes the answer.
    pub fn answer(&self, answer: Answer) {
        *self.answer.lock().expect("not poisoned") = answer;
    }

    /// The requests so far.
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

impl Drop for JwksServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Socket for S {}

/// `None` if the client does not complete the handshake.
async fn connect(socket: TcpStream, tls: Option<&TlsAcceptor>) -> Option<Box<dyn Socket>> {
    match tls {
        None => Some(Box::new(socket)),
        Some(tls) => Some(Box::new(tls.accept(socket).await.ok()?)),
    }
}

fn head(body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n")
}

/// Sends a body so slowly that no read waits for long.
async fn drip(mut socket: Box<dyn Socket>, body: String) {
    // The client may have enough of it.
    let mut sent = socket.write_all(head(&body).as_bytes()).await;
    for byte in body.bytes() {
        if sent.is_err() {
            return;
        }
        sleep(Duration::from_millis(100)).await;
        sent = socket.write_all(&[byte]).await;
    }
}

async fn read_head(socket: &mut Box<dyn Socket>) {
    let (mut head, mut piece) = (Vec::new(), [0; 1024]);
    while !head.windows(4).any(|part| part == b"\r\n\r\n") {
        match socket.read(&mut piece).await {
            Ok(read) if read > 0 => head.extend_from_slice(&piece[..read]),
            _ => return,
        }
    }
}
