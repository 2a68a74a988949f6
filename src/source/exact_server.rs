//! The row that names the server which answers resumes exactly.
//!
//! [Presence](super::presence) ends with the connection to the database, and a server answers its
//! clients without one. The row stays, so:
//!
//! * A server answers exactly only while the row has its number: it writes the number first, and
//!   removes it before other servers may serve.
//! * It does so for at most [`LEASE`] after the start of the last poll that found it alone and its
//!   number in the row.
//! * A server that finds another's number removes it, and serves once the lease of that server has
//!   ended. It does not wait for a process of this machine that has ended.
//! * A server that finds its own number on a new connection knows that no other has served meanwhile.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use tokio_postgres::types::Type;

use super::{
    error::CaptureError,
    session::{ANSWER_WITHIN, Parameter, Session, within},
};
use crate::{ops::process_name::ProcessName, postgres::sql::sql};

/// How long after a poll a server answers exactly. A quiet server polls every 0.25 s, and misses the
/// lease only if the database is away. Another server waits at most this long.
pub(super) const LEASE: Duration = Duration::from_secs(2);

/// This process, as the row names it.
#[derive(Clone, Debug)]
pub(super) struct ServerName {
    number: i64,
    process: Option<String>,
    /// Until then, a server whose number we removed may still answer exactly. Reconnects keep this
    /// value.
    leased_until: Arc<Mutex<Option<Instant>>>,
}

/// Whom the row names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holder {
    /// No server.
    Nobody,
    /// This process.
    This,
    /// Another process.
    Another {
        /// Its number.
        number: i64,
        /// Whether it is known to have ended: it answers nobody.
        has_ended: bool,
    },
}

/// When the lease of another server began.
#[derive(Clone, Copy, Debug)]
pub(super) enum OtherLease {
    /// The process has ended.
    Ended,
    /// At this time or earlier: no later poll has found that server alone.
    Begun(Instant),
    /// Before its number is removed.
    Unknown,
}

impl ServerName {
    /// With a number of its own.
    pub(super) fn of_this_process() -> Self {
        let process = ProcessName::of_this().map(|process| process.to_string());
        Self { number: fastrand::i64(1..), process, leased_until: Arc::default() }
    }

    /// Whether this is the number in the row.
    pub(super) fn is(&self, number: Option<i64>) -> bool {
        number == Some(self.number)
    }

    /// Whom the row names.
    pub(super) async fn holder(&self, session: &Session) -> Result<Holder, CaptureError> {
        let answer = session.query(sql!("exact_server"), &[]);
        let rows = within(ANSWER_WITHIN, answer).await?;
        // Without the row nobody can write a number.
        let Some(row) = rows.first() else { return Ok(Holder::Nobody) };
        let Some(number) = row.try_get("server")? else { return Ok(Holder::Nobody) };
        if number == self.number {
            return Ok(Holder::This);
        }
        let process = row.try_get::<_, Option<&str>>("process")?.map(str::parse::<ProcessName>);
        let has_ended = matches!(process, Some(Ok(process)) if process.has_ended());
        Ok(Holder::Another { number, has_ended })
    }

    /// Writes the number if no other is there. Returns whether it is there.
    pub(super) async fn write(&self, session: &Session) -> Result<bool, CaptureError> {
        let parameters: [Parameter<'_>; 2] =
            [(&self.number, Type::INT8), (&self.process, Type::TEXT)];
        change(session, sql!("take_exact_server"), &parameters).await
    }

    /// Removes another server's number. That one may go on to answer exactly for the rest of its
    /// lease.
    pub(super) async fn remove_other(
        &self,
        session: &Session,
        number: i64,
        lease: OtherLease,
    ) -> Result<(), CaptureError> {
        remove(session, number).await?;
        let until = match lease {
            OtherLease::Ended => return Ok(()),
            OtherLease::Begun(latest) => latest + LEASE,
            OtherLease::Unknown => Instant::now() + LEASE,
        };
        let mut leased_until = self.leased_until.lock();
        *leased_until = (*leased_until).max(Some(until));
        Ok(())
    }

    /// The time until no removed server can answer exactly.
    pub(super) fn lease_of_others(&self) -> Duration {
        let until = *self.leased_until.lock();
        until.map_or(Duration::ZERO, |until| until.saturating_duration_since(Instant::now()))
    }

    /// Removes the number.
    pub(super) async fn remove(&self, session: &Session) -> Result<(), CaptureError> {
        remove(session, self.number).await
    }
}

/// Removes a number, unless the row has another.
async fn remove(session: &Session, number: i64) -> Result<(), CaptureError> {
    let parameters: [Parameter<'_>; 1] = [(&number, Type::INT8)];
    change(session, sql!("leave_exact_server"), &parameters).await.map(drop)
}

/// Returns whether the row was changed. One that is locked is not.
async fn change(
    session: &Session,
    sql: &str,
    parameters: &[Parameter<'_>],
) -> Result<bool, CaptureError> {
    match within(ANSWER_WITHIN, session.query(sql, parameters)).await {
        Ok(rows) => Ok(!rows.is_empty()),
        Err(error) if error.is_lock_timeout() => Ok(false),
        Err(error) => Err(error),
    }
}
