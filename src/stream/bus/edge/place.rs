//! An edge's place in the log: the last message that it read, and what it remembers of those before.

use std::{
    collections::VecDeque,
    hash::{DefaultHasher, Hash, Hasher},
};

use crate::stream::{bus::read::LogEntry, hub::Position};

/// Messages that are remembered: enough to go back by, and for marks that lag by seconds.
const REMEMBERED: usize = if cfg!(test) { 64 } else { 200_000 };
/// The headers that the writer gave. NATS adds others.
const HEADERS: [&str; 6] = ["Ds", "Ds-Pos", "Ds-Part", "Ds-Repeat", "Ds-Lost", "Ds-Whole"];

/// A message that was read.
#[derive(Clone, Copy, Debug)]
struct Read {
    seq: u64,
    /// Tells it from another message at the same sequence.
    fingerprint: u64,
    /// The hub's position after it.
    position: Position,
}

/// How a message relates to this place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::stream::bus) enum Relation {
    /// It is the next one.
    Next,
    /// Others are missing before it.
    Ahead,
    /// It has been read.
    Read,
    /// Another message was read at its sequence: NATS lost the log's tail, and it was written again.
    Rewritten,
}

/// The place in the log.
#[derive(Debug, Default)]
pub(super) struct Place {
    /// The sequence of the last message that was read; 0 before the fill.
    pub(super) last: u64,
    read: VecDeque<Read>,
}

impl Place {
    /// After this message, which was not read.
    pub(super) fn after(last: u64) -> Self {
        Self { last, read: VecDeque::new() }
    }

    pub(super) fn relation(&self, entry: &LogEntry) -> Relation {
        if entry.seq > self.last {
            return if entry.seq == self.last + 1 { Relation::Next } else { Relation::Ahead };
        }
        match self.find(entry.seq) {
            Some(read) if read.fingerprint != fingerprint(entry) => Relation::Rewritten,
            _ => Relation::Read,
        }
    }

    /// Whether this is the very message that was read at its sequence.
    pub(super) fn has_read(&self, entry: &LogEntry) -> bool {
        self.find(entry.seq).is_some_and(|read| read.fingerprint == fingerprint(entry))
    }

    fn find(&self, seq: u64) -> Option<&Read> {
        let found = self.read.binary_search_by_key(&seq, |read| read.seq);
        found.ok().and_then(|index| self.read.get(index))
    }

    /// The oldest message that is remembered.
    pub(super) fn oldest(&self) -> Option<u64> {
        self.read.front().map(|read| read.seq)
    }

    /// Whether the last message that was read is remembered.
    pub(super) fn remembers_last(&self) -> bool {
        self.read.back().is_some_and(|read| read.seq == self.last)
    }

    /// Moves to a message after it was read.
    pub(super) fn advance(&mut self, entry: &LogEntry, position: Position) {
        self.last = entry.seq;
        self.read.push_back(Read { seq: entry.seq, fingerprint: fingerprint(entry), position });
        if self.read.len() > REMEMBERED {
            self.read.pop_front();
        }
    }

    /// Goes back to this message: all later ones are read again.
    pub(super) fn go_back_to(&mut self, seq: u64) {
        while self.read.pop_back_if(|read| read.seq > seq).is_some() {}
        self.last = seq;
    }

    /// So many rounds came into the hub before all that were read.
    pub(super) fn shift(&mut self, Position(before): Position) {
        self.read.iter_mut().for_each(|read| read.position.0 += before);
    }

    /// The hub's position after the message at this sequence, or the last one before it.
    pub(super) fn position_at(&self, seq: u64) -> Position {
        let behind = self.read.partition_point(|read| read.seq <= seq);
        let found = behind.checked_sub(1).and_then(|index| self.read.get(index));
        found.map_or(Position(0), |read| read.position)
    }
}

fn fingerprint(entry: &LogEntry) -> u64 {
    let mut hasher = DefaultHasher::new();
    for name in HEADERS {
        entry.headers.get_last(name).map(async_nats::HeaderValue::as_str).hash(&mut hasher);
    }
    entry.payload.hash(&mut hasher);
    hasher.finish()
}
