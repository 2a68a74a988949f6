//! How long a token opens a stream: until it expires, or its key is withdrawn.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use arc_swap::ArcSwap;

use super::key::KeyNumber;

/// The end of a token's validity and its key, in the 8 bytes that each connection keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lease {
    /// Unix seconds: `exp` and the leeway. 32 bits reach the year 2106.
    until: u32,
    key: KeyNumber,
}

/// Why a lease has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lapse {
    /// The token has expired.
    Expired,
    /// The token's key is no longer in use.
    KeyWithdrawn,
}

impl Lease {
    /// Never ends: tokens are off.
    pub(crate) const ENDLESS: Self = Self { until: u32::MAX, key: KeyNumber::NONE };

    /// A lease of no key that ends at this unix second.
    #[cfg(test)]
    pub(crate) fn for_tests(until: u64) -> Self {
        Self::new(until, KeyNumber::NONE)
    }

    pub(super) fn new(until: u64, key: KeyNumber) -> Self {
        Self { until: u32::try_from(until).unwrap_or(u32::MAX), key }
    }
}

/// The numbers of the keys in use. Cheap to clone; clones show the same keys.
#[derive(Clone, Debug, Default)]
pub(crate) struct CurrentKeys(Arc<ArcSwap<HashSet<KeyNumber>>>);

/// The keys and the time of one check.
#[derive(Debug)]
pub(crate) struct LeaseCheck {
    keys: Arc<HashSet<KeyNumber>>,
    now: u64,
}

impl CurrentKeys {
    pub(super) fn replace(&self, keys: impl IntoIterator<Item = KeyNumber>) {
        self.0.store(Arc::new(keys.into_iter().collect()));
    }

    /// The state now, for any number of leases.
    pub(crate) fn check(&self) -> LeaseCheck {
        LeaseCheck { keys: self.0.load_full(), now: unix_seconds() }
    }

    /// Whether this one lease has ended.
    pub(crate) fn lapse(&self, lease: Lease) -> Option<Lapse> {
        self.check().lapse(lease)
    }
}

impl LeaseCheck {
    /// Whether a lease has ended, and why.
    pub(crate) fn lapse(&self, lease: Lease) -> Option<Lapse> {
        if lease == Lease::ENDLESS {
            None
        } else if u64::from(lease.until) <= self.now {
            Some(Lapse::Expired)
        } else if !self.keys.contains(&lease.key) {
            Some(Lapse::KeyWithdrawn)
        } else {
            None
        }
    }
}

/// A clock before 1970 counts as 1970: every token is valid longer then, as for any clock that is
/// slow.
pub(super) fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_takes_8_bytes() {
        assert_eq!(size_of::<Lease>(), 8);
    }

    #[test]
    fn a_lease_ends_at_its_second_or_when_its_key_is_withdrawn() {
        let current = CurrentKeys::default();
        let (key, other) = (KeyNumber(7), KeyNumber(8));
        current.replace([key]);
        let now = unix_seconds();
        let check = |now| LeaseCheck { now, ..current.check() };
        let lease = Lease::new(now + 100, key);
        assert_eq!(check(now + 99).lapse(lease), None);
        assert_eq!(check(now + 100).lapse(lease), Some(Lapse::Expired));
        assert_eq!(check(now).lapse(Lease::new(now + 100, other)), Some(Lapse::KeyWithdrawn));
        current.replace([other]);
        assert_eq!(current.lapse(lease), Some(Lapse::KeyWithdrawn));
        assert_eq!(current.lapse(Lease::ENDLESS), None);
    }

    #[test]
    fn an_expiry_after_2106_is_cut_to_it() {
        let lease = Lease::new(u64::MAX, KeyNumber(7));
        let current = CurrentKeys::default();
        current.replace([KeyNumber(7)]);
        assert_eq!(current.lapse(lease), None);
    }
}
