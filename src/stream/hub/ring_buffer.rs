//! The recent rounds of one game, oldest first, and what is known of those that fell out.

use std::{collections::VecDeque, num::NonZeroUsize, sync::Arc};

use super::Position;
use crate::stream::{frame::Frame, transaction::Xid};

/// A round with its place in the stream.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) position: Position,
    /// The transaction that finished the round; 0 for one read from the table alone.
    pub(super) xid: Xid,
    /// The oldest transaction that was running when the round was recorded.
    pub(super) before: Xid,
    /// The number of the poll that found it.
    pub(super) poll: u64,
    /// The type its game had.
    pub(super) kind: Arc<str>,
    pub(super) frame: Frame,
}

/// At most `capacity` entries, by position.
#[derive(Debug)]
pub(super) struct RingBuffer {
    capacity: NonZeroUsize,
    entries: VecDeque<Entry>,
    /// The last position that is no longer kept.
    evicted_position: Position,
    /// The greatest transaction of an entry that is no longer kept.
    evicted_xid: Xid,
    /// The last poll that found one of these.
    evicted_poll: Option<u64>,
}

impl RingBuffer {
    pub(super) fn new(capacity: NonZeroUsize) -> Self {
        let entries = VecDeque::new();
        let (evicted_position, evicted_xid, evicted_poll) = (Position(0), Xid(0), None);
        Self { capacity, entries, evicted_position, evicted_xid, evicted_poll }
    }

    /// Appends; returns what fell out.
    pub(super) fn push(&mut self, entry: Entry) -> Option<Entry> {
        let full = self.entries.len() == self.capacity.get();
        let oldest = if full { self.entries.pop_front() } else { None };
        if let Some(oldest) = &oldest {
            self.evicted_position = oldest.position;
            self.evicted_xid = self.evicted_xid.max(oldest.xid);
            self.evicted_poll = Some(oldest.poll);
        }
        self.entries.push_back(entry);
        oldest
    }

    /// Says that rounds up to this transaction exist which were never put in.
    pub(super) fn mark_truncated(&mut self, xid: Xid) {
        self.evicted_xid = self.evicted_xid.max(xid);
        self.evicted_poll = self.evicted_poll.or(Some(0));
    }

    pub(super) fn is_full(&self) -> bool {
        self.entries.len() == self.capacity.get()
    }

    /// The last position that is no longer kept.
    pub(super) fn evicted_position(&self) -> Position {
        self.evicted_position
    }

    /// Of the rounds that are no longer kept: the greatest transaction, and the last poll.
    pub(super) fn evicted(&self) -> Option<(Xid, u64)> {
        self.evicted_poll.map(|poll| (self.evicted_xid, poll))
    }

    /// Whether nothing after this position has fallen out.
    pub(super) fn reaches(&self, position: Position) -> bool {
        self.evicted_position <= position
    }

    /// Whether nothing of this transaction or a later one has fallen out.
    pub(super) fn reaches_xid(&self, xid: Xid) -> bool {
        self.evicted_xid < xid
    }

    /// Whether everything the game ever had in the outbox is here.
    pub(super) fn is_complete(&self) -> bool {
        self.evicted_position == Position(0) && self.evicted_xid == Xid(0)
    }

    pub(super) fn after(&self, position: Position) -> impl Iterator<Item = &Entry> {
        let start = self.entries.partition_point(|entry| entry.position <= position);
        self.entries.range(start..)
    }

    /// Takes out what should not be there.
    pub(super) fn retain(&mut self, keep: impl FnMut(&Entry) -> bool) {
        self.entries.retain(keep);
    }

    pub(super) fn find(&self, position: Position) -> Option<&Entry> {
        let index = self.entries.binary_search_by_key(&position, |entry| entry.position).ok()?;
        self.entries.get(index)
    }
}
