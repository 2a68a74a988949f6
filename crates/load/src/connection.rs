//! One subscriber: handshake, then rounds.

use std::{
    io::{self, ErrorKind, Read},
    net::SocketAddr,
    sync::Arc,
};

use anyhow::{Context, Result, bail, ensure};
use mio::{Interest, Registry, Token};
use rustls::ClientConfig;
use socket2::SockRef;

use crate::{
    events::{self, Dechunk},
    options::Transport,
    stream::Stream,
    websocket,
};

/// Size of a read. A socket that returned fewer bytes is empty: no second call is needed.
const READ_BYTES: usize = 64 * 1024;

/// Buffers that all connections share: an idle connection owns none.
#[derive(Debug)]
pub(crate) struct Scratch {
    raw: Box<[u8]>,
    body: Vec<u8>,
}

impl Default for Scratch {
    fn default() -> Self {
        Self { raw: vec![0; READ_BYTES].into(), body: Vec::with_capacity(READ_BYTES) }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Stage {
    Connecting,
    Head,
    Streaming,
}

/// The result of a read.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    pub(crate) reads: u64,
    pub(crate) bytes: u64,
    pub(crate) closed: bool,
    /// Whether this read completed the response head.
    pub(crate) accepted: bool,
}

#[derive(Debug)]
pub(crate) struct Connection {
    stream: Stream,
    stage: Stage,
    transport: Transport,
    dechunk: Dechunk,
    /// The beginning of an incomplete head, frame or event.
    pending: Vec<u8>,
    /// The sequence number of the last round; `None` before the seed.
    pub(crate) last: Option<u64>,
}

impl Connection {
    pub(crate) fn open(
        address: SocketAddr,
        tls: Option<&Arc<ClientConfig>>,
        transport: Transport,
        registry: &Registry,
        token: Token,
    ) -> io::Result<Self> {
        let mut stream = Stream::connect(address, tls)?;
        registry.register(stream.tcp_mut(), token, Interest::READABLE | Interest::WRITABLE)?;
        let (stage, dechunk) = (Stage::Connecting, Dechunk::default());
        Ok(Self { stream, stage, transport, dechunk, pending: Vec::new(), last: None })
    }

    /// Sends the request once the socket is connected.
    pub(crate) fn writable(
        &mut self,
        request: &[u8],
        registry: &Registry,
        token: Token,
    ) -> Result<()> {
        if self.stage != Stage::Connecting {
            return Ok(());
        }
        if let Some(error) = self.stream.tcp().take_error()? {
            return Err(error).context("connect");
        }
        if self.stream.tcp().peer_addr().is_err() {
            return Ok(());
        }
        self.stage = Stage::Head;
        let written = self.stream.send(request).context("send the request")?;
        ensure!(written == request.len(), "the request did not fit an empty socket");
        registry.reregister(self.stream.tcp_mut(), token, Interest::READABLE)?;
        Ok(())
    }

    /// Reads all available bytes and calls `round` for each round.
    pub(crate) fn readable(
        &mut self,
        scratch: &mut Scratch,
        mut round: impl FnMut(&mut Self, &[u8]) -> Result<()>,
    ) -> Result<Taken> {
        let mut taken = Taken::default();
        loop {
            let read = match self.stream.read(&mut scratch.raw) {
                Ok(0) => 0,
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(taken),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => 0,
            };
            taken.reads += 1;
            taken.bytes += read as u64;
            taken.closed =
                read == 0 || self.take(scratch, read, &mut taken.accepted, &mut round)?;
            if taken.closed || (read < READ_BYTES && self.stream.is_whole()) {
                return Ok(taken);
            }
        }
    }

    /// Resets the connection: TIME-WAIT would use up the ports of later runs.
    pub(crate) fn abort(self) {
        let _ = SockRef::from(self.stream.tcp()).set_linger(Some(std::time::Duration::ZERO));
    }

    /// Returns whether the stream has ended.
    fn take(
        &mut self,
        scratch: &mut Scratch,
        read: usize,
        accepted: &mut bool,
        round: &mut impl FnMut(&mut Self, &[u8]) -> Result<()>,
    ) -> Result<bool> {
        let mut raw = &scratch.raw[..read];
        let mut head = Vec::new();
        if self.stage != Stage::Streaming {
            self.pending.extend_from_slice(raw);
            let Some(rest) = self.head()? else { return Ok(false) };
            *accepted = true;
            head = rest;
            raw = &head;
        }
        let body = &mut scratch.body;
        body.clear();
        body.append(&mut self.pending);
        match self.transport {
            Transport::Ws => body.extend_from_slice(raw),
            Transport::Sse => self.dechunk.feed(raw, body)?,
        }
        drop(head);
        let (used, closed) = match self.transport {
            Transport::Ws => self.frames(body, round)?,
            Transport::Sse => (self.events(body, round)?, self.dechunk.is_at_end()),
        };
        self.pending.extend_from_slice(&body[used..]);
        if self.pending.is_empty() {
            self.pending = Vec::new();
        }
        Ok(closed)
    }

    /// The bytes after a complete head.
    fn head(&mut self) -> Result<Option<Vec<u8>>> {
        let end = self.pending.windows(4).position(|bytes| bytes == b"\r\n\r\n");
        let Some(end) = end else { return Ok(None) };
        let mut head = std::mem::take(&mut self.pending);
        let rest = head.split_off(end + 4);
        let text = String::from_utf8_lossy(&head);
        let fits = match self.transport {
            Transport::Ws => text.starts_with("HTTP/1.1 101 ") && text.contains(websocket::ACCEPT),
            Transport::Sse => text.starts_with("HTTP/1.1 200 "),
        };
        if !fits {
            bail!("refused: {text}{}", String::from_utf8_lossy(&rest));
        }
        self.stage = Stage::Streaming;
        Ok(Some(rest))
    }

    fn frames(
        &mut self,
        body: &[u8],
        round: &mut impl FnMut(&mut Self, &[u8]) -> Result<()>,
    ) -> Result<(usize, bool)> {
        let mut used = 0;
        while let Some((frame, length)) = websocket::first(&body[used..])? {
            used += length;
            match frame {
                websocket::Frame::Text(json) => round(self, json)?,
                websocket::Frame::Ping(payload) => {
                    let _ = self.stream.send(&websocket::pong(payload));
                }
                websocket::Frame::Close(_) => return Ok((used, true)),
            }
        }
        Ok((used, false))
    }

    fn events(
        &mut self,
        body: &[u8],
        round: &mut impl FnMut(&mut Self, &[u8]) -> Result<()>,
    ) -> Result<usize> {
        let mut used = 0;
        while let Some((event, length)) = events::first(&body[used..])? {
            used += length;
            if let events::Event::Round { id, data } = event {
                ensure!(
                    data.strip_prefix(b"{\"round_id\":").is_some_and(|rest| rest.starts_with(id)),
                    "an event's id is not that of its round"
                );
                round(self, data)?;
            }
        }
        Ok(used)
    }
}
