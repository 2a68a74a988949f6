//! The reads of a shard: which connections have bytes to read, and how many are read in one turn.
//!
//! A turn of the event loop reads at most [`TURN_BYTES`] of all connections and [`READ_BYTES`] of
//! each, and then looks for rounds: without these bounds, 50 clients that send empty fragments
//! delayed the rounds of all others from 1.5 to 293 ms. A client that sends more than
//! [`RATE_MAX`] in a second is closed with 1008.

use std::{
    collections::VecDeque,
    io::{self, ErrorKind},
    time::Instant,
};

use super::connections::Connections;
use crate::transport::close::CloseReason;

/// Bytes read from a connection in one turn. A message that the server reads has at most as many.
const READ_BYTES: usize = 4 * 1024;
/// Bytes read from all connections in one turn: about 0.3 ms for the smallest frames.
const TURN_BYTES: usize = 64 * 1024;
/// A read counts as at least this many bytes, because the call costs as much.
const READ_BYTES_MIN: usize = 256;
/// The most bytes of one connection in a second: far more than pongs need.
const RATE_MAX: u32 = 64 * 1024;
/// Bytes of a closed connection that are read at each tick, to see its end.
const DRAIN_BYTES: usize = 64 * 1024;

/// The connections with bytes to read.
#[derive(Debug)]
pub(super) struct Reads {
    waiting: VecDeque<u32>,
    /// Connections that were closed because they sent too much. They may go on for as long as their
    /// close message takes, and are only read at ticks.
    flooding: Vec<u32>,
    buffer: Box<[u8]>,
    /// What the last read brought, decrypted.
    plain: Vec<u8>,
    start: Instant,
}

/// What a read found.
enum Found {
    /// This many bytes.
    Bytes(usize),
    /// No more bytes for now.
    Nothing,
    /// The end of the connection, with its reason.
    End(CloseReason),
}

impl Reads {
    pub(super) fn new(now: Instant) -> Self {
        let buffer = vec![0; READ_BYTES].into();
        Self {
            waiting: VecDeque::new(),
            flooding: Vec::new(),
            buffer,
            plain: Vec::new(),
            start: now,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Notes that a connection may have bytes to read.
    pub(super) fn mark(&mut self, connections: &mut Connections, slot: u32) {
        let Some(connection) = connections.get_mut(slot) else { return };
        if !std::mem::replace(&mut connection.waits_for_read, true) {
            self.waiting.push_back(slot);
        }
    }

    /// Reads for one turn. The connections that have more to read wait for the next one.
    pub(super) fn read_turn(&mut self, connections: &mut Connections, now: Instant) {
        let second = now.duration_since(self.start).as_secs() as u32;
        let mut left = TURN_BYTES;
        for _ in 0..self.waiting.len() {
            let Some(slot) = self.waiting.pop_front() else { return };
            let read = self.read_connection(connections, slot, second);
            left = left.saturating_sub(read.max(READ_BYTES_MIN));
            if left == 0 {
                return;
            }
        }
    }

    /// Reads from one connection. Returns the number of bytes.
    fn read_connection(&mut self, connections: &mut Connections, slot: u32, second: u32) -> usize {
        let Some(connection) = connections.get_mut(slot) else { return 0 };
        connection.waits_for_read = false;
        if connection.is_flooding {
            return 0;
        }
        let read = match self.read_once(connections, slot) {
            Found::Nothing => return 0,
            Found::End(reason) => {
                connections.drop_connection(slot, reason);
                return 0;
            }
            Found::Bytes(read) => read,
        };
        connections.handle_bytes(slot, &mut self.plain);
        self.count(connections, slot, read, second);
        // An end of the connection that came with these bytes is no further event.
        self.mark(connections, slot);
        read
    }

    fn read_once(&mut self, connections: &mut Connections, slot: u32) -> Found {
        let Some(connection) = connections.get_mut(slot) else { return Found::Nothing };
        let Self { buffer, plain, .. } = self;
        found(|| match connection.is_flooding {
            false => connection.socket.receive(buffer, plain),
            true => connection.socket.discard(buffer),
        })
    }

    /// Counts bytes, and closes a connection that sends too many.
    fn count(&mut self, connections: &mut Connections, slot: u32, read: usize, second: u32) {
        let Some(connection) = connections.get_mut(slot) else { return };
        if connection.count_received(read, second) > RATE_MAX && !connection.is_flooding {
            connection.is_flooding = true;
            self.flooding.push(slot);
            connections.end(slot, CloseReason::Flooding);
        }
    }

    /// Reads what the closed connections still send. To be called at each tick.
    pub(super) fn drain(&mut self, connections: &mut Connections) {
        for slot in std::mem::take(&mut self.flooding) {
            if self.drain_connection(connections, slot) {
                self.flooding.push(slot);
            }
        }
    }

    /// Returns whether the connection is still there.
    fn drain_connection(&mut self, connections: &mut Connections, slot: u32) -> bool {
        // Another connection may have the slot by now.
        if !connections.get_mut(slot).is_some_and(|connection| connection.is_flooding) {
            return false;
        }
        for _ in 0..DRAIN_BYTES / READ_BYTES {
            match self.read_once(connections, slot) {
                Found::Bytes(_) => {}
                Found::Nothing => return true,
                Found::End(reason) => {
                    connections.drop_connection(slot, reason);
                    return false;
                }
            }
        }
        true
    }
}

fn found(mut read: impl FnMut() -> io::Result<usize>) -> Found {
    loop {
        return match read() {
            Ok(0) => Found::End(CloseReason::Client),
            Ok(read) => Found::Bytes(read),
            Err(error) => match error.kind() {
                ErrorKind::Interrupted => continue,
                ErrorKind::WouldBlock => Found::Nothing,
                // TCP_USER_TIMEOUT: the peer acknowledges nothing.
                ErrorKind::TimedOut => Found::End(CloseReason::TooSlow),
                _ => Found::End(CloseReason::Client),
            },
        };
    }
}
