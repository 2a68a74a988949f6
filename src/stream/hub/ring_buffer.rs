//! The recent rounds of one game, oldest first, and the bounds of those evicted.

use std::{collections::VecDeque, num::NonZeroUsize, sync::Arc};

use super::{Position, history_hold::HistoryHold};
use crate::stream::{
    frame::{Frame, ROUND_OVERHEAD},
    transaction::{Attachment, Xid},
};

/// A round with its position in the stream.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) position: Position,
    /// The transaction that finished the round; 0 if the round has no outbox row.
    pub(super) xid: Xid,
    pub(super) attachment: Attachment,
    /// The oldest transaction that was running when the round was recorded.
    pub(super) before: Xid,
    /// The number of the poll that found it.
    pub(super) poll: u64,
    /// The type of its game at that time.
    pub(super) kind: Arc<str>,
    pub(super) frame: Frame,
    /// Counts the round's bytes as history.
    pub(super) _hold: Arc<HistoryHold>,
}

impl Entry {
    fn bytes(&self) -> usize {
        self.frame.size() + ROUND_OVERHEAD
    }
}

/// At most `capacity` entries, by position.
#[derive(Debug)]
pub(super) struct RingBuffer {
    capacity: NonZeroUsize,
    entries: VecDeque<Entry>,
    /// The bytes of all entries.
    bytes: usize,
    /// The last position of an evicted entry.
    evicted_position: Position,
    /// The greatest transaction of an evicted entry.
    evicted_xid: Xid,
    /// The last poll that found an evicted entry; `None` if none was evicted.
    evicted_poll: Option<u64>,
}

impl RingBuffer {
    pub(super) fn new(capacity: NonZeroUsize) -> Self {
        let entries = VecDeque::new();
        let (evicted_position, evicted_xid, evicted_poll) = (Position(0), Xid(0), None);
        Self { capacity, entries, bytes: 0, evicted_position, evicted_xid, evicted_poll }
    }

    /// Appends an entry; returns the evicted one.
    pub(super) fn push(&mut self, entry: Entry) -> Option<Entry> {
        let oldest = if self.is_full() { self.evict() } else { None };
        self.bytes += entry.bytes();
        self.entries.push_back(entry);
        oldest
    }

    /// Evicts the oldest entry.
    pub(super) fn evict(&mut self) -> Option<Entry> {
        let oldest = self.entries.pop_front()?;
        self.bytes -= oldest.bytes();
        self.evicted_position = oldest.position;
        self.evicted_xid = self.evicted_xid.max(oldest.xid);
        self.evicted_poll = Some(oldest.poll);
        Some(oldest)
    }

    /// The bytes of all entries.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Notes that rounds up to this transaction exist that were never appended.
    pub(super) fn mark_truncated(&mut self, xid: Xid) {
        self.evicted_xid = self.evicted_xid.max(xid);
        self.evicted_poll = self.evicted_poll.or(Some(0));
    }

    pub(super) fn is_full(&self) -> bool {
        self.entries.len() == self.capacity.get()
    }

    /// The last position of an evicted entry.
    pub(super) fn evicted_position(&self) -> Position {
        self.evicted_position
    }

    /// The greatest transaction and the last poll of the evicted entries.
    pub(super) fn evicted(&self) -> Option<(Xid, u64)> {
        self.evicted_poll.map(|poll| (self.evicted_xid, poll))
    }

    /// Whether it has every round of the game after this position.
    pub(super) fn reaches(&self, position: Position) -> bool {
        self.evicted_position <= position
    }

    /// Whether it has every round of the game of this transaction and later ones.
    pub(super) fn reaches_xid(&self, xid: Xid) -> bool {
        self.evicted_xid < xid
    }

    /// Whether it has every round of the game that the outbox ever had.
    pub(super) fn is_complete(&self) -> bool {
        self.evicted_position == Position(0) && self.evicted_xid == Xid(0)
    }

    pub(super) fn after(&self, position: Position) -> impl Iterator<Item = &Entry> {
        let start = self.entries.partition_point(|entry| entry.position <= position);
        self.entries.range(start..)
    }

    /// Removes the entries for which `keep` is false, without counting them as evicted.
    pub(super) fn retain(&mut self, keep: impl FnMut(&Entry) -> bool) {
        self.entries.retain(keep);
        self.bytes = self.entries.iter().map(Entry::bytes).sum();
    }

    /// The types of its rounds.
    pub(super) fn types(&self) -> impl Iterator<Item = &Arc<str>> {
        self.entries.iter().map(|entry| &entry.kind)
    }

    pub(super) fn find(&self, position: Position) -> Option<&Entry> {
        let index = self.entries.binary_search_by_key(&position, |entry| entry.position).ok()?;
        self.entries.get(index)
    }
}
