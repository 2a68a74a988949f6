//! The attackers' connections.

use std::{io, net::SocketAddr, sync::Arc};

use testkit::{QuicClient, TestServer, tls};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};
use wtransport::quinn;

/// An attacker that reads nothing has the smallest buffer, so that the server holds the rest.
const RECEIVE_BYTES: u32 = 4096;
const SEED: &str = "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\
    connection: upgrade\r\nupgrade: websocket\r\n";

/// Connects and sends this. A connection that the server refuses is left out.
pub(crate) async fn connect(address: SocketAddr, bytes: &[u8]) -> Option<TcpStream> {
    let socket = TcpSocket::new_v4().ok()?;
    socket.set_recv_buffer_size(RECEIVE_BYTES).ok()?;
    let mut stream = socket.connect(address).await.ok()?;
    stream.write_all(bytes).await.ok()?;
    Some(stream)
}

/// Connects this many, one after the other.
pub(crate) async fn connect_all(
    address: SocketAddr,
    count: usize,
    bytes: impl Fn(usize) -> Vec<u8>,
) -> Vec<TcpStream> {
    let mut sockets = Vec::with_capacity(count);
    for number in 0..count {
        sockets.extend(connect(address, &bytes(number)).await);
    }
    sockets
}

pub(crate) fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").into_bytes()
}

/// A WebSocket, after its handshake.
pub(crate) async fn web_socket(address: SocketAddr, path: &str) -> Option<TcpStream> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n{SEED}\r\n");
    let mut stream = connect(address, request.as_bytes()).await?;
    let mut head = [0; 512];
    let read = stream.read(&mut head).await.ok()?;
    head[..read].starts_with(b"HTTP/1.1 101").then_some(stream)
}

/// The same with TLS. Returned without its encryption: nobody reads it.
pub(crate) async fn encrypted_web_socket(
    config: Arc<tls::ClientConfig>,
    address: SocketAddr,
    path: &str,
) -> Option<TcpStream> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n{SEED}\r\n");
    let mut stream = tls::connect(config, address).await?;
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut head = [0; 512];
    let read = stream.read(&mut head).await.ok()?;
    head[..read].starts_with(b"HTTP/1.1 101").then(|| stream.into_inner().0)
}

/// A masked frame with this first byte and payload of zeros.
pub(crate) fn frame(first: u8, size: u8) -> Vec<u8> {
    [&[first, 0x80 | size, 0, 0, 0, 0][..], &vec![0; usize::from(size)]].concat()
}

/// Whether the server has closed this connection.
pub(crate) fn is_closed(socket: &TcpStream) -> bool {
    match socket.try_read(&mut [0; 1]) {
        Ok(read) => read == 0,
        Err(error) => error.kind() != io::ErrorKind::WouldBlock,
    }
}

/// QUIC connections without a request. One that the server refuses is left out.
pub(crate) async fn quic(server: &TestServer, count: usize) -> Vec<quinn::Connection> {
    let (client, mut connections) = (QuicClient::of(server).await, Vec::with_capacity(count));
    for _ in 0..count {
        connections.extend(client.try_connect().await);
    }
    connections
}
