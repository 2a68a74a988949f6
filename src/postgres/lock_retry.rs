//! DDL while a game runs: retries after lock timeouts, and PostgreSQL's errors with a remedy.

use std::fmt;

use sqlx::postgres::PgDatabaseError;

use super::{
    connection::{code, reason},
    sqlstate::{DEADLOCK, LOCK_NOT_AVAILABLE},
};
use crate::{ops::backoff::Backoff, postgres::target::advice};

/// Each attempt takes at most the lock timeout of two seconds, with up to a second between two.
/// That is half a minute, in which the game's transactions run between the attempts.
const ATTEMPTS: u32 = 10;

/// A statement that PostgreSQL refused, with its message and its hint.
#[derive(Debug, thiserror::Error)]
pub(crate) struct StatementRefusal {
    code: Option<String>,
    message: String,
    hint: Option<String>,
}

/// An error that another session's lock may have caused.
pub(crate) trait Contention: fmt::Display {
    /// PostgreSQL's error, if it is one.
    fn refusal(&self) -> Option<&StatementRefusal>;

    /// Whether another session held a lock.
    fn is_contention(&self) -> bool {
        let code = self.refusal().and_then(|refusal| refusal.code.as_deref());
        matches!(code, Some(LOCK_NOT_AVAILABLE | DEADLOCK))
    }
}

/// Runs the task again after a lock timeout or deadlock, at most ten times.
pub(crate) async fn with_lock_retries<T, E: Contention>(
    mut task: impl AsyncFnMut() -> Result<T, E>,
) -> Result<T, E> {
    let mut backoff = Backoff::default();
    for attempt in 1..ATTEMPTS {
        match task().await {
            Err(error) if error.is_contention() => {
                tracing::warn!("attempt {attempt} of {ATTEMPTS} failed, retrying: {error}");
                tokio::time::sleep(backoff.delay()).await;
            }
            outcome => return outcome,
        }
    }
    task().await
}

impl From<&sqlx::Error> for StatementRefusal {
    fn from(error: &sqlx::Error) -> Self {
        let said = error.as_database_error();
        let said = said.and_then(|said| said.try_downcast_ref::<PgDatabaseError>());
        let hint = said.and_then(PgDatabaseError::hint).map(str::to_owned);
        Self { code: code(error), message: reason(error), hint }
    }
}

impl fmt::Display for StatementRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match self.hint.as_deref().or_else(|| advice(self.code.as_deref()?)) {
            Some(hint) => write!(f, ". {hint}"),
            None => Ok(()),
        }
    }
}
