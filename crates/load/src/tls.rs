//! A certificate for the measured server, and clients that trust it.

use std::{io, net::TcpStream, sync::Arc};

use rustls::{ClientConfig, ClientConnection, StreamOwned};
use testkit::TestCertificate;

/// A server's certificate, and the configuration of its clients.
#[derive(Debug)]
pub(crate) struct TestTls {
    certificate: TestCertificate,
    client: Arc<ClientConfig>,
}

impl TestTls {
    pub(crate) fn new() -> Self {
        let certificate = TestCertificate::new();
        let client = Arc::new(certificate.client());
        Self { certificate, client }
    }

    /// The variables of the server.
    pub(crate) fn variables(&self) -> [(&'static str, String); 2] {
        self.certificate.variables()
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
