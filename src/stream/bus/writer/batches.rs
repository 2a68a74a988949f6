//! Groups of messages in batches that NATS takes at once.

use crate::stream::bus::{
    append::{BATCH_BYTES, BATCH_MESSAGES},
    outgoing::Outgoing,
};

/// Messages of a batch: one more may follow with a mark.
const MESSAGES: usize = BATCH_MESSAGES - 1;

/// Batches in the order of the log. A group, the parts of one round, is never divided, unless it has
/// more messages than a batch may have. A reader then lacks the round until it has the last batch.
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
        self.end += group.len() as u64;
        let size: usize = group.iter().map(Outgoing::size).sum();
        let is_full = self.last.len() + group.len() > MESSAGES || self.bytes + size > BATCH_BYTES;
        if is_full {
            self.begin_batch();
        }
        self.bytes += size;
        for message in group {
            if self.last.len() == MESSAGES {
                self.begin_batch();
            }
            self.last.push(message);
        }
        self.end
    }

    fn begin_batch(&mut self) {
        if !self.last.is_empty() {
            self.full.push(std::mem::take(&mut self.last));
        }
        self.bytes = 0;
    }

    /// The batches, none of which is empty.
    pub(super) fn into_vec(mut self) -> Vec<Vec<Outgoing>> {
        self.begin_batch();
        self.full
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(messages: usize, bytes: usize) -> Vec<Outgoing> {
        let payload = vec![0; bytes].into();
        let message = Outgoing { subject: "s".into(), headers: Default::default(), payload };
        vec![message; messages]
    }

    fn sizes(batches: Batches) -> Vec<usize> {
        batches.into_vec().iter().map(Vec::len).collect()
    }

    #[test]
    fn a_round_of_more_parts_than_a_batch_takes_is_divided() {
        let mut batches = Batches::new(10);
        assert_eq!(batches.add(group(3, 10)), 13);
        assert_eq!(batches.add(group(2_100, 10)), 2_113);
        assert_eq!(sizes(batches), [3, 999, 999, 102]);
    }

    #[test]
    fn the_parts_of_a_round_stay_together() {
        let mut batches = Batches::new(0);
        for _ in 0..3 {
            batches.add(group(2, 1 << 20));
        }
        assert_eq!(sizes(batches), [2, 2, 2]);
    }
}
