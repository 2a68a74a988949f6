//! Other servers in the read-only mode, told by two advisory locks: it has no
//! [row](super::exact_server).
//!
//! Servers may publish rounds of overlapping transactions in different orders. So a resume point
//! that another server may have sent is answered at least once, not exactly.
//!
//! * **Presence** `(7264, 10)`: every server holds it shared. The exclusive lock can be had exactly
//!   when nobody else holds it: each poll tries that, so its answer says whether this server is
//!   alone. A start never waits for it.
//! * **Solo** `(7264, 11)`: a server holds it exclusively while it answers resumes exactly, and
//!   shared while it is not alone. A newcomer takes presence, wakes all servers by an empty
//!   notification, and serves once it has solo shared: by then nobody answers exactly.
//!
//! A server that has lost its connection goes on answering exactly: nobody can tell it whether another
//! one has started meanwhile. If one has, it learns so before it publishes again.
//!
//! Any role can take these locks. That costs exactness, never a round: not alone is always safe.

use std::time::{Duration, Instant};

use super::{error::CaptureError, session::Session};

/// Alone for so long without a break before resumes are answered exactly.
const ALONE_FOR: Duration = Duration::from_secs(1);
/// A newcomer serves after this time, even if another session holds solo. A server that answers
/// exactly polls at least every 250 ms.
const NEWCOMER_WAITS: Duration = Duration::from_secs(3);
/// The same for a server that comes back: its streams are open, and no round may be 1 s late.
const RETURNING_WAITS: Duration = Duration::from_millis(700);
/// Between two tries for solo.
const RETRY_AFTER: Duration = Duration::from_millis(20);
/// Behind a pooler the locks stay in a session of the server, which the pooler may close at any time.
/// Below [`ALONE_FOR`]: another server then does not take itself to be alone.
const POOLED_EVERY: Duration = Duration::from_millis(500);

const TAKE_PRESENCE: &str = "select pg_try_advisory_lock_shared(7264, 10)";
const SHARE_SOLO: &str = "select pg_try_advisory_lock_shared(7264, 11)";
const TAKE_SOLO: &str = "select pg_try_advisory_lock(7264, 11)";
const RELEASE_SOLO: &str = "select pg_advisory_unlock(7264, 11)";
const UNSHARE_SOLO: &str = "select pg_advisory_unlock_shared(7264, 11)";
/// Only for a connection that holds presence shared.
const IS_ALONE: &str = "select case when pg_try_advisory_lock(7264, 10) \
    then pg_advisory_unlock(7264, 10) else false end";

/// How this server stands to others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Others may publish the same rounds.
    Shared {
        /// Since when each poll has found this server alone.
        alone_since: Option<Instant>,
        /// Whether solo is held, shared.
        has_solo: bool,
    },
    /// Solo is held exclusively; the rounds that others may have sent are not all published yet.
    Claimed,
    /// Solo is held exclusively, and resumes are answered exactly.
    Alone,
}

const SHARED: State = State::Shared { alone_since: None, has_solo: false };

/// The locks of one connection.
#[derive(Debug)]
pub(super) struct Presence {
    is_present: bool,
    taken: Option<Instant>,
    state: State,
}

impl Presence {
    /// Takes presence on a new connection.
    pub(super) async fn start(session: &Session) -> Result<Self, CaptureError> {
        let mut presence = Self { is_present: false, taken: None, state: SHARED };
        presence.renew(session).await?;
        Ok(presence)
    }

    /// Takes presence if it could not be had before; to be called before each poll.
    pub(super) async fn renew(&mut self, session: &Session) -> Result<(), CaptureError> {
        let is_due = match session.is_own() {
            true => !self.is_present,
            false => self.taken.is_none_or(|last| last.elapsed() > POOLED_EVERY),
        };
        if is_due {
            self.is_present = session.flag(TAKE_PRESENCE).await? && session.is_own();
            self.taken = Some(Instant::now());
            if !session.is_own() {
                session.flag(SHARE_SOLO).await?;
            }
        }
        Ok(())
    }

    /// Whether a poll's `alone` means that no other server is there.
    pub(super) fn is_alone(&self, alone: bool) -> bool {
        alone && self.is_present
    }

    /// Asks whether this server is alone, without a poll.
    pub(super) async fn ask(&self, session: &Session) -> Result<bool, CaptureError> {
        Ok(self.is_present && session.flag(IS_ALONE).await?)
    }

    /// Whether solo is held exclusively, and a poll's `alone` leaves that so.
    pub(super) fn has_claimed(&self, alone: bool) -> bool {
        matches!(self.state, State::Claimed | State::Alone) && self.is_alone(alone)
    }

    /// Notes a poll's `alone` before its rounds are published. Unless [`Self::has_claimed`], the
    /// hub must know before that others may have sent them.
    pub(super) async fn before_rounds(
        &mut self,
        alone: bool,
        session: &Session,
    ) -> Result<(), CaptureError> {
        if self.is_alone(alone) {
            return Ok(());
        }
        if matches!(self.state, State::Claimed | State::Alone) {
            session.flag(RELEASE_SOLO).await?;
            self.state = SHARED;
        }
        let has_solo = match self.state {
            State::Shared { has_solo: true, .. } => true,
            _ => session.flag(SHARE_SOLO).await?,
        };
        self.state = State::Shared { alone_since: None, has_solo };
        Ok(())
    }

    /// Notes that the rounds of a poll that found this server alone, or not, are published. Returns
    /// whether resume points from now on are answered exactly.
    pub(super) async fn after_rounds(
        &mut self,
        alone: bool,
        session: &Session,
    ) -> Result<bool, CaptureError> {
        match self.state {
            _ if !self.is_alone(alone) => {}
            State::Shared { alone_since: None, has_solo } => {
                self.state = State::Shared { alone_since: Some(Instant::now()), has_solo };
            }
            State::Shared { alone_since: Some(since), has_solo } => {
                if since.elapsed() > ALONE_FOR {
                    self.claim(has_solo, session).await?;
                }
            }
            State::Claimed => self.state = State::Alone,
            State::Alone => {}
        }
        Ok(self.state == State::Alone)
    }

    /// Tries to take solo exclusively.
    async fn claim(&mut self, has_solo: bool, session: &Session) -> Result<(), CaptureError> {
        if has_solo {
            session.flag(UNSHARE_SOLO).await?;
        }
        self.state = match session.flag(TAKE_SOLO).await? {
            true => State::Claimed,
            false => SHARED,
        };
        Ok(())
    }

    /// Before a catch-up publishes: takes solo at once if this server is alone, else waits until
    /// nobody answers exactly any more. Returns whether solo is held exclusively.
    pub(super) async fn claim_or_wait(
        &mut self,
        session: &Session,
        is_first: bool,
    ) -> Result<bool, CaptureError> {
        let patience = if is_first { NEWCOMER_WAITS } else { RETURNING_WAITS };
        let begun = Instant::now();
        while !self.try_claim(session).await? && begun.elapsed() < patience {
            tokio::time::sleep(RETRY_AFTER).await;
        }
        Ok(self.state == State::Claimed)
    }

    /// Returns whether solo is held, exclusively or shared.
    async fn try_claim(&mut self, session: &Session) -> Result<bool, CaptureError> {
        self.renew(session).await?;
        let State::Shared { has_solo, .. } = self.state else { return Ok(true) };
        if !has_solo && !self.ask(session).await? {
            let has_solo = session.flag(SHARE_SOLO).await?;
            self.state = State::Shared { alone_since: None, has_solo };
        }
        // This server's former backend may have ended between the two.
        if let State::Shared { has_solo, .. } = self.state
            && self.ask(session).await?
        {
            self.claim(has_solo, session).await?;
        }
        Ok(!matches!(self.state, State::Shared { has_solo: false, .. }))
    }
}
