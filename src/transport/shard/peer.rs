//! What happens to one connection: its backlog drains, its peer speaks, it ends.

use std::{
    io::ErrorKind,
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{
    Shard,
    backlog::{Backlog, Flushed},
    connection::Sent,
    wire::Part,
};
use crate::transport::close::CloseReason;

/// Reads in a turn: a peer that talks all the time is not to hold up the others.
const READS_MAX: usize = 8;
/// How long last words may take where nothing waits before them: a reading peer needs a round
/// trip, and a stopping process should not wait a heartbeat for the others.
const LAST_WORDS: Duration = Duration::from_secs(3);
/// Rounds asked from memory at once: about as many as may wait.
const REFILL_ROUNDS: usize = 1024;

impl Shard {
    /// Writes what waits for a connection, and refills it from memory where rounds were dropped,
    /// until its socket is full or it has all that others have.
    pub(super) fn pump(&mut self, slot: u32, now: Instant) {
        loop {
            let Some(connection) = self.slots.get_mut(slot) else { return };
            let (flushed, rounds) = connection.flush(now);
            self.ledger.written(connection.protocol, rounds.into());
            match flushed {
                Flushed::Broken => return self.drop_connection(slot, CloseReason::Client),
                Flushed::Blocked => return self.keep_apart(slot),
                Flushed::All if !self.refill(slot) => return self.drained(slot),
                Flushed::All => {}
            }
        }
    }

    /// Asks memory for what was dropped; says whether that brought the connection further.
    fn refill(&mut self, slot: u32) -> bool {
        let Some(connection) = self.slots.get_mut(slot) else { return false };
        let Some(backlog) = &mut connection.backlog else { return false };
        let Some(position) = backlog.lags_behind() else { return false };
        let Some(list) = self.lists.get(connection.list) else { return false };
        match self.hub.missed(&list.topic, position, REFILL_ROUNDS) {
            Some(missed) => backlog.refill(&missed, connection.protocol),
            None => self.end(slot, CloseReason::TooSlow),
        }
        true
    }

    /// Nothing waits any longer.
    fn drained(&mut self, slot: u32) {
        let offered = self.offered;
        let Some(connection) = self.slots.get_mut(slot) else { return };
        if connection.is_leaving() {
            connection.finish();
        } else {
            connection.backlog.take_if(|backlog| backlog.is_over(offered));
        }
        self.keep_apart(slot);
    }

    /// Has a connection with a backlog looked at on each tick.
    fn keep_apart(&mut self, slot: u32) {
        if self.slots.get_mut(slot).is_some_and(|connection| connection.backlog.is_some()) {
            self.apart.insert(slot);
        }
    }

    /// Sends bytes to this connection alone: a heartbeat, pongs.
    pub(super) fn send_apart(&mut self, slot: u32, bytes: Bytes) {
        let Some(connection) = self.slots.get_mut(slot) else { return };
        match (connection.send(&bytes), &mut connection.backlog) {
            (Sent::All, _) => return,
            (Sent::Broken, _) => return self.drop_connection(slot, CloseReason::Client),
            (Sent::Some(taken), None) => {
                let last = self.lists.get(connection.list).map_or(self.offered, |list| list.given);
                let mut backlog = Box::new(Backlog::new(last));
                backlog.begin(Part { bytes, last, rounds: 0 }, taken);
                connection.backlog = Some(backlog);
            }
            (_, Some(backlog)) => backlog.keep(bytes, 0),
            (_, None) => {}
        }
        self.pump(slot, Instant::now());
    }

    /// Reads on where a turn was not enough.
    pub(super) fn read_on(&mut self) {
        for slot in std::mem::take(&mut self.unread) {
            self.read(slot);
        }
    }

    /// Reads what the peer sent.
    pub(super) fn read(&mut self, slot: u32) {
        let mut buffer = std::mem::take(&mut self.buffer);
        self.read_turn(slot, &mut buffer);
        self.buffer = buffer;
    }

    fn read_turn(&mut self, slot: u32, buffer: &mut [u8]) {
        for _ in 0..READS_MAX {
            let Some(connection) = self.slots.get_mut(slot) else { return };
            match connection.read(buffer) {
                Ok(0) => return self.drop_connection(slot, CloseReason::Client),
                Ok(read) => self.hear(slot, &mut buffer[..read]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // The kernel times a peer out that acknowledges nothing.
                Err(error) if error.kind() == ErrorKind::TimedOut => {
                    return self.drop_connection(slot, CloseReason::TooSlow);
                }
                Err(_) => return self.drop_connection(slot, CloseReason::Client),
            }
        }
        self.unread.push(slot);
    }

    /// Takes in what the peer said.
    pub(super) fn hear(&mut self, slot: u32, bytes: &mut [u8]) {
        let Some(connection) = self.slots.get_mut(slot) else { return };
        let heard = connection.hear(bytes);
        if !heard.pongs.is_empty() {
            match &mut connection.backlog {
                Some(backlog) if backlog.has_bytes() => {
                    backlog.answer_later(heard.pongs[heard.last_pong..].to_vec().into());
                }
                _ => self.send_apart(slot, heard.pongs.into()),
            }
        }
        if let Some((reason, goodbye)) = heard.end {
            self.leave(slot, reason, goodbye);
        }
    }

    /// Ends a connection with the words that belong to the reason.
    pub(super) fn end(&mut self, slot: u32, reason: CloseReason) {
        if let Some(connection) = self.slots.get_mut(slot) {
            let goodbye = connection.protocol.goodbye(reason);
            self.leave(slot, reason, goodbye);
        }
    }

    /// Says goodbye, and waits until the peer has left: closing while it still sends would reset
    /// the connection, and the last words could be lost with it.
    pub(super) fn leave(&mut self, slot: u32, reason: CloseReason, goodbye: Bytes) {
        let heartbeat = self.settings.heartbeat;
        let Some(connection) = self.slots.get_mut(slot).filter(|known| !known.is_leaving()) else {
            return;
        };
        let (list, protocol) = (connection.list, connection.protocol);
        let place = connection.place;
        // All that waits goes before the goodbye of a server; else only what the peer has the
        // start of. Who is slow has a heartbeat for that, so that it is gone within two.
        let at_once = !matches!(reason, CloseReason::ShuttingDown | CloseReason::Gap);
        let is_slow = matches!(reason, CloseReason::TooSlow | CloseReason::NoPong);
        let patience = if is_slow { heartbeat } else { heartbeat.min(LAST_WORDS) };
        let now = Instant::now();
        let backlog =
            connection.backlog.get_or_insert_with(|| Box::new(Backlog::new(self.offered)));
        backlog.leave(goodbye, at_once, now + patience);
        self.ledger.closed(protocol, reason);
        self.take_off_list(list, place);
        self.pump(slot, now);
    }

    /// Drops a connection whose peer is gone, or not worth another word.
    pub(super) fn drop_connection(&mut self, slot: u32, reason: CloseReason) {
        let Some(connection) = self.slots.remove(slot) else { return };
        if !connection.is_leaving() {
            self.ledger.closed(connection.protocol, reason);
            self.take_off_list(connection.list, connection.place);
        }
    }

    fn take_off_list(&mut self, list: u32, place: u32) {
        if let Some(moved) = self.lists.remove(list, place)
            && let Some(connection) = self.slots.get_mut(moved)
        {
            connection.place = place;
        }
    }
}
