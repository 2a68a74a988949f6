//! PostgreSQL's snapshots: which transactions had committed or rolled back at some time.
//!
//! Text form `xmin:xmax:xip,xip…` (PostgreSQL, "pg_snapshot components"): transactions before `xmin`
//! had ended, those from `xmax` on had not begun, those in `xip` were running.

use std::{fmt, str::FromStr};

use crate::stream::transaction::Xid;

/// A `pg_snapshot`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Snapshot {
    xmin: u64,
    xmax: u64,
    /// Sorted.
    running: Vec<u64>,
}

/// The text is not a snapshot.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a snapshot of the form xmin:xmax:xip")]
pub struct NotASnapshot;

impl Snapshot {
    /// Whether the transaction had ended when the snapshot was taken.
    pub(crate) fn sees(&self, Xid(xid): Xid) -> bool {
        xid < self.xmin || (xid < self.xmax && self.running.binary_search(&xid).is_err())
    }

    /// The oldest transaction that was running.
    pub(crate) fn xmin(&self) -> Xid {
        Xid(self.xmin)
    }

    /// The first transaction that had not begun.
    pub(crate) fn xmax(&self) -> Xid {
        Xid(self.xmax)
    }

    /// The same, as if no transaction from `end` on had begun.
    pub(crate) fn before(&self, Xid(end): Xid) -> Self {
        let xmax = self.xmax.min(end);
        let running = self.running.iter().copied().filter(|xid| *xid < xmax).collect();
        Self { xmin: self.xmin.min(xmax), xmax, running }
    }

    /// Whether it knows of fewer transactions: on one timeline a later snapshot never does.
    pub(crate) fn is_before(&self, other: &Self) -> bool {
        self.xmax < other.xmax
    }
}

impl FromStr for Snapshot {
    type Err = NotASnapshot;

    fn from_str(text: &str) -> Result<Self, NotASnapshot> {
        let number = |part: &str| part.parse::<u64>().map_err(|_| NotASnapshot);
        let mut parts = text.splitn(3, ':');
        let mut part = || parts.next().ok_or(NotASnapshot);
        let (xmin, xmax, list) = (number(part()?)?, number(part()?)?, part()?);
        let items = list.split(',').filter(|_| !list.is_empty());
        let running: Vec<u64> = items.map(number).collect::<Result<_, _>>()?;
        let ordered = xmin <= xmax
            && running.is_sorted_by(|a, b| a < b)
            && running.iter().all(|xid| (xmin..xmax).contains(xid));
        ordered.then_some(Self { xmin, xmax, running }).ok_or(NotASnapshot)
    }
}

impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:", self.xmin, self.xmax)?;
        for (index, xid) in self.running.iter().enumerate() {
            write!(f, "{}{xid}", if index == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn snapshot(text: &str) -> Snapshot {
        text.parse().expect("a snapshot")
    }

    #[test]
    fn a_snapshot_sees_the_ended_transactions_and_no_others() {
        let snapshot = snapshot("777:782:777,780");
        let seen: Vec<u64> = (775..784).filter(|&xid| snapshot.sees(Xid(xid))).collect();
        assert_eq!(seen, [775, 776, 778, 779, 781]);
    }

    #[test]
    fn a_snapshot_can_be_limited_to_older_transactions() {
        let snapshot = snapshot("777:782:777,780");
        assert_eq!(snapshot.before(Xid(780)).to_string(), "777:780:777");
        assert_eq!(snapshot.before(Xid(770)).to_string(), "770:770:");
        assert_eq!(snapshot.before(Xid(900)), snapshot);
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["", "1", "1:2", "1:2:3", "2:1:", "1:5:3,2", "1:5:a", "-1:5:", "1:5:2,"] {
            assert_eq!(text.parse::<Snapshot>(), Err(NotASnapshot), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn a_snapshot_is_printed_as_it_was_read(
            xmin in 0_u64..1000,
            running in prop::collection::btree_set(0_u64..50, 0..8),
        ) {
            let running: Vec<String> = running.iter().map(|xid| (xmin + xid).to_string()).collect();
            let text = format!("{xmin}:{}:{}", xmin + 50, running.join(","));
            prop_assert_eq!(snapshot(&text).to_string(), text);
        }
    }
}
