//! The socket of a subscriber, with TLS or without.

use std::{
    io::{self, Read, Write},
    net::SocketAddr,
    sync::Arc,
};

use mio::net::TcpStream;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

/// A non-blocking socket.
#[derive(Debug)]
pub(crate) enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Stream {
    /// Begins to connect.
    pub(crate) fn connect(
        address: SocketAddr,
        tls: Option<&Arc<ClientConfig>>,
    ) -> io::Result<Self> {
        let tcp = TcpStream::connect(address)?;
        let Some(config) = tls else { return Ok(Self::Plain(tcp)) };
        let name = "localhost".try_into().map_err(io::Error::other)?;
        let connection = ClientConnection::new(Arc::clone(config), name);
        Ok(Self::Tls(Box::new(StreamOwned::new(connection.map_err(io::Error::other)?, tcp))))
    }

    pub(crate) fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(tls) => tls.get_ref(),
        }
    }

    pub(crate) fn tcp_mut(&mut self) -> &mut TcpStream {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(tls) => tls.get_mut(),
        }
    }

    /// Whether a read that fills no buffer has emptied the socket. With TLS each record is a read.
    pub(crate) fn is_whole(&self) -> bool {
        matches!(self, Self::Plain(_))
    }

    /// Sends the request: with TLS, once the handshake is done.
    pub(crate) fn send(&mut self, request: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(tcp) => tcp.write(request),
            Self::Tls(tls) => {
                let written = tls.conn.writer().write(request)?;
                while tls.conn.wants_write() {
                    match tls.conn.write_tls(&mut tls.sock) {
                        Ok(_) => {}
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                        Err(error) => return Err(error),
                    }
                }
                Ok(written)
            }
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(tcp) => tcp.read(buffer),
            Self::Tls(tls) => tls.read(buffer),
        }
    }
}
