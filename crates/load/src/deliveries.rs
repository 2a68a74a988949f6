//! Checks that each connection receives every round once and in order.

use std::collections::{HashSet, VecDeque};

use serde::Serialize;

/// Errors in the deliveries of a run. A run is valid only if all are zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Faults {
    /// Rounds that a connection did not receive.
    pub(crate) lost: usize,
    /// Rounds that a connection received again.
    pub(crate) repeated: usize,
    /// Rounds that arrived after a later one.
    pub(crate) reordered: usize,
    /// Connections that the server closed.
    pub(crate) closed: usize,
}

impl Faults {
    pub(crate) fn none(self) -> bool {
        self == Self::default()
    }
}

/// Checks every delivery, and tracks the last round up to which no connection lacks any.
#[derive(Debug)]
pub(crate) struct Deliveries {
    connections: u32,
    /// For each round after `done`: the number of connections that have received it.
    arrived: VecDeque<u32>,
    done: u64,
    missing: HashSet<(usize, u64)>,
    repeated: usize,
    reordered: usize,
}

impl Deliveries {
    /// Starts with every connection having all rounds up to `done`.
    pub(crate) fn new(connections: u32, done: u64) -> Self {
        let (arrived, missing) = (VecDeque::new(), HashSet::new());
        Self { connections, arrived, done, missing, repeated: 0, reordered: 0 }
    }

    /// Records a delivery to a connection whose last round was `last`. Returns true if `done` has
    /// grown.
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

    /// The faults if all rounds up to `last` should have arrived.
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
    fn a_round_is_done_once_every_connection_has_it_and_all_earlier_ones() {
        let (mut received, mut last) = (Deliveries::new(2, 0), [0, 0]);
        assert!(!received.take(0, &mut last[0], 1));
        assert!(!received.take(0, &mut last[0], 2));
        assert!(received.take(1, &mut last[1], 1));
        assert_eq!(received.done(), 1);
        assert!(received.take(1, &mut last[1], 2));
        assert!(received.faults(2, 0).none());
    }

    #[test]
    fn lost_repeated_and_reordered_rounds_are_counted_separately() {
        let (mut received, mut last) = (Deliveries::new(1, 0), 0);
        received.take(0, &mut last, 1);
        received.take(0, &mut last, 1);
        received.take(0, &mut last, 4);
        received.take(0, &mut last, 2);
        let faults = Faults { lost: 1, repeated: 1, reordered: 1, closed: 0 };
        assert_eq!(received.faults(4, 0), faults);
        assert_eq!(received.faults(5, 0).lost, 2);
    }
}
