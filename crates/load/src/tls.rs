//! A certificate for the measured server, and clients that trust it.

use std::{fs, io, net::TcpStream, sync::Arc};

use anyhow::Result;
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, pki_types::CertificateDer,
};
use tempfile::TempDir;
use wtransport::Identity;

/// The files of a server's certificate, and the configuration of its clients.
#[derive(Debug)]
pub(crate) struct TestTls {
    folder: TempDir,
    client: Arc<ClientConfig>,
}

impl TestTls {
    pub(crate) fn new() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let identity = Identity::self_signed(["localhost"])?;
        let certificate = &identity.certificate_chain().as_slice()[0];
        fs::write(folder.path().join("cert.pem"), certificate.to_pem())?;
        fs::write(folder.path().join("key.pem"), identity.private_key().to_secret_pem())?;
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(certificate.der().to_vec()))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { folder, client: Arc::new(client) })
    }

    /// The variables of the server.
    pub(crate) fn variables(&self) -> [(&'static str, std::path::PathBuf); 2] {
        let file = |name: &str| self.folder.path().join(name);
        [("DATASTREAM_TLS_CERT", file("cert.pem")), ("DATASTREAM_TLS_KEY", file("key.pem"))]
    }

    pub(crate) fn client(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.client)
    }

    /// A blocking connection.
    pub(crate) fn connect(
        &self,
        tcp: TcpStream,
    ) -> io::Result<StreamOwned<ClientConnection, TcpStream>> {
        let name = "localhost".try_into().map_err(io::Error::other)?;
        let connection = ClientConnection::new(self.client(), name).map_err(io::Error::other)?;
        Ok(StreamOwned::new(connection, tcp))
    }
}
