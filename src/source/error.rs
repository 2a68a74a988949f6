//! Why the capture cannot go on, and whether waiting may fix it.

use std::time::Duration;

use tokio_postgres::error::SqlState;

use crate::{
    postgres::{client::ConnectError, sqlstate},
    stream::{bus::AppendError, snapshot::NotASnapshot},
};

/// Why the capture cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// No connection to the database.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The session ended, or the server refused a query.
    #[error("{}", describe(.0))]
    Database(#[source] tokio_postgres::Error),
    /// The connection ended by itself.
    #[error("the connection was closed")]
    Closed,
    /// No answer in time.
    #[error("the database did not answer within {} s", .0.as_secs())]
    Silent(Duration),
    /// Retention deleted outbox rows that had not been read.
    #[error(
        "unread outbox rows were deleted by retention. Recovering rounds by finished_at. Increase \
             DATASTREAM_RETENTION."
    )]
    Trimmed,
    /// The text of a snapshot cannot be parsed.
    #[error("the database sent a value that is {0}")]
    Snapshot(#[from] NotASnapshot),
    /// LISTEN does not work on a standby.
    #[error(
        "the database is a standby (in recovery), which does not support LISTEN. \
             Set DATASTREAM_LISTEN_URL to the primary, or add target_session_attrs=read-write."
    )]
    Standby,
    /// The schema does not exist.
    #[error("the database has no schema datastream. Run: datastream migrate")]
    NoSchema,
    /// The log on the bus cannot be written.
    #[error(transparent)]
    Bus(#[from] AppendError),
    /// Part of the schema was dropped or changed.
    #[error("the schema datastream is not complete ({0}). Run: datastream doctor")]
    OtherSchema(String),
    /// The schema has other migrations than this program knows.
    #[error("{0}")]
    SchemaVersion(String),
    /// The operator's queries do not return the columns that the read-only mode needs.
    #[error(
        "cannot use DATASTREAM_READ_ONLY_ROUNDS or DATASTREAM_READ_ONLY_GAMES: {0}. Correct the query."
    )]
    Query(String),
    /// The schema exists, but no table is attached.
    #[error(
        "no table is attached. Run: datastream attach --table … (or datastream migrate, \
             if the game's table is public.rounds)"
    )]
    NothingAttached,
}

impl From<tokio_postgres::Error> for CaptureError {
    fn from(error: tokio_postgres::Error) -> Self {
        const MISSING: [SqlState; 4] = [
            SqlState::UNDEFINED_TABLE,
            SqlState::UNDEFINED_FUNCTION,
            SqlState::UNDEFINED_COLUMN,
            SqlState::INVALID_SCHEMA_NAME,
        ];
        match error.as_db_error() {
            Some(db) if MISSING.contains(db.code()) => Self::OtherSchema(db.message().to_owned()),
            _ => Self::Database(error),
        }
    }
}

fn describe(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        // The statement timeout is a minute: the initial load reads the latest round of each game.
        Some(db) if *db.code() == SqlState::QUERY_CANCELED => format!(
            "the database canceled a query: {}. The index for seeds may be missing. Run: datastream \
             doctor",
            db.message()
        ),
        Some(db) if *db.code() == SqlState::INSUFFICIENT_PRIVILEGE => format!(
            "the database refused: {} (SQLSTATE 42501). Run: datastream doctor",
            db.message()
        ),
        Some(db) => {
            format!("the database refused: {} (SQLSTATE {})", db.message(), db.code().code())
        }
        None => format!("the connection to the database broke: {error}"),
    }
}

impl CaptureError {
    /// Whether waiting cannot fix it, as with a wrong database or role.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Standby
            | Self::NoSchema
            | Self::OtherSchema(_)
            | Self::SchemaVersion(_)
            | Self::NothingAttached
            | Self::Query(_) => true,
            Self::Database(error) => error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE),
            Self::Connect(error) => error.is_final(),
            Self::Closed | Self::Silent(_) | Self::Trimmed | Self::Snapshot(_) | Self::Bus(_) => {
                false
            }
        }
    }

    /// Whether a row's own data may have made the query fail, or made it take too long.
    pub(super) fn is_of_data(&self) -> bool {
        let code = match self {
            Self::Database(error) => error.code().map(SqlState::code),
            _ => None,
        };
        code.is_some_and(|code| sqlstate::is_of_data(code) || code == sqlstate::QUERY_CANCELED)
    }

    /// Whether a lock was not free in time: a migration of the game holds it.
    pub(super) fn is_lock_timeout(&self) -> bool {
        matches!(self, Self::Database(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE))
    }

    /// Whether a running server refused: each refusal costs it work and a line in its log.
    pub(super) fn is_refusal(&self) -> bool {
        match self {
            // Class 57: a server that starts, stops or ends its sessions.
            Self::Connect(error) => error.code().is_some_and(|code| !code.starts_with("57")),
            error => error.is_final(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::target::PgTarget;

    fn connecting(code: Option<&str>) -> CaptureError {
        let target =
            PgTarget::resolve(Some("postgres://reader@localhost/game"), |_| None).expect("a URL");
        ConnectError::new(&target, code, "no").into()
    }

    #[test]
    fn a_refusal_differs_from_a_server_that_does_not_answer() {
        let [password, full] = ["28P01", "53300"].map(|code| connecting(Some(code)));
        assert!(password.is_refusal() && full.is_refusal());
        let [starts, stops] = ["57P03", "57P01"].map(|code| connecting(Some(code)));
        assert!(!starts.is_refusal() && !stops.is_refusal() && !connecting(None).is_refusal());
        assert!(CaptureError::NoSchema.is_refusal() && !CaptureError::Closed.is_refusal());
    }
}
