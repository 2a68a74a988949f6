//! Groups of messages in batches that NATS takes at once.

use crate::stream::bus::{
    append::{BATCH_BYTES, BATCH_MESSAGES},
    outgoing::Outgoing,
};

/// Batches in the order of the log. A group, the parts of one round, is never divided, unless it is
/// larger than a batch may be.
#[derive(Debug)]
pub(super) struct Batches {
    full: Vec<Vec<Outgoing>>,
    last: Vec<Outgoing>,
    bytes: usize,
    /// The sequence of the last message.
    end: u64,
}

impl Batches {
    /// Behind this sequence.
    pub(super) fn new(end: u64) -> Self {
        Self { full: Vec::new(), last: Vec::new(), bytes: 0, end }
    }

    /// Adds a group; returns the sequence of its last message.
    pub(super) fn add(&mut self, group: Vec<Outgoing>) -> u64 {
        let size: usize = group.iter().map(Outgoing::size).sum();
        let is_full =
            self.last.len() + group.len() > BATCH_MESSAGES || self.bytes + size > BATCH_BYTES;
        if is_full && !self.last.is_empty() {
            self.full.push(std::mem::take(&mut self.last));
            self.bytes = 0;
        }
        self.bytes += size;
        self.end += group.len() as u64;
        self.last.extend(group);
        self.end
    }

    /// The batches, none of which is empty.
    pub(super) fn into_vec(mut self) -> Vec<Vec<Outgoing>> {
        if !self.last.is_empty() {
            self.full.push(self.last);
        }
        self.full
    }
}
