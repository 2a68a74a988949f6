//! The leases of a topic's sessions, checked in turns: each session once in a heartbeat.

use std::{collections::HashMap, time::Duration};

use tokio::time::Interval;

use crate::{
    access::{CurrentKeys, Lapse, Lease},
    transport::heartbeats,
};

/// Sessions whose tokens expire in the same second end in this many turns.
const TURNS: u32 = 16;

/// The leases by session. Empty while tokens are off.
#[derive(Debug)]
pub(super) struct SessionLeases {
    keys: CurrentKeys,
    /// Each with the turn in which it is checked.
    by_session: HashMap<usize, (u32, Lease)>,
    turn: u32,
}

impl SessionLeases {
    pub(super) fn new(keys: CurrentKeys) -> Self {
        Self { keys, by_session: HashMap::new(), turn: 0 }
    }

    /// Ticks for each turn.
    pub(super) fn turns(heartbeat: Duration) -> Interval {
        heartbeats((heartbeat / TURNS).max(Duration::from_millis(1)))
    }

    /// Whether no session has a lease: tokens are off.
    pub(super) fn is_empty(&self) -> bool {
        self.by_session.is_empty()
    }

    /// Adds a session.
    pub(super) fn add(&mut self, session: usize, lease: Lease) {
        if lease != Lease::ENDLESS {
            self.by_session.insert(session, (fastrand::u32(..TURNS), lease));
        }
    }

    /// Removes a session that has left.
    pub(super) fn remove(&mut self, session: usize) {
        self.by_session.remove(&session);
    }

    /// The sessions of the next turn whose lease has ended.
    pub(super) fn next_turn(&mut self) -> Vec<(usize, Lapse)> {
        self.turn = (self.turn + 1) % TURNS;
        let check = self.keys.check();
        let due = self.by_session.iter().filter(|(_, (turn, _))| *turn == self.turn);
        due.filter_map(|(session, (_, lease))| Some((*session, check.lapse(*lease)?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_whose_leases_end_together_end_in_many_turns_of_one_heartbeat() {
        let mut leases = SessionLeases::new(CurrentKeys::default());
        for session in 0..2000 {
            leases.add(session, Lease::for_tests(1));
        }
        leases.add(2000, Lease::ENDLESS);
        let mut all = Vec::new();
        for _ in 0..TURNS {
            let lapsed = leases.next_turn();
            assert!((1..=250).contains(&lapsed.len()), "{}", lapsed.len());
            all.extend(lapsed.into_iter().map(|(session, _)| session));
        }
        all.sort_unstable();
        assert!(all.iter().copied().eq(0..2000), "each once");
    }
}
