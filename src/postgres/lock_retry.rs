//! DDL beside a running game: what PostgreSQL refused, and patience while somebody else holds a
//! lock.

use std::fmt;

use sqlx::postgres::PgDatabaseError;

use super::connection::{code, reason};
use crate::{ops::backoff::Backoff, postgres::target::advice};

/// Each attempt takes the lock's timeout of two seconds, and up to a second goes by between two:
/// half a minute of trying, during which the game's own transactions get their turn.
const ATTEMPTS: u32 = 10;

/// A statement that PostgreSQL refused: what it said, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub(crate) struct Refusal {
    code: Option<String>,
    message: String,
    hint: Option<String>,
}

/// An error behind which another session's lock may be.
pub(crate) trait Contention: fmt::Display {
    /// What PostgreSQL refused, if that was it.
    fn refusal(&self) -> Option<&Refusal>;

    /// Whether somebody else held a lock: lock_not_available, deadlock_detected.
    fn is_contention(&self) -> bool {
        let code = self.refusal().and_then(|refusal| refusal.code.as_deref());
        matches!(code, Some("55P03" | "40P01"))
    }
}

/// Runs the task until no lock is in its way, at most ten times.
pub(crate) async fn with_lock_retries<T, E: Contention>(
    mut task: impl AsyncFnMut() -> Result<T, E>,
) -> Result<T, E> {
    let mut backoff = Backoff::default();
    for attempt in 1..ATTEMPTS {
        match task().await {
            Err(error) if error.is_contention() => {
                tracing::warn!("attempt {attempt} of {ATTEMPTS}: {error}");
                tokio::time::sleep(backoff.delay()).await;
            }
            outcome => return outcome,
        }
    }
    task().await
}

impl From<&sqlx::Error> for Refusal {
    fn from(error: &sqlx::Error) -> Self {
        let said = error.as_database_error();
        let said = said.and_then(|said| said.try_downcast_ref::<PgDatabaseError>());
        let hint = said.and_then(PgDatabaseError::hint).map(str::to_owned);
        Self { code: code(error), message: reason(error), hint }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match self.hint.as_deref().or_else(|| advice(self.code.as_deref()?)) {
            Some(hint) => write!(f, " ({hint})"),
            None => Ok(()),
        }
    }
}
