//! The advisory lock that says whether other servers are there.
//!
//! Servers may publish rounds of overlapping transactions in different orders. So a resume point
//! that another server may have sent is answered at least once, not exactly.
//!
//! Every server holds the lock `(7264, 10)` shared. The exclusive lock can be had exactly when nobody
//! else holds it: each poll tries that, so its answer says whether this server is alone. A start
//! never waits for the lock.
//!
//! Any role can take the lock. That costs exactness, never a round: not alone is always safe.

use std::time::{Duration, Instant};

use super::{error::CaptureError, session::Session};

/// Alone for so long without a break before resumes are answered exactly.
pub(super) const ALONE_FOR: Duration = Duration::from_secs(1);
/// Between two looks at whether others are still there.
pub(super) const RETRY_AFTER: Duration = Duration::from_millis(20);
/// Behind a pooler the locks stay in a session of the server, which the pooler may close at any time.
/// Below [`ALONE_FOR`]: another server then does not take itself to be alone.
const POOLED_EVERY: Duration = Duration::from_millis(500);

const TAKE: &str = "select pg_try_advisory_lock_shared(7264, 10)";
/// Only for a connection that holds the lock shared.
const IS_ALONE: &str = "select case when pg_try_advisory_lock(7264, 10) \
    then pg_advisory_unlock(7264, 10) else false end";

/// The lock of one connection.
#[derive(Debug, Default)]
pub(super) struct Presence {
    /// Since when this connection holds the lock; never behind a pooler.
    held_since: Option<Instant>,
    tried: Option<Instant>,
}

impl Presence {
    /// Takes the lock if it could not be had before, and behind a pooler from time to time; to be
    /// called before each poll. Returns whether it tried.
    pub(super) async fn renew(&mut self, session: &Session) -> Result<bool, CaptureError> {
        let is_due = match session.is_own() {
            true => self.held_since.is_none(),
            false => self.tried.is_none_or(|last| last.elapsed() > POOLED_EVERY),
        };
        if is_due {
            let is_held = session.flag(TAKE).await? && session.is_own();
            self.tried = Some(Instant::now());
            self.held_since = self.tried.filter(|_| is_held);
        }
        Ok(is_due)
    }

    /// Since when this connection holds the lock.
    pub(super) fn held_since(&self) -> Option<Instant> {
        self.held_since
    }

    /// Whether the answer of a poll that nobody else holds the lock means that no other server is
    /// there.
    pub(super) fn confirms(&self, alone: bool) -> bool {
        alone && self.held_since.is_some()
    }

    /// Asks whether this server is alone, without a poll.
    pub(super) async fn ask(&self, session: &Session) -> Result<bool, CaptureError> {
        Ok(self.held_since.is_some() && session.flag(IS_ALONE).await?)
    }
}
