//! The socket of a stream: TCP, with TLS or without.

use std::io::{self, IoSlice, Read, Write};

use mio::{Interest, Registry, Token, net::TcpStream};
use socket2::SockRef;

use crate::transport::tls::Tls;

/// A non-blocking socket. TLS is boxed: most deployments leave it to a proxy.
#[derive(Debug)]
pub(in crate::transport) struct Socket {
    tcp: TcpStream,
    tls: Option<Box<Tls>>,
}

impl Socket {
    pub(super) fn new(tcp: std::net::TcpStream, tls: Option<Box<Tls>>) -> Self {
        Self { tcp: TcpStream::from_std(tcp), tls }
    }

    pub(super) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        registry.register(&mut self.tcp, token, Interest::READABLE | Interest::WRITABLE)
    }

    /// Reads once, and replaces `plain` by what was read. Returns the number of bytes that came
    /// from the socket; 0 is the end.
    pub(super) fn receive(&mut self, buffer: &mut [u8], plain: &mut Vec<u8>) -> io::Result<usize> {
        plain.clear();
        if self.tls.as_ref().is_some_and(|tls| tls.is_peer_closed()) {
            return Ok(0);
        }
        let read = self.tcp.read(buffer)?;
        let Some(tls) = &mut self.tls else {
            plain.extend_from_slice(&buffer[..read]);
            return Ok(read);
        };
        if read > 0 {
            let received = tls.receive(&buffer[..read], plain);
            // An answer to a KeyUpdate, or an alert.
            tls.flush(&mut self.tcp)?;
            received?;
        }
        Ok(read)
    }

    /// Reads once, and drops what was read.
    pub(super) fn discard(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.tcp.read(buffer)
    }

    /// Writes what TLS holds. Returns whether the socket took all.
    pub(super) fn flush_sealed(&mut self) -> io::Result<bool> {
        match &mut self.tls {
            Some(tls) if tls.has_unsent() => tls.flush(&mut self.tcp),
            _ => Ok(true),
        }
    }

    /// Closes the write half, with TLS after its `close_notify`. Does nothing yet while the socket
    /// is full.
    pub(super) fn finish(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.close();
            if !tls.flush(&mut self.tcp).unwrap_or(true) {
                return;
            }
        }
        // This fails only if the peer has disconnected.
        let _ = self.tcp.shutdown(std::net::Shutdown::Write);
    }

    /// Makes the drop of the socket a reset.
    pub(super) fn reset(&self) {
        let _ = SockRef::from(&self.tcp).set_linger(Some(std::time::Duration::ZERO));
    }
}

impl Write for Socket {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.tls {
            None => self.tcp.write(bytes),
            Some(tls) => tls.write(bytes, &mut self.tcp),
        }
    }

    fn write_vectored(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        match &mut self.tls {
            None => self.tcp.write_vectored(pieces),
            Some(tls) => tls.write_vectored(pieces, &mut self.tcp),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
