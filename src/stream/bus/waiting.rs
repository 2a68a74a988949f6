//! Messages behind a missing one.

use std::collections::BTreeMap;

use super::{codec, read::LogEntry};

/// What may wait. Everything beyond is read again by direct gets.
const MESSAGES: usize = 65_536;
const BYTES_MAX: usize = 64 << 20;

/// Messages by their sequences.
#[derive(Debug)]
pub(super) struct Waiting {
    entries: BTreeMap<u64, LogEntry>,
    bytes: usize,
    most: usize,
}

impl Waiting {
    /// At most so many bytes.
    pub(super) fn up_to(bytes: usize) -> Self {
        Self { entries: BTreeMap::new(), bytes: 0, most: bytes.min(BYTES_MAX) }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.entries.clear();
        self.bytes = 0;
    }

    /// Keeps a message, if there is room.
    pub(super) fn insert(&mut self, entry: LogEntry) {
        if self.entries.len() < MESSAGES && self.bytes + entry.size() <= self.most {
            self.bytes += entry.size();
            let former = self.entries.insert(entry.seq, entry);
            self.bytes -= former.map_or(0, |former| former.size());
        }
    }

    /// The message after this one, if it is of the same leader.
    pub(super) fn next(&mut self, last: u64, term: u64) -> Option<LogEntry> {
        let first = self.entries.first_entry()?;
        let is_next = *first.key() == last + 1 && codec::term(first.get()) == Some(term);
        let next = is_next.then(|| first.remove())?;
        self.bytes -= next.size();
        Some(next)
    }

    /// Forgets messages that have been read.
    pub(super) fn forget_up_to(&mut self, last: u64) {
        self.entries = self.entries.split_off(&(last + 1));
        self.bytes = self.entries.values().map(LogEntry::size).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(seq: u64, bytes: usize) -> LogEntry {
        let (subject, headers) = ("s".to_owned(), Default::default());
        LogEntry { seq, subject, headers, payload: vec![0; bytes].into() }
    }

    #[test]
    fn large_messages_wait_up_to_their_part_of_the_memory() {
        let mut waiting = Waiting::up_to(64 << 20);
        for seq in 2..102 {
            waiting.insert(entry(seq, 1 << 20));
        }
        assert_eq!(waiting.entries.len(), 63);
        waiting.forget_up_to(34);
        assert_eq!(waiting.entries.len(), 30);
        waiting.insert(entry(200, 1 << 20));
        assert_eq!(waiting.entries.len(), 31);
    }
}
