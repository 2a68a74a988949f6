//! The stop of a server with many subscribers: when and how each stream ends.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use mio::{Events, Interest, Poll, Token};

use crate::{
    database::Database,
    options::{Options, Transport},
    run::{self, Subject},
    websocket::KEY,
};

/// Longer than any measured grace period.
const TIME_LIMIT: Duration = Duration::from_secs(60);
const SECOND: Duration = Duration::from_secs(1);
/// The close code for WebSocket, 1001, big-endian.
const GOING_AWAY: [u8; 2] = 1001_u16.to_be_bytes();
/// The end of an event stream.
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// A subscriber that waits for the end of its stream.
struct Subscriber {
    socket: mio::net::TcpStream,
    received: Vec<u8>,
}

/// Connects, stops the server, and prints when the streams ended.
pub(crate) fn stop(options: &Options, database: &Database) -> Result<()> {
    let (mut target, _) = run::start(options, Subject::Server, Some(database))?;
    let connect = |_| connect(options.transport, target.address());
    let subscribers = (0..options.conns).map(connect).collect::<Result<Vec<_>>>()?;
    let begun = Instant::now();
    target.signal("TERM")?;
    let mut ended = wait(options.transport, subscribers, begun)?;
    let exit = target.exit()?;
    let exited = begun.elapsed();
    ended.sort_unstable();
    let at = |share: f64| ended[(share * (ended.len() - 1) as f64) as usize].as_secs_f64();
    let busiest = ended.iter().map(|from| {
        ended.iter().skip_while(|at| *at < from).take_while(|at| **at - *from < SECOND).count()
    });
    println!("| {} {}, SIGTERM | |\n|---|---|", options.conns, options.transport.path());
    println!(
        "| ended first, median, last | {:.2} s, {:.2} s, {:.2} s |",
        at(0.0),
        at(0.5),
        at(1.0)
    );
    println!("| most within a second | {} |", busiest.max().unwrap_or_default());
    println!("| the process ended after | {:.2} s, {exit} |", exited.as_secs_f64());
    Ok(())
}

fn connect(transport: Transport, address: SocketAddr) -> Result<Subscriber> {
    let mut socket = TcpStream::connect(address)?;
    let (path, upgrade) = match transport {
        Transport::Ws => (
            "/ws",
            format!(
                "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n"
            ),
        ),
        Transport::Sse => ("/sse", String::new()),
    };
    write!(socket, "GET {path} HTTP/1.1\r\nHost: load\r\n{upgrade}\r\n")?;
    let (mut received, mut bytes) = (Vec::new(), [0; 4096]);
    while !received.windows(4).any(|end| end == b"\r\n\r\n") {
        let read = socket.read(&mut bytes)?;
        ensure!(read > 0, "no stream but {}", String::from_utf8_lossy(&received));
        received.extend_from_slice(&bytes[..read]);
    }
    socket.set_nonblocking(true)?;
    Ok(Subscriber { socket: mio::net::TcpStream::from_std(socket), received })
}

/// Reads until every stream has ended; returns the duration of each.
fn wait(
    transport: Transport,
    subscribers: Vec<Subscriber>,
    begun: Instant,
) -> Result<Vec<Duration>> {
    let (mut poll, mut events) = (Poll::new()?, Events::with_capacity(1024));
    let mut open: Vec<Option<Subscriber>> = subscribers.into_iter().map(Some).collect();
    for (number, subscriber) in open.iter_mut().flatten().enumerate() {
        poll.registry().register(&mut subscriber.socket, Token(number), Interest::READABLE)?;
    }
    let mut ended = Vec::with_capacity(open.len());
    while ended.len() < open.len() {
        ensure!(begun.elapsed() < TIME_LIMIT, "{} streams did not end", open.len() - ended.len());
        poll.poll(&mut events, Some(SECOND))?;
        for event in &events {
            let place = &mut open[event.token().0];
            if let Some(subscriber) = place
                && subscriber.is_at_end()?
            {
                subscriber.check(transport)?;
                ended.push(begun.elapsed());
                *place = None;
            }
        }
    }
    Ok(ended)
}

impl Subscriber {
    fn is_at_end(&mut self) -> Result<bool> {
        let mut bytes = [0; 4096];
        loop {
            match self.socket.read(&mut bytes) {
                Ok(0) => return Ok(true),
                Ok(read) => self.received.extend_from_slice(&bytes[..read]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error).context("a stream was cut"),
            }
        }
    }

    /// Checks that the stream ended with a close frame or a last chunk.
    fn check(&self, transport: Transport) -> Result<()> {
        let is_clean = match transport {
            Transport::Ws => self.received.windows(2).any(|code| code == GOING_AWAY),
            Transport::Sse => self.received.ends_with(LAST_CHUNK),
        };
        if !is_clean {
            bail!("no clean end in {:?}", String::from_utf8_lossy(&self.received));
        }
        Ok(())
    }
}
