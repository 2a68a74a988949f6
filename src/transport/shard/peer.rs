//! What happens to one connection: its backlog drains, its peer speaks, it ends.

use std::{
    io::ErrorKind,
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{
    Shard,
    connection::SendOutcome,
    protocol::Segment,
    send_queue::{Flushed, SendQueue},
};
use crate::transport::close::CloseReason;

/// Reads in a turn: a peer that talks all the time is not to hold up the others.
const READS_MAX: usize = 8;
/// How long last words may take where nothing waits before them: a reading peer needs a round
/// trip, and a stopping process should not wait a heartbeat for the others.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);
/// Rounds asked from memory at once: about as many as may wait.
const REFILL_ROUNDS: usize = 1024;

impl Shard {
    /// Writes what waits for a connection, and refills it from memory where rounds were dropped,
    /// until its socket is full or it has all that others have.
    pub(super) fn flush(&mut self, slot: u32, now: Instant) {
        loop {
            let Some(connection) = self.slots.get_mut(slot) else { return };
            let (flushed, rounds) = connection.flush(now);
            self.metrics.written(connection.protocol, rounds.into());
            match flushed {
                Flushed::Broken => return self.drop_connection(slot, CloseReason::Client),
                Flushed::Blocked => return self.watch_queue(slot),
                Flushed::All if !self.refill(slot) => return self.finish_flush(slot),
                Flushed::All => {}
            }
        }
    }

    /// Asks memory for what was dropped; says whether that brought the connection further.
    fn refill(&mut self, slot: u32) -> bool {
        let Some(connection) = self.slots.get_mut(slot) else { return false };
        let Some(send_queue) = &mut connection.send_queue else { return false };
        let Some(position) = send_queue.missed_after() else { return false };
        let Some(group) = self.groups.get(connection.group) else { return false };
        match self.hub.missed(&group.topic, position, REFILL_ROUNDS) {
            Some(missed) => send_queue.refill(&missed, connection.protocol),
            None => self.end(slot, CloseReason::TooSlow),
        }
        true
    }

    /// Nothing waits any longer.
    fn finish_flush(&mut self, slot: u32) {
        let offered = self.offered;
        let Some(connection) = self.slots.get_mut(slot) else { return };
        if connection.is_closing() {
            connection.finish();
        } else {
            connection.send_queue.take_if(|send_queue| send_queue.is_over(offered));
        }
        self.watch_queue(slot);
    }

    /// Has a connection with a backlog looked at on each tick.
    fn watch_queue(&mut self, slot: u32) {
        if self.slots.get_mut(slot).is_some_and(|connection| connection.send_queue.is_some()) {
            self.with_queue.insert(slot);
        }
    }

    /// Sends bytes to this connection alone: a heartbeat, pongs.
    pub(super) fn send_alone(&mut self, slot: u32, bytes: Bytes) {
        let Some(connection) = self.slots.get_mut(slot) else { return };
        match (connection.send(&bytes), &mut connection.send_queue) {
            (SendOutcome::All, _) => return,
            (SendOutcome::Broken, _) => return self.drop_connection(slot, CloseReason::Client),
            (SendOutcome::Partial(taken), None) => {
                let last = self
                    .groups
                    .get(connection.group)
                    .map_or(self.offered, |group| group.sent_up_to);
                let mut send_queue = Box::new(SendQueue::new(last));
                send_queue.push_started(Segment { bytes, last, rounds: 0 }, taken);
                connection.send_queue = Some(send_queue);
            }
            (_, Some(send_queue)) => send_queue.push_kept(bytes, 0),
            (_, None) => {}
        }
        self.flush(slot, Instant::now());
    }

    /// Reads on where a turn was not enough.
    pub(super) fn read_unread(&mut self) {
        for slot in std::mem::take(&mut self.unread) {
            self.on_readable(slot);
        }
    }

    /// Reads what the peer sent.
    pub(super) fn on_readable(&mut self, slot: u32) {
        let mut buffer = std::mem::take(&mut self.buffer);
        self.read_turn(slot, &mut buffer);
        self.buffer = buffer;
    }

    fn read_turn(&mut self, slot: u32, buffer: &mut [u8]) {
        for _ in 0..READS_MAX {
            let Some(connection) = self.slots.get_mut(slot) else { return };
            match connection.read(buffer) {
                Ok(0) => return self.drop_connection(slot, CloseReason::Client),
                Ok(read) => self.handle_bytes(slot, &mut buffer[..read]),
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
    pub(super) fn handle_bytes(&mut self, slot: u32, bytes: &mut [u8]) {
        let Some(connection) = self.slots.get_mut(slot) else { return };
        let received = connection.handle_bytes(bytes);
        if !received.pongs.is_empty() {
            match &mut connection.send_queue {
                Some(send_queue) if send_queue.has_bytes() => {
                    send_queue.set_pong(received.pongs[received.last_pong..].to_vec().into());
                }
                _ => self.send_alone(slot, received.pongs.into()),
            }
        }
        if let Some((reason, close_message)) = received.end {
            self.close(slot, reason, close_message);
        }
    }

    /// Ends a connection with the words that belong to the reason.
    pub(super) fn end(&mut self, slot: u32, reason: CloseReason) {
        if let Some(connection) = self.slots.get_mut(slot) {
            let close_message = connection.protocol.close_message(reason);
            self.close(slot, reason, close_message);
        }
    }

    /// Says goodbye, and waits until the peer has left: closing while it still sends would reset
    /// the connection, and the last words could be lost with it.
    pub(super) fn close(&mut self, slot: u32, reason: CloseReason, close_message: Bytes) {
        let heartbeat = self.settings.heartbeat;
        let Some(connection) = self.slots.get_mut(slot).filter(|known| !known.is_closing()) else {
            return;
        };
        let (group, protocol) = (connection.group, connection.protocol);
        let member_index = connection.member_index;
        // All that waits goes before the goodbye of a server; else only what the peer has the
        // start of. Who is slow has a heartbeat for that, so that it is gone within two.
        let at_once = !matches!(reason, CloseReason::ShuttingDown | CloseReason::Gap);
        let is_slow = matches!(reason, CloseReason::TooSlow | CloseReason::NoPong);
        let patience = if is_slow { heartbeat } else { heartbeat.min(CLOSE_TIMEOUT) };
        let now = Instant::now();
        let send_queue =
            connection.send_queue.get_or_insert_with(|| Box::new(SendQueue::new(self.offered)));
        send_queue.close(close_message, at_once, now + patience);
        self.metrics.closed(protocol, reason);
        self.leave_group(group, member_index);
        self.flush(slot, now);
    }

    /// Drops a connection whose peer is gone, or not worth another word.
    pub(super) fn drop_connection(&mut self, slot: u32, reason: CloseReason) {
        let Some(connection) = self.slots.remove(slot) else { return };
        if !connection.is_closing() {
            self.metrics.closed(connection.protocol, reason);
            self.leave_group(connection.group, connection.member_index);
        }
    }

    fn leave_group(&mut self, group: u32, member_index: u32) {
        if let Some(moved) = self.groups.remove(group, member_index)
            && let Some(connection) = self.slots.get_mut(moved)
        {
            connection.member_index = member_index;
        }
    }
}
