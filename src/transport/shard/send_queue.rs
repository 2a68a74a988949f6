//! The send queue of a connection: bytes that its socket did not take, and its position in the
//! stream.
//!
//! A connection has a send queue only while its socket is full, or while its position differs from
//! that of its group.
//!
//! The queue holds at most [`QUEUE_MAX`] bytes of live rounds, and for [`BURST_FOR`] a burst of up
//! to [`BURST_MAX`]: one transaction may finish more rounds than the ring buffers hold, and a
//! client that reads them all is not slow. Above that, the queue drops the live rounds, except a
//! segment that the socket has started. When the socket drains, it is refilled from the hub's ring
//! buffers, after the last round that it kept.

mod paged_replay;

use std::{
    collections::VecDeque,
    io::{self, ErrorKind, IoSlice, Write},
    time::{Duration, Instant},
};

use bytes::{Buf, Bytes};

pub(super) use self::paged_replay::PagedReplay;
use super::protocol::{JoinedRounds, Protocol, Segment};
use crate::{
    stream::hub::{Later, Missed, Placed, Position},
    transport::read_pace::ReadPace,
};

/// A peer must take this many bytes per `patience`. One that reads a byte now and then holds as
/// much memory as one that reads nothing.
const PROGRESS_BYTES_MIN: usize = 16 * 1024;
/// The most bytes of live rounds in one queue. Connections share these bytes: the limit bounds the
/// memory that one slow subscriber can hold.
const QUEUE_MAX: usize = 256 * 1024;
/// The most bytes of a burst: more than 10,000 rounds.
const BURST_MAX: usize = 4 * 1024 * 1024;
/// How long a queue may exceed [`QUEUE_MAX`]. A connection of 8 Mbit/s takes a whole burst in this
/// time.
const BURST_FOR: Duration = Duration::from_secs(5);
/// The most segments in one system call.
const SLICES_MAX: usize = 64;

/// How a flush ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flushed {
    /// The kernel accepted all bytes.
    All,
    /// The socket is full.
    Blocked,
    /// The connection is broken.
    Broken,
}

/// A full socket: since when, and the bytes it took since.
#[derive(Clone, Copy, Debug)]
struct BlockedSocket {
    since: Instant,
    taken: usize,
}

/// See the module.
#[derive(Debug)]
pub(super) struct SendQueue {
    segments: VecDeque<Segment>,
    /// How many segments at the front cannot be read again from the ring buffers.
    kept: usize,
    /// Bytes in the segments after those.
    live_bytes: usize,
    /// Since when `live_bytes` exceeds [`QUEUE_MAX`].
    over_limit_since: Option<Instant>,
    /// Whether the socket took the start of the first segment.
    first_started: bool,
    /// The last round that was written or is queued.
    position: Position,
    /// Whether the queue dropped rounds after `position`.
    lagging: bool,
    blocked: Option<BlockedSocket>,
    /// The pong to the newest ping; RFC 6455 section 5.5.3 requires no other.
    pong: Option<Bytes>,
    /// Set with the close message: the deadline for the peer to close its half.
    close_by: Option<Instant>,
    /// The rounds after `position` that are missing while `lagging`; unset, all of them are.
    rest: Option<Box<Later>>,
    /// A replay from the database, which comes before those.
    pub(super) replay: Option<Box<PagedReplay>>,
    /// How fast the peer reads a replay, until it has all of it.
    pace: Option<ReadPace>,
}

impl SendQueue {
    /// The queue of a connection that has all rounds up to `position`.
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
            rest: None,
            replay: None,
            pace: None,
        }
    }

    /// Continues with these rounds of the ring buffers once all segments were sent.
    pub(super) fn continue_with(&mut self, later: Later) {
        (self.position, self.lagging) = (later.position(), true);
        self.rest = Some(Box::new(later));
    }

    /// Adds bytes that the ring buffers do not hold: of an opening, or not of a round.
    pub(super) fn push_kept(&mut self, bytes: Bytes, rounds: u32) {
        if !bytes.is_empty() {
            // After live rounds it counts as one of them, and is dropped with them.
            let is_kept = self.kept == self.segments.len();
            self.live_bytes += if is_kept { 0 } else { bytes.len() };
            self.kept += usize::from(is_kept);
            self.segments.push_back(Segment { bytes, last: self.position, rounds });
        }
    }

    /// As `push_kept`, for bytes of which the socket took the first `taken`.
    pub(super) fn push_rest(&mut self, mut bytes: Bytes, rounds: u32, taken: usize) {
        bytes.advance(taken);
        self.first_started = taken > 0 && !bytes.is_empty();
        self.push_kept(bytes, rounds);
    }

    /// Adds a segment of which the socket took the first `taken` bytes.
    pub(super) fn push_started(&mut self, mut segment: Segment, taken: usize) {
        segment.bytes.advance(taken);
        self.first_started = taken > 0;
        self.push(segment);
    }

    /// Adds live rounds, except those that are queued already. May drop live rounds above the
    /// limits.
    pub(super) fn push_rounds(
        &mut self,
        joined: &JoinedRounds<'_>,
        protocol: Protocol,
        now: Instant,
        is_exhausted: bool,
    ) {
        if !self.takes_rounds() {
            return;
        }
        let is_new = |placed: &Placed| placed.position > self.position;
        if joined.rounds.iter().all(is_new) {
            self.push(joined.segment.clone());
        } else {
            joined.rounds.iter().for_each(|placed| self.push_round(placed, protocol));
        }
        // Without memory for queues, each has the rounds that its socket started.
        if is_exhausted || self.is_over_limit(now) {
            self.drop_live_rounds();
        }
    }

    /// Whether live rounds are of use: the queue does not lag, and does not end.
    pub(super) fn takes_rounds(&self) -> bool {
        !self.lagging && !self.is_closing()
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

    /// Drops the live rounds except the first segment: the socket may have started it, and its
    /// flush shows when the socket has room.
    pub(super) fn drop_live_rounds(&mut self) {
        if self.is_closing() || self.segments.len() <= self.kept.max(1) {
            return;
        }
        self.segments.truncate(self.kept.max(1));
        self.live_bytes =
            self.segments.iter().skip(self.kept).map(|segment| segment.bytes.len()).sum();
        self.position = self.segments.back().map_or(self.position, |segment| segment.last);
        self.lagging = true;
        self.over_limit_since = None;
    }

    /// Adds dropped rounds from the ring buffers, up to the limit.
    pub(super) fn refill(&mut self, missed: &Missed, protocol: Protocol) {
        for placed in &missed.rounds {
            let size = protocol.round(&placed.frame).len();
            if self.live_bytes > 0 && self.live_bytes + size > QUEUE_MAX {
                return;
            }
            self.push_round(placed, protocol);
        }
        if let Some(head) = missed.whole {
            // The refill includes published rounds that are still in the command queue.
            self.position = self.position.max(head);
            (self.lagging, self.rest) = (false, None);
        }
    }

    /// The rounds to refill from the ring buffers, if the queue lacks some and is empty.
    pub(super) fn missed(&mut self) -> Option<Later> {
        let is_due = self.lagging && self.segments.is_empty() && self.replay.is_none();
        if !is_due || self.is_closing() {
            return None;
        }
        let mut later = match &self.rest {
            Some(rest) => (**rest).clone(),
            None => Later::all_after(self.position),
        };
        later.advance(self.position);
        Some(later)
    }

    /// Measures from now on how fast the peer reads the replay.
    pub(super) fn limit_replay(&mut self, now: Instant) {
        self.pace = Some(ReadPace::new(now));
    }

    /// Whether the peer reads the replay slower than `rate`, on average over the last `window`.
    pub(super) fn is_replay_too_slow(
        &mut self,
        now: Instant,
        window: Duration,
        rate: usize,
    ) -> bool {
        if self.kept == 0 && !self.lagging && self.replay.is_none() {
            self.pace = None;
        }
        let is_waiting = self.segments.is_empty();
        !is_waiting && self.pace.as_mut().is_some_and(|pace| pace.is_too_slow(now, window, rate))
    }

    /// Whether the queue is over its limit, and is allowed to be for a while.
    pub(super) fn is_behind(&self) -> bool {
        self.over_limit_since.is_some()
    }

    /// Whether to wait for the event of a writable socket. A queue above its limit is flushed at
    /// once instead: the peer may have made room already, and must not lose rounds because its
    /// event waits.
    pub(super) fn waits_for_socket(&self) -> bool {
        self.blocked.is_some() && self.live_bytes <= QUEUE_MAX
    }

    /// Keeps a pong until the socket drains. It replaces an earlier one.
    pub(super) fn set_pong(&mut self, pong: Bytes) {
        self.pong = Some(pong);
    }

    /// Adds a close message as the last segment. `at_once` drops all segments before it, except one
    /// that the socket has started. The queue accepts no rounds after it.
    pub(super) fn close(&mut self, close_message: Bytes, at_once: bool, by: Instant) {
        if at_once {
            self.segments.truncate(usize::from(self.first_started));
        }
        self.kept = self.segments.len();
        self.live_bytes = 0;
        self.pong = None;
        self.push_kept(close_message, 0);
        (self.close_by, self.pace) = (Some(by), None);
        (self.replay, self.over_limit_since) = (None, None);
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

    /// Whether the socket took less than [`PROGRESS_BYTES_MIN`] for this long.
    pub(super) fn is_stalled(&self, now: Instant, patience: Duration) -> bool {
        self.blocked.is_some_and(|blocked| now.duration_since(blocked.since) >= patience)
    }

    /// Whether the connection needs no queue: it has all rounds up to `offered`, and none after it.
    pub(super) fn is_caught_up(&self, offered: Position) -> bool {
        let is_even = self.position <= offered && !self.lagging;
        is_even
            && self.replay.is_none()
            && self.segments.is_empty()
            && self.pong.is_none()
            && !self.is_closing()
    }

    /// Writes until the socket is full. Returns the number of rounds that were completed.
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
        rounds
    }

    fn progress(&mut self, taken: usize) {
        if let Some(pace) = &mut self.pace {
            pace.take(taken);
        }
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
