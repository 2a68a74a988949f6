//! A server's certificate in files, and clients that trust it.

use std::{fs, net::SocketAddr, path::Path, sync::Arc};

pub use rustls::ClientConfig;
use rustls::{ALL_VERSIONS, RootCertStore, SupportedProtocolVersion, pki_types::CertificateDer};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use wtransport::Identity;

/// A certificate of `localhost` and 127.0.0.1 in a folder that lives as long.
#[derive(Debug)]
pub struct TestCertificate {
    folder: TempDir,
    pub der: CertificateDer<'static>,
}

impl Default for TestCertificate {
    fn default() -> Self {
        Self::new()
    }
}

impl TestCertificate {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let der = write(folder.path());
        Self { folder, der }
    }

    /// Writes another one into the files.
    pub fn renew(&mut self) {
        self.der = write(self.folder.path());
    }

    /// The path of `cert.pem` or `key.pem`.
    pub fn file(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// The variables of a server that uses it.
    pub fn variables(&self) -> [(&'static str, String); 2] {
        [("DATASTREAM_TLS_CERT", "cert.pem"), ("DATASTREAM_TLS_KEY", "key.pem")]
            .map(|(variable, file)| (variable, self.file(file)))
    }

    /// Clients that trust it, with TLS 1.2 and 1.3.
    pub fn client(&self) -> ClientConfig {
        client(std::slice::from_ref(&self.der), ALL_VERSIONS)
    }
}

fn write(folder: &Path) -> CertificateDer<'static> {
    let identity = Identity::self_signed(["localhost", "127.0.0.1"]).expect("a certificate");
    let certificate = &identity.certificate_chain().as_slice()[0];
    fs::write(folder.join("cert.pem"), certificate.to_pem()).expect("written");
    fs::write(folder.join("key.pem"), identity.private_key().to_secret_pem()).expect("written");
    CertificateDer::from(certificate.der().to_vec())
}

/// Clients that trust these certificates and speak these versions.
pub fn client(
    trusted: &[CertificateDer<'static>],
    versions: &[&'static SupportedProtocolVersion],
) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    trusted.iter().for_each(|der| roots.add(der.clone()).expect("a root"));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .expect("a version")
        .with_root_certificates(roots)
        .with_no_client_auth()
}

/// A connection after its handshake; `None` if either fails.
pub async fn connect(
    config: Arc<ClientConfig>,
    address: SocketAddr,
) -> Option<TlsStream<TcpStream>> {
    let tcp = TcpStream::connect(address).await.ok()?;
    // With Nagle's algorithm, a request waits 40 ms for the acknowledgment of the handshake's end.
    tcp.set_nodelay(true).ok()?;
    let name = "localhost".try_into().expect("a name");
    TlsConnector::from(config).connect(name, tcp).await.ok()
}
