//! What a connection has that others do not: bytes its socket did not take, or a place of its own
//! in the stream. It exists while a socket is full, and goes when the connection is like all others.
//!
//! At most [`QUEUE_MAX`] bytes of live rounds wait here, and for a moment a burst of up to
//! [`BURST_MAX`]: a transaction may finish more rounds than memory holds, and who reads them all
//! is not slow. Beyond that they are dropped, but for a part that the peer has the start of, and
//! once the socket drains the hub's memory is asked for all rounds after the last one kept.

use std::{
    collections::VecDeque,
    io::{self, ErrorKind, IoSlice, Write},
    time::{Duration, Instant},
};

use bytes::{Buf, Bytes};

use super::wire::{Joined, Part, Protocol};
use crate::{
    stream::hub::{Missed, Placed, Position},
    transport::link::FLOOR,
};

/// The most bytes of live rounds that wait for one connection. They are shared by all who get
/// them: what it bounds is how many rounds a slow subscriber keeps from being forgotten.
const QUEUE_MAX: usize = 256 * 1024;
/// The most bytes of a burst: 10,000 rounds and more.
const BURST_MAX: usize = 4 * 1024 * 1024;
/// How long they may be more than [`QUEUE_MAX`]: a link of 8 Mbit/s takes a whole burst in it.
const BURST_FOR: Duration = Duration::from_secs(5);
/// Parts in one system call.
const SLICES_MAX: usize = 64;

/// What a peer must read of a replay, in a second on average: a replay is its own alone, and may be
/// megabytes, which [`FLOOR`] would let it hold for hours. The most rounds that are replayed unless
/// configured otherwise, 10,000 of 250 bytes, take 40 s at this rate. Who is slower and is told so
/// resumes where it was.
const REPLAY_RATE: usize = 64 * 1024;

/// How a flush ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flushed {
    /// Everything is with the kernel.
    All,
    /// The socket is full.
    Blocked,
    /// The connection is gone.
    Broken,
}

/// A socket that takes nothing.
#[derive(Clone, Copy, Debug)]
struct Blocked {
    since: Instant,
    taken: usize,
}

#[derive(Debug)]
pub(super) struct Backlog {
    parts: VecDeque<Part>,
    /// How many parts at the front are not live rounds, which memory could give again.
    kept: usize,
    /// Bytes in the parts behind those.
    queued: usize,
    /// Since when they are more than [`QUEUE_MAX`].
    bursting: Option<Instant>,
    /// Whether the peer has the start of the first part.
    begun: bool,
    /// The last round that was written or waits.
    position: Position,
    /// Whether rounds after `position` were dropped.
    lagging: bool,
    blocked: Option<Blocked>,
    /// The newest ping that was not answered yet (RFC 6455 section 5.5.3 asks for no more).
    pong: Option<Bytes>,
    /// Set once the goodbye was said: how long the peer may take to leave.
    leave_by: Option<Instant>,
    /// While what is kept of a replay waits: how long the peer may take for it.
    replay_by: Option<Instant>,
}

impl Backlog {
    /// Of a connection that has all rounds up to `position`.
    pub(super) fn new(position: Position) -> Self {
        Self {
            parts: VecDeque::new(),
            kept: 0,
            queued: 0,
            bursting: None,
            begun: false,
            position,
            lagging: false,
            blocked: None,
            pong: None,
            leave_by: None,
            replay_by: None,
        }
    }

    /// Bytes that memory cannot give again: of an opening, or not of a round.
    pub(super) fn keep(&mut self, bytes: Bytes, rounds: u32) {
        if !bytes.is_empty() {
            // Behind live rounds it counts as one of them: it is gone when they are.
            let is_kept = self.kept == self.parts.len();
            self.queued += if is_kept { 0 } else { bytes.len() };
            self.kept += usize::from(is_kept);
            self.parts.push_back(Part { bytes, last: self.position, rounds });
        }
    }

    /// The same, of which the socket took `taken` already.
    pub(super) fn keep_rest(&mut self, mut bytes: Bytes, rounds: u32, taken: usize) {
        bytes.advance(taken);
        self.begun = taken > 0 && !bytes.is_empty();
        self.keep(bytes, rounds);
    }

    /// A part of which the socket took `taken` bytes.
    pub(super) fn begin(&mut self, mut part: Part, taken: usize) {
        part.bytes.advance(taken);
        self.begun = taken > 0;
        self.push(part);
    }

    /// Live rounds: those that the peer does not have yet are put behind what waits.
    pub(super) fn offer(&mut self, joined: &Joined<'_>, protocol: Protocol, now: Instant) {
        if self.lagging || self.is_leaving() {
            return;
        }
        let is_new = |placed: &Placed| placed.position > self.position;
        if joined.rounds.iter().all(is_new) {
            self.push(joined.part.clone());
        } else {
            joined.rounds.iter().for_each(|placed| self.offer_one(placed, protocol));
        }
        if self.is_too_much(now) {
            self.drop_queue();
        }
    }

    fn is_too_much(&mut self, now: Instant) -> bool {
        if self.queued <= QUEUE_MAX {
            return false;
        }
        let since = *self.bursting.get_or_insert(now);
        self.queued > BURST_MAX || now.duration_since(since) > BURST_FOR
    }

    fn offer_one(&mut self, placed: &Placed, protocol: Protocol) {
        if placed.position <= self.position {
            return;
        }
        let bytes = protocol.round(&placed.frame);
        self.push(Part { bytes, last: placed.position, rounds: 1 });
    }

    fn push(&mut self, part: Part) {
        self.queued += part.bytes.len();
        self.position = part.last;
        self.parts.push_back(part);
    }

    /// Drops what memory can give again, but for the first part: the peer may have the start of it,
    /// and only the socket may say that there is room.
    fn drop_queue(&mut self) {
        self.parts.truncate(self.kept.max(1));
        self.queued = self.parts.iter().skip(self.kept).map(|part| part.bytes.len()).sum();
        self.position = self.parts.back().map_or(self.position, |part| part.last);
        self.lagging = true;
        self.bursting = None;
    }

    /// Rounds that were dropped, out of memory again, as many as may wait.
    pub(super) fn refill(&mut self, missed: &Missed, protocol: Protocol) {
        for placed in &missed.rounds {
            let size = protocol.round(&placed.frame).len();
            if self.queued > 0 && self.queued + size > QUEUE_MAX {
                return;
            }
            self.offer_one(placed, protocol);
        }
        if let Some(head) = missed.whole {
            // What is published up to there and still on its way to the shard was given by this.
            self.position = self.position.max(head);
            self.lagging = false;
        }
    }

    /// The position after which rounds have to be asked from memory, if there are any.
    pub(super) fn lags_behind(&self) -> Option<Position> {
        (self.lagging && self.parts.is_empty() && !self.is_leaving()).then_some(self.position)
    }

    /// Says that what is kept is a replay: it may take `patience`, and as long as its size explains.
    pub(super) fn replay(&mut self, now: Instant, patience: Duration) {
        let size: usize = self.parts.iter().map(|part| part.bytes.len()).sum();
        let explained = Duration::from_secs_f64(size as f64 / REPLAY_RATE as f64);
        self.replay_by = Some(now + patience + explained);
    }

    /// Whether a replay takes longer than its size explains.
    pub(super) fn is_replay_overdue(&self, now: Instant) -> bool {
        self.replay_by.is_some_and(|by| now >= by)
    }

    /// Whether the socket has said that it is full and will say when it is not. With a queue that is
    /// over its limit it is tried all the same: a peer that reads fast may have made room meanwhile,
    /// and must not be cut off for what is only waiting to be looked at.
    pub(super) fn is_patient(&self) -> bool {
        self.blocked.is_some() && self.queued <= QUEUE_MAX
    }

    /// Keeps the answer to a ping until the socket drains.
    pub(super) fn answer_later(&mut self, pong: Bytes) {
        self.pong = Some(pong);
    }

    /// Says goodbye: a last part, behind all that waits or only behind what the peer has the
    /// start of. Nothing is taken after it.
    pub(super) fn leave(&mut self, goodbye: Bytes, at_once: bool, by: Instant) {
        if at_once {
            self.parts.truncate(usize::from(self.begun));
        }
        self.kept = self.parts.len();
        self.queued = 0;
        self.pong = None;
        self.keep(goodbye, 0);
        (self.leave_by, self.replay_by) = (Some(by), None);
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.leave_by.is_some()
    }

    pub(super) fn is_overdue(&self, now: Instant) -> bool {
        self.leave_by.is_some_and(|by| now >= by)
    }

    pub(super) fn has_bytes(&self) -> bool {
        !self.parts.is_empty()
    }

    /// Whether the socket took too little for this long.
    pub(super) fn is_stalled(&self, now: Instant, patience: Duration) -> bool {
        self.blocked.is_some_and(|blocked| now.duration_since(blocked.since) >= patience)
    }

    /// Whether the connection is like all others: it has what everybody has who was offered all
    /// rounds up to `offered`.
    pub(super) fn is_over(&self, offered: Position) -> bool {
        let is_even = self.position <= offered && !self.lagging;
        is_even && self.parts.is_empty() && self.pong.is_none() && !self.is_leaving()
    }

    /// Writes what the socket takes. Returns how many rounds went out by that.
    pub(super) fn flush(&mut self, socket: &mut impl Write, now: Instant) -> (Flushed, u32) {
        let mut rounds = 0;
        let ended = loop {
            if self.parts.is_empty()
                && let Some(pong) = self.pong.take()
            {
                self.keep(pong, 0);
            }
            if self.parts.is_empty() {
                self.blocked = None;
                break Flushed::All;
            }
            match self.write(socket) {
                Ok(0) => break Flushed::Broken,
                Ok(taken) => rounds += self.advance(taken),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.blocked.get_or_insert(Blocked { since: now, taken: 0 });
                    break Flushed::Blocked;
                }
                Err(_) => break Flushed::Broken,
            }
        };
        (ended, rounds)
    }

    fn write(&self, socket: &mut impl Write) -> io::Result<usize> {
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let count = self.parts.len().min(SLICES_MAX);
        for (slice, part) in slices.iter_mut().zip(&self.parts) {
            *slice = IoSlice::new(&part.bytes);
        }
        socket.write_vectored(&slices[..count])
    }

    fn advance(&mut self, mut taken: usize) -> u32 {
        self.progress(taken);
        let mut rounds = 0;
        while taken > 0
            && let Some(part) = self.parts.front_mut()
        {
            let step = taken.min(part.bytes.len());
            taken -= step;
            part.bytes.advance(step);
            self.begun = !part.bytes.is_empty();
            if self.kept == 0 {
                self.queued -= step;
            }
            if part.bytes.is_empty() {
                rounds += part.rounds;
                self.parts.pop_front();
                self.kept = self.kept.saturating_sub(1);
            }
        }
        self.bursting.take_if(|_| self.queued <= QUEUE_MAX);
        self.replay_by.take_if(|_| self.kept == 0);
        rounds
    }

    fn progress(&mut self, taken: usize) {
        if let Some(blocked) = &mut self.blocked {
            blocked.taken += taken;
            if blocked.taken >= FLOOR {
                self.blocked = None;
            }
        }
    }
}

#[cfg(test)]
mod tests;
