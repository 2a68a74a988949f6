//! What each connection got: in order, once, without a gap.

use std::collections::{HashSet, VecDeque};

use serde::Serialize;

/// What went wrong. All zero, or the run is worth nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Faults {
    /// Rounds that a connection never got.
    pub(crate) lost: usize,
    /// Rounds that a connection got again.
    pub(crate) repeated: usize,
    /// Rounds that came after a later one.
    pub(crate) reordered: usize,
    /// Connections that the server ended.
    pub(crate) closed: usize,
}

impl Faults {
    pub(crate) fn none(self) -> bool {
        self == Self::default()
    }
}

/// Checks every delivery, and knows up to which round everybody has everything.
#[derive(Debug)]
pub(crate) struct Tally {
    connections: u32,
    /// Connections that have each round after `done`.
    arrived: VecDeque<u32>,
    done: u64,
    missing: HashSet<(usize, u64)>,
    repeated: usize,
    reordered: usize,
}

impl Tally {
    /// Every connection has all rounds up to `done`.
    pub(crate) fn new(connections: u32, done: u64) -> Self {
        let (arrived, missing) = (VecDeque::new(), HashSet::new());
        Self { connections, arrived, done, missing, repeated: 0, reordered: 0 }
    }

    /// Takes note of a delivery to a connection whose last round was `last`. True when everybody
    /// has one more round.
    pub(crate) fn take(&mut self, connection: usize, last: &mut u64, seq: u64) -> bool {
        if seq <= *last {
            if !self.missing.remove(&(connection, seq)) {
                self.repeated += 1;
                return false;
            }
            self.reordered += 1;
        } else {
            self.missing.extend((*last + 1..seq).map(|seq| (connection, seq)));
            *last = seq;
        }
        self.count(seq)
    }

    /// Every connection has all rounds up to this one.
    pub(crate) fn done(&self) -> u64 {
        self.done
    }

    /// The faults when everything up to `last` should have come.
    pub(crate) fn faults(&self, last: u64, closed: usize) -> Faults {
        let due = last.saturating_sub(self.done) as usize * self.connections as usize;
        let came: usize = self.arrived.iter().map(|&count| count as usize).sum();
        let lost = due.saturating_sub(came);
        Faults { lost, repeated: self.repeated, reordered: self.reordered, closed }
    }

    fn count(&mut self, seq: u64) -> bool {
        let index = (seq - self.done - 1) as usize;
        if self.arrived.len() <= index {
            self.arrived.resize(index + 1, 0);
        }
        self.arrived[index] += 1;
        let before = self.done;
        while self.arrived.front() == Some(&self.connections) {
            self.arrived.pop_front();
            self.done += 1;
        }
        self.done > before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_is_done_when_everybody_has_it_and_all_before() {
        let (mut tally, mut last) = (Tally::new(2, 0), [0, 0]);
        assert!(!tally.take(0, &mut last[0], 1));
        assert!(!tally.take(0, &mut last[0], 2));
        assert!(tally.take(1, &mut last[1], 1));
        assert_eq!(tally.done(), 1);
        assert!(tally.take(1, &mut last[1], 2));
        assert!(tally.faults(2, 0).none());
    }

    #[test]
    fn what_is_lost_repeated_or_late_is_told_apart() {
        let (mut tally, mut last) = (Tally::new(1, 0), 0);
        tally.take(0, &mut last, 1);
        tally.take(0, &mut last, 1);
        tally.take(0, &mut last, 4);
        tally.take(0, &mut last, 2);
        let faults = Faults { lost: 1, repeated: 1, reordered: 1, closed: 0 };
        assert_eq!(tally.faults(4, 0), faults);
        assert_eq!(tally.faults(5, 0).lost, 2);
    }
}
