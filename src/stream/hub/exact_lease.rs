//! Until when the hub answers resume points exactly.
//!
//! A process that streams a database alone answers exactly. One that has lost its connection cannot
//! know whether it is still alone: its answers are at least once after a while.

use std::time::Instant;

use super::Publisher;

/// The time up to which this process is alone for certain.
#[derive(Clone, Copy, Debug, Default)]
pub(super) enum ExactLease {
    /// No time limit: only what others have sent decides. So in the read-only mode and on edges.
    #[default]
    Endless,
    /// Another one waits until this time.
    Until(Instant),
}

impl ExactLease {
    pub(super) fn holds(self) -> bool {
        match self {
            Self::Endless => true,
            Self::Until(end) => Instant::now() < end,
        }
    }
}

impl Publisher {
    /// Answers resume points exactly until this time, and at least once afterwards.
    pub fn answer_exactly_until(&self, end: Instant) {
        self.0.recent().lease = ExactLease::Until(end);
    }
}
