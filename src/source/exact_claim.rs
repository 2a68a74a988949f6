//! Whether this server may answer resumes exactly. An advisory lock and a row say so.
//!
//! * [Presence](super::presence): a lock says whether this server is alone.
//! * **The exact server**: a server that answers resumes exactly has its number in a
//!   [row](super::exact_server). A newcomer takes presence, wakes all servers by an empty
//!   notification, and serves once the row has no number of another: by then nobody answers exactly.
//!
//! Any role can take the lock. If that hides a server from another one, the row shows it: a server
//! that serves removes another's number.

use std::time::{Duration, Instant};

use super::{
    error::CaptureError,
    exact_server::{Holder, LEASE, OtherLease, ServerName},
    presence::{ALONE_FOR, Presence, RETRY_AFTER},
    session::Session,
};

/// How long to be alone after a server that this one did not see removed its number.
const UNSEEN_FOR: Duration = Duration::from_secs(60);
/// Another session that holds presence may be about to end. Those of this server, and of a former leader,
/// have ended already if they are known.
const FORMER_ENDS_WITHIN: Duration = Duration::from_millis(100);
/// A server with a connection notices another one within its longest time between two polls, 0.25 s.
const NOTICES_WITHIN: Duration = Duration::from_millis(300);

/// What the answer of a poll says of other servers.
#[derive(Clone, Copy, Debug)]
pub(super) struct OtherServers {
    /// When the poll was sent.
    pub(super) asked: Instant,
    /// Whether nobody else held presence.
    pub(super) alone: bool,
    /// The number in the row.
    pub(super) exact_server: Option<i64>,
}

/// How this server stands to others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Others may publish the same rounds.
    Shared {
        /// Since when each poll has found this server alone.
        alone_since: Option<Instant>,
    },
    /// The number is in the row; the rounds that others may have sent are not all published yet.
    Claimed,
    /// The number is in the row, and resumes are answered exactly.
    Alone,
}

const SHARED: State = State::Shared { alone_since: None };

/// How a server publishes, and so when it takes presence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClaimKind {
    /// It serves beside others, or waits for them: from the begin of the connection.
    Server,
    /// It leads the log: from its claim on. Nodes that stand by publish nothing.
    Leader,
}

/// Presence and the row, on one connection.
#[derive(Debug)]
pub(super) struct ExactClaim {
    server: ServerName,
    presence: Presence,
    state: State,
    /// Whether the number belongs in the row. Behind a bus the log decides who leads: a successor need
    /// not wait for a lease.
    writes: bool,
    /// Whether the row may have the number of this server.
    is_named: bool,
    /// How long to be alone before the next claim.
    patience: Duration,
    /// When the last poll was sent.
    last_asked: Option<Instant>,
}

impl ExactClaim {
    /// Takes presence on a new connection. Behind a bus, presence is taken before the first round is
    /// published, and no row is written.
    pub(super) async fn start(
        server: ServerName,
        kind: ClaimKind,
        session: &Session,
    ) -> Result<Self, CaptureError> {
        let mut claim = Self {
            server,
            presence: Presence::default(),
            state: SHARED,
            writes: kind == ClaimKind::Server,
            is_named: false,
            patience: ALONE_FOR,
            last_asked: None,
        };
        if kind == ClaimKind::Server {
            claim.renew(session).await?;
        }
        Ok(claim)
    }

    /// Takes presence if it could not be had before; to be called before each poll.
    pub(super) async fn renew(&mut self, session: &Session) -> Result<(), CaptureError> {
        self.presence.renew(session).await.map(drop)
    }

    /// Whether the answer of a poll means that no other server is there.
    fn is_alone(&self, others: OtherServers) -> bool {
        self.presence.confirms(others.alone)
    }

    /// Until when resumes may be answered exactly by the answer of a poll; `None` if other servers
    /// may publish the same rounds.
    pub(super) fn exact_until(&self, others: OtherServers) -> Option<Instant> {
        let is_claimed = matches!(self.state, State::Claimed | State::Alone);
        let is_in_row = match self.writes {
            true => self.server.is(others.exact_server),
            false => others.exact_server.is_none(),
        };
        let is_exact = is_claimed && self.is_alone(others) && is_in_row;
        is_exact.then(|| others.asked + LEASE)
    }

    /// Notes the answer of a poll before its rounds are published. Unless [`Self::exact_until`] has a
    /// time, the hub must know before that others may have sent them.
    pub(super) async fn before_rounds(
        &mut self,
        others: OtherServers,
        session: &Session,
    ) -> Result<(), CaptureError> {
        let before = self.last_asked.replace(others.asked);
        if self.exact_until(others).is_some() {
            return Ok(());
        }
        if !self.is_alone(others) {
            self.state = SHARED;
            self.leave(session).await?;
        } else if matches!(self.state, State::Claimed | State::Alone) {
            // Another server removed the number. It has waited, unless no poll could have seen it.
            let is_unseen = before.is_some_and(|last| others.asked - last < NOTICES_WITHIN);
            self.patience = if is_unseen { UNSEEN_FOR } else { ALONE_FOR };
            (self.state, self.is_named) = (SHARED, false);
        }
        match others.exact_server {
            // Its server does not see this one, or has ended.
            Some(number) if !self.server.is(Some(number)) => {
                self.server.remove_other(session, number, OtherLease::Unknown).await
            }
            _ => Ok(()),
        }
    }

    /// Removes the number of this server, after the hub has stopped to answer exactly.
    pub(super) async fn leave(&mut self, session: &Session) -> Result<(), CaptureError> {
        if std::mem::take(&mut self.is_named) {
            self.server.remove(session).await?;
        }
        Ok(())
    }

    /// Notes that the rounds of a poll are published. Returns whether resume points from now on are
    /// answered exactly.
    pub(super) async fn after_rounds(
        &mut self,
        others: OtherServers,
        session: &Session,
    ) -> Result<bool, CaptureError> {
        match self.state {
            _ if !self.is_alone(others) => {}
            State::Shared { alone_since: None } => {
                self.state = State::Shared { alone_since: Some(Instant::now()) };
            }
            State::Shared { alone_since: Some(since) } => {
                let is_patient = since.elapsed() > self.patience;
                if is_patient && self.server.lease_of_others().is_zero() {
                    self.claim(session).await?;
                }
            }
            State::Claimed => self.state = State::Alone,
            State::Alone => {}
        }
        Ok(self.state == State::Alone)
    }

    /// Tries to write the number. The next poll must find this server alone again: a newcomer that
    /// came before the number did not wait.
    async fn claim(&mut self, session: &Session) -> Result<bool, CaptureError> {
        if !self.writes {
            self.state = State::Claimed;
            return Ok(true);
        }
        if !self.is_named {
            // A write that fails half-way may have reached the row.
            self.is_named = true;
            self.is_named = self.server.write(session).await?;
        }
        self.state = if self.is_named { State::Claimed } else { SHARED };
        Ok(self.is_named)
    }

    /// Before a catch-up publishes: waits until no other server answers exactly. Returns whether this
    /// one does: if it is alone, and the row still has its number, or `is_new`. A server that comes
    /// back and finds no number has had others beside it: they may come back too.
    pub(super) async fn claim_or_wait(
        &mut self,
        session: &Session,
        is_new: bool,
    ) -> Result<bool, CaptureError> {
        let begun = Instant::now();
        loop {
            self.renew(session).await?;
            let holder = self.server.holder(session).await?;
            if let Holder::Another { number, has_ended } = holder {
                self.replace(number, has_ended, session).await?;
                continue;
            }
            let lease = self.server.lease_of_others();
            if lease > Duration::ZERO {
                tracing::info!(?lease, "waiting: another server may still answer resumes exactly");
                tokio::time::sleep(lease).await;
                continue;
            }
            self.is_named = holder == Holder::This;
            let is_former = self.is_named || !self.writes;
            if (is_new || is_former)
                && self.presence.ask(session).await?
                && self.claim(session).await?
            {
                return Ok(true);
            }
            if !is_former || begun.elapsed() > FORMER_ENDS_WITHIN {
                return Ok(false);
            }
            tokio::time::sleep(RETRY_AFTER).await;
        }
    }

    /// Removes the number of another server, if that one does not do so itself.
    async fn replace(
        &self,
        number: i64,
        has_ended: bool,
        session: &Session,
    ) -> Result<(), CaptureError> {
        let lease = match self.presence.held_since() {
            _ if has_ended => OtherLease::Ended,
            Some(since) if since.elapsed() < NOTICES_WITHIN => {
                tokio::time::sleep(RETRY_AFTER).await;
                return Ok(());
            }
            Some(since) => OtherLease::Begun(since),
            None => OtherLease::Unknown,
        };
        self.server.remove_other(session, number, lease).await
    }
}
