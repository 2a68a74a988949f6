//! TLS over blocking sockets, for tools that test it: the same state and the same configuration as
//! those of the shards.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{Shutdown, TcpStream},
    path::PathBuf,
    sync::Arc,
};

use rustls::ServerConfig;

use super::{CIPHERTEXT_BYTES, Tls};
use crate::{config::CertificateFiles, transport::certificate::FileCertificate};

/// Begins TLS on connections.
#[derive(Clone, Debug)]
pub struct TlsServer(Arc<ServerConfig>);

impl TlsServer {
    /// With the certificate and the key in these PEM files.
    pub fn read(cert: PathBuf, key: PathBuf) -> io::Result<Self> {
        let read = FileCertificate::read(CertificateFiles { chain: cert, key });
        let config = read.and_then(|certificate| certificate.pair().http_tls());
        Ok(Self(Arc::new(config.map_err(io::Error::other)?)))
    }

    /// Completes a handshake.
    pub fn accept(&self, tcp: TcpStream) -> io::Result<TlsSocket> {
        let tls = Tls::new(Arc::clone(&self.0)).map_err(io::Error::other)?;
        let mut socket = TlsSocket { tcp, tls, plain: Vec::new() };
        while socket.tls.is_handshaking() {
            if !socket.receive()? {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(socket)
    }
}

/// A connection with TLS.
#[derive(Debug)]
pub struct TlsSocket {
    tcp: TcpStream,
    tls: Tls,
    plain: Vec<u8>,
}

impl TlsSocket {
    /// Ends the write half with `close_notify`.
    pub fn finish(&mut self) -> io::Result<()> {
        self.tls.close();
        self.flush()?;
        self.tcp.shutdown(Shutdown::Write)
    }

    /// Reads once from the socket. Returns false at its end.
    fn receive(&mut self) -> io::Result<bool> {
        let mut bytes = [0; CIPHERTEXT_BYTES];
        let read = self.tcp.read(&mut bytes)?;
        let received = self.tls.receive(&bytes[..read], &mut self.plain);
        self.flush()?;
        received?;
        Ok(read > 0 && !self.tls.is_peer_closed())
    }
}

impl Read for TlsSocket {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.plain.is_empty() {
            if !self.receive()? && self.plain.is_empty() {
                return Ok(0);
            }
        }
        let taken = self.plain.len().min(into.len());
        into[..taken].copy_from_slice(&self.plain[..taken]);
        self.plain.drain(..taken);
        Ok(taken)
    }
}

impl Write for TlsSocket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = self.tls.write(bytes, &mut self.tcp)?;
        self.flush()?;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        while !self.tls.flush(&mut self.tcp)? {}
        Ok(())
    }
}
