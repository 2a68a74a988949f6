//! The floor: an epoll loop that only sends one encoded frame to each socket.
//!
//! No server can deliver a round to a socket with less than one send of its bytes. The difference to
//! the floor is the cost of the server itself.

use std::{
    io::{ErrorKind, Read, Write},
    net::SocketAddr,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use mio::{
    Events, Interest, Poll, Token,
    net::{TcpListener, TcpStream},
};
use socket2::{Domain, Protocol, Socket, Type};

use crate::websocket;

const LISTENER: Token = Token(usize::MAX);
const BACKLOG: i32 = 4096;
/// The request of the publisher; frames follow it.
const PUBLISH: &[u8] = b"PUBLISH";

#[derive(Debug)]
enum Peer {
    Unknown,
    Subscriber,
    Publisher,
}

/// Listens on a free port, prints it, and serves until a subscriber disconnects at the end of the run.
pub(crate) fn serve() -> Result<()> {
    rlimit::increase_nofile_limit(u64::MAX)?;
    let mut listener = listen()?;
    eprintln!("listening http.addr={}", listener.local_addr()?);
    let mut poll = Poll::new()?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut floor = Floor { peers: Vec::new(), frames: Vec::new() };
    let mut events = Events::with_capacity(1024);
    loop {
        poll.poll(&mut events, None::<Duration>)?;
        for event in &events {
            match event.token() {
                LISTENER => floor.accept(&listener, &poll)?,
                Token(index) if floor.read(index)? => {}
                Token(_) => return Ok(()),
            }
        }
    }
}

/// Listens with the server's backlog, so that many connects affect both equally.
fn listen() -> Result<TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())?;
    socket.listen(BACKLOG)?;
    Ok(TcpListener::from_std(socket.into()))
}

struct Floor {
    peers: Vec<(TcpStream, Peer)>,
    /// Bytes of the publisher that are no complete frame yet.
    frames: Vec<u8>,
}

impl Floor {
    fn accept(&mut self, listener: &TcpListener, poll: &Poll) -> Result<()> {
        loop {
            let mut stream = match listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error).context("accept"),
            };
            stream.set_nodelay(true)?;
            let token = Token(self.peers.len());
            poll.registry().register(&mut stream, token, Interest::READABLE)?;
            self.peers.push((stream, Peer::Unknown));
        }
    }

    /// Returns false if a subscriber has disconnected.
    fn read(&mut self, index: usize) -> Result<bool> {
        let mut buffer = [0; 16 * 1024];
        loop {
            let (stream, peer) = &mut self.peers[index];
            let read = match stream.read(&mut buffer) {
                Ok(read @ 1..) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
                Ok(_) | Err(_) => return Ok(!matches!(peer, Peer::Subscriber)),
            };
            let mut bytes = &buffer[..read];
            if matches!(peer, Peer::Unknown) {
                *peer = respond(stream, bytes)?;
                bytes = bytes.strip_prefix(PUBLISH).unwrap_or_default();
            }
            if matches!(peer, Peer::Publisher) {
                self.frames.extend_from_slice(bytes);
                self.publish()?;
            }
        }
    }

    /// Sends each complete frame to every subscriber. Four bytes with its length precede each frame.
    fn publish(&mut self) -> Result<()> {
        let frames = std::mem::take(&mut self.frames);
        let mut rest = &frames[..];
        while let Some((length, after)) = rest.split_first_chunk::<4>() {
            let length = u32::from_be_bytes(*length) as usize;
            let Some((frame, after)) = after.split_at_checked(length) else { break };
            self.send(frame)?;
            rest = after;
        }
        self.frames = rest.to_vec();
        Ok(())
    }

    fn send(&mut self, frame: &[u8]) -> Result<()> {
        for (stream, peer) in &mut self.peers {
            if matches!(peer, Peer::Subscriber) {
                let sent = stream.write(frame).context("send")?;
                ensure!(sent == frame.len(), "a socket is full: the floor has no queue");
            }
        }
        Ok(())
    }
}

/// Responds to a request. The load program sends each request in one write, so it is complete.
fn respond(stream: &mut TcpStream, request: &[u8]) -> Result<Peer> {
    if request.starts_with(PUBLISH) {
        return Ok(Peer::Publisher);
    }
    let head = if request.starts_with(b"GET /sse/") {
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
            .to_owned()
    } else {
        let accept = websocket::ACCEPT;
        format!(
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-accept: {accept}\r\n\r\n"
        )
    };
    stream.write_all(head.as_bytes()).context("answer")?;
    Ok(Peer::Subscriber)
}
