//! Whether this server may answer resumes exactly in the read-only mode. Two advisory locks say so:
//! there is no [row](crate::source::exact_server) of this server.
//!
//! * [Presence](crate::source::presence) `(7264, 10)` says whether this server is alone.
//! * **Solo** `(7264, 11)`: a server holds it exclusively while it answers resumes exactly, and
//!   shared while it is not alone. A newcomer takes presence, wakes all servers by an empty
//!   notification, and serves once it has solo shared: by then nobody answers exactly.
//!
//! A server that has lost its connection goes on answering exactly: nobody can tell it whether another
//! one has started meanwhile. If one has, it learns so before it publishes again.
//!
//! Any role can take these locks. That costs exactness, never a round: not alone is always safe.

use std::time::{Duration, Instant};

use crate::source::{
    error::CaptureError,
    presence::{ALONE_FOR, Presence, RETRY_AFTER},
    session::Session,
};

/// A newcomer serves after this time, even if another session holds solo. A server that answers
/// exactly polls at least every 250 ms.
const NEWCOMER_WAITS: Duration = Duration::from_secs(3);

const SHARE_SOLO: &str = "select pg_try_advisory_lock_shared(7264, 11)";
const TAKE_SOLO: &str = "select pg_try_advisory_lock(7264, 11)";
const RELEASE_SOLO: &str = "select pg_advisory_unlock(7264, 11)";
const UNSHARE_SOLO: &str = "select pg_advisory_unlock_shared(7264, 11)";

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
pub(super) struct SoloClaim {
    presence: Presence,
    state: State,
}

impl SoloClaim {
    /// Takes presence on a new connection.
    pub(super) async fn start(session: &Session) -> Result<Self, CaptureError> {
        let mut claim = Self { presence: Presence::default(), state: SHARED };
        claim.renew(session).await?;
        Ok(claim)
    }

    /// Takes presence if it could not be had before; to be called before each poll.
    pub(super) async fn renew(&mut self, session: &Session) -> Result<(), CaptureError> {
        if self.presence.renew(session).await? && !session.is_own() {
            session.flag(SHARE_SOLO).await?;
        }
        Ok(())
    }

    /// Asks whether this server is alone, without a poll.
    pub(super) async fn ask(&self, session: &Session) -> Result<bool, CaptureError> {
        self.presence.ask(session).await
    }

    /// Whether solo is held exclusively, and a poll's `alone` leaves that so.
    pub(super) fn has_claimed(&self, alone: bool) -> bool {
        matches!(self.state, State::Claimed | State::Alone) && self.presence.confirms(alone)
    }

    /// Notes a poll's `alone` before its rounds are published. Unless [`Self::has_claimed`], the
    /// hub must know before that others may have sent them.
    pub(super) async fn before_rounds(
        &mut self,
        alone: bool,
        session: &Session,
    ) -> Result<(), CaptureError> {
        if self.presence.confirms(alone) {
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
            _ if !self.presence.confirms(alone) => {}
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
    /// nobody answers exactly any more.
    pub(super) async fn claim_or_wait(&mut self, session: &Session) -> Result<(), CaptureError> {
        let begun = Instant::now();
        while !self.try_claim(session).await? && begun.elapsed() < NEWCOMER_WAITS {
            tokio::time::sleep(RETRY_AFTER).await;
        }
        Ok(())
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
