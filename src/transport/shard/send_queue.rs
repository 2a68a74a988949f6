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

use super::protocol::{JoinedRounds, Protocol, Segment};
use crate::{
    stream::hub::{Missed, Placed, Position},
    transport::metered_socket::PROGRESS_BYTES_MIN,
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
/// megabytes, which [`PROGRESS_BYTES_MIN`] would let it hold for hours. The most rounds that are replayed unless
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
struct BlockedSocket {
    since: Instant,
    taken: usize,
}

#[derive(Debug)]
pub(super) struct SendQueue {
    segments: VecDeque<Segment>,
    /// How many parts at the front are not live rounds, which memory could give again.
    kept: usize,
    /// Bytes in the parts behind those.
    live_bytes: usize,
    /// Since when they are more than [`QUEUE_MAX`].
    over_limit_since: Option<Instant>,
    /// Whether the peer has the start of the first part.
    first_started: bool,
    /// The last round that was written or waits.
    position: Position,
    /// Whether rounds after `position` were dropped.
    lagging: bool,
    blocked: Option<BlockedSocket>,
    /// The newest ping that was not answered yet (RFC 6455 section 5.5.3 asks for no more).
    pong: Option<Bytes>,
    /// Set once the goodbye was said: how long the peer may take to leave.
    close_by: Option<Instant>,
    /// While what is kept of a replay waits: how long the peer may take for it.
    replay_by: Option<Instant>,
}

impl SendQueue {
    /// Of a connection that has all rounds up to `position`.
    pub(super) fn new(position: Position) -> Self {
        Self {
            segments: VecDeque::new(),
            kept: 0,
            live_bytes: 0,
            over_limit_since: None,
            first_started: false,
            position,
            lagging: false,
            blocked: None,
            pong: None,
            close_by: None,
            replay_by: None,
        }
    }

    /// Bytes that memory cannot give again: of an opening, or not of a round.
    pub(super) fn push_kept(&mut self, bytes: Bytes, rounds: u32) {
        if !bytes.is_empty() {
            // Behind live rounds it counts as one of them: it is gone when they are.
            let is_kept = self.kept == self.segments.len();
            self.live_bytes += if is_kept { 0 } else { bytes.len() };
            self.kept += usize::from(is_kept);
            self.segments.push_back(Segment { bytes, last: self.position, rounds });
        }
    }

    /// The same, of which the socket took `taken` already.
    pub(super) fn push_rest(&mut self, mut bytes: Bytes, rounds: u32, taken: usize) {
        bytes.advance(taken);
        self.first_started = taken > 0 && !bytes.is_empty();
        self.push_kept(bytes, rounds);
    }

    /// A part of which the socket took `taken` bytes.
    pub(super) fn push_started(&mut self, mut segment: Segment, taken: usize) {
        segment.bytes.advance(taken);
        self.first_started = taken > 0;
        self.push(segment);
    }

    /// Live rounds: those that the peer does not have yet are put behind what waits.
    pub(super) fn push_rounds(
        &mut self,
        joined: &JoinedRounds<'_>,
        protocol: Protocol,
        now: Instant,
    ) {
        if self.lagging || self.is_closing() {
            return;
        }
        let is_new = |placed: &Placed| placed.position > self.position;
        if joined.rounds.iter().all(is_new) {
            self.push(joined.segment.clone());
        } else {
            joined.rounds.iter().for_each(|placed| self.push_round(placed, protocol));
        }
        if self.is_over_limit(now) {
            self.drop_live_rounds();
        }
    }

    fn is_over_limit(&mut self, now: Instant) -> bool {
        if self.live_bytes <= QUEUE_MAX {
            return false;
        }
        let since = *self.over_limit_since.get_or_insert(now);
        self.live_bytes > BURST_MAX || now.duration_since(since) > BURST_FOR
    }

    fn push_round(&mut self, placed: &Placed, protocol: Protocol) {
        if placed.position <= self.position {
            return;
        }
        let bytes = protocol.round(&placed.frame);
        self.push(Segment { bytes, last: placed.position, rounds: 1 });
    }

    fn push(&mut self, segment: Segment) {
        self.live_bytes += segment.bytes.len();
        self.position = segment.last;
        self.segments.push_back(segment);
    }

    /// Drops what memory can give again, but for the first part: the peer may have the start of it,
    /// and only the socket may say that there is room.
    fn drop_live_rounds(&mut self) {
        self.segments.truncate(self.kept.max(1));
        self.live_bytes =
            self.segments.iter().skip(self.kept).map(|segment| segment.bytes.len()).sum();
        self.position = self.segments.back().map_or(self.position, |segment| segment.last);
        self.lagging = true;
        self.over_limit_since = None;
    }

    /// Rounds that were dropped, out of memory again, as many as may wait.
    pub(super) fn refill(&mut self, missed: &Missed, protocol: Protocol) {
        for placed in &missed.rounds {
            let size = protocol.round(&placed.frame).len();
            if self.live_bytes > 0 && self.live_bytes + size > QUEUE_MAX {
                return;
            }
            self.push_round(placed, protocol);
        }
        if let Some(head) = missed.whole {
            // What is published up to there and still on its way to the shard was given by this.
            self.position = self.position.max(head);
            self.lagging = false;
        }
    }

    /// The position after which rounds have to be asked from memory, if there are any.
    pub(super) fn missed_after(&self) -> Option<Position> {
        (self.lagging && self.segments.is_empty() && !self.is_closing()).then_some(self.position)
    }

    /// Says that what is kept is a replay: it may take `patience`, and as long as its size explains.
    pub(super) fn limit_replay(&mut self, now: Instant, patience: Duration) {
        let size: usize = self.segments.iter().map(|segment| segment.bytes.len()).sum();
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
    pub(super) fn waits_for_socket(&self) -> bool {
        self.blocked.is_some() && self.live_bytes <= QUEUE_MAX
    }

    /// Keeps the answer to a ping until the socket drains.
    pub(super) fn set_pong(&mut self, pong: Bytes) {
        self.pong = Some(pong);
    }

    /// Says goodbye: a last part, behind all that waits or only behind what the peer has the
    /// start of. Nothing is taken after it.
    pub(super) fn close(&mut self, close_message: Bytes, at_once: bool, by: Instant) {
        if at_once {
            self.segments.truncate(usize::from(self.first_started));
        }
        self.kept = self.segments.len();
        self.live_bytes = 0;
        self.pong = None;
        self.push_kept(close_message, 0);
        (self.close_by, self.replay_by) = (Some(by), None);
    }

    pub(super) fn is_closing(&self) -> bool {
        self.close_by.is_some()
    }

    pub(super) fn is_close_overdue(&self, now: Instant) -> bool {
        self.close_by.is_some_and(|by| now >= by)
    }

    pub(super) fn has_bytes(&self) -> bool {
        !self.segments.is_empty()
    }

    /// Whether the socket took too little for this long.
    pub(super) fn is_stalled(&self, now: Instant, patience: Duration) -> bool {
        self.blocked.is_some_and(|blocked| now.duration_since(blocked.since) >= patience)
    }

    /// Whether the connection is like all others: it has what everybody has who was offered all
    /// rounds up to `offered`.
    pub(super) fn is_caught_up(&self, offered: Position) -> bool {
        let is_even = self.position <= offered && !self.lagging;
        is_even && self.segments.is_empty() && self.pong.is_none() && !self.is_closing()
    }

    /// Writes what the socket takes. Returns how many rounds went out by that.
    pub(super) fn flush(&mut self, socket: &mut impl Write, now: Instant) -> (Flushed, u32) {
        let mut rounds = 0;
        let ended = loop {
            if self.segments.is_empty()
                && let Some(pong) = self.pong.take()
            {
                self.push_kept(pong, 0);
            }
            if self.segments.is_empty() {
                self.blocked = None;
                break Flushed::All;
            }
            match self.write(socket) {
                Ok(0) => break Flushed::Broken,
                Ok(taken) => rounds += self.advance(taken),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.blocked.get_or_insert(BlockedSocket { since: now, taken: 0 });
                    break Flushed::Blocked;
                }
                Err(_) => break Flushed::Broken,
            }
        };
        (ended, rounds)
    }

    fn write(&self, socket: &mut impl Write) -> io::Result<usize> {
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let count = self.segments.len().min(SLICES_MAX);
        for (slice, segment) in slices.iter_mut().zip(&self.segments) {
            *slice = IoSlice::new(&segment.bytes);
        }
        socket.write_vectored(&slices[..count])
    }

    fn advance(&mut self, mut taken: usize) -> u32 {
        self.progress(taken);
        let mut rounds = 0;
        while taken > 0
            && let Some(segment) = self.segments.front_mut()
        {
            let step = taken.min(segment.bytes.len());
            taken -= step;
            segment.bytes.advance(step);
            self.first_started = !segment.bytes.is_empty();
            if self.kept == 0 {
                self.live_bytes -= step;
            }
            if segment.bytes.is_empty() {
                rounds += segment.rounds;
                self.segments.pop_front();
                self.kept = self.kept.saturating_sub(1);
            }
        }
        self.over_limit_since.take_if(|_| self.live_bytes <= QUEUE_MAX);
        self.replay_by.take_if(|_| self.kept == 0);
        rounds
    }

    fn progress(&mut self, taken: usize) {
        if let Some(blocked) = &mut self.blocked {
            blocked.taken += taken;
            if blocked.taken >= PROGRESS_BYTES_MIN {
                self.blocked = None;
            }
        }
    }
}

#[cfg(test)]
mod tests;
