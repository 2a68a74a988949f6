//! The leases of a shard's connections, by slot: 8 bytes each, and none while tokens are off.
//!
//! They are checked with the heartbeats, which visit a slot once in each interval. So streams whose
//! tokens expire in the same second end spread over one heartbeat, and no timer is needed.

use crate::{
    access::{CurrentKeys, Lease},
    transport::close::CloseReason,
};

/// The leases by slot.
#[derive(Debug)]
pub(super) struct Leases {
    keys: CurrentKeys,
    by_slot: Vec<Lease>,
}

impl Leases {
    pub(super) fn new(keys: CurrentKeys) -> Self {
        Self { keys, by_slot: Vec::new() }
    }

    /// Notes the lease of the connection that takes this slot.
    pub(super) fn set(&mut self, slot: u32, lease: Lease) {
        let slot = slot as usize;
        if lease != Lease::ENDLESS && slot >= self.by_slot.len() {
            self.by_slot.resize(slot + 1, Lease::ENDLESS);
        }
        if let Some(known) = self.by_slot.get_mut(slot) {
            *known = lease;
        }
    }

    /// Takes the leases that have ended, of every slot `first + n * step`.
    pub(super) fn take_lapsed(&mut self, first: u32, step: usize) -> Vec<(u32, CloseReason)> {
        if self.by_slot.is_empty() {
            return Vec::new();
        }
        let check = self.keys.check();
        let slots = (first as usize..self.by_slot.len()).step_by(step);
        let mut lapsed = Vec::new();
        for slot in slots {
            if let Some(lapse) = check.lapse(self.by_slot[slot]) {
                self.by_slot[slot] = Lease::ENDLESS;
                lapsed.push((slot as u32, lapse.into()));
            }
        }
        lapsed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A lease that ended long ago.
    fn ended() -> Lease {
        Lease::for_tests(1)
    }

    #[test]
    fn a_lease_that_has_ended_is_taken_once_in_its_turn() {
        let mut leases = Leases::new(CurrentKeys::default());
        leases.set(0, Lease::ENDLESS);
        assert!(leases.by_slot.is_empty(), "no memory while tokens are off");
        leases.set(9, ended());
        leases.set(2, ended());
        assert_eq!(leases.take_lapsed(0, 4), []);
        assert_eq!(leases.take_lapsed(1, 4), [(9, CloseReason::TokenExpired)]);
        assert_eq!(leases.take_lapsed(1, 4), []);
        leases.set(2, Lease::ENDLESS);
        assert_eq!(leases.take_lapsed(2, 4), [], "another connection has the slot");
    }
}
