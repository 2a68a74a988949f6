//! Why a table was not attached or detached, in one line, with what to do about it.

use std::fmt;

use sqlx::postgres::PgDatabaseError;

use crate::{
    database,
    pg_target::{ConnectError, advice},
};

/// Why the database is as it was before.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// There is no connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// PostgreSQL refused a statement.
    #[error("{0}")]
    Refused(Refusal),
    /// Our schema is not there, or is of an older version.
    #[error(
        "the database has no schema of Data Stream, or an older one; run: datastream migrate (--no-tables \
         beside a game that has its own)"
    )]
    NoSchema,
    /// The table's name means nothing here.
    #[error("there is no table {0}; write it as in SQL: schema.table, quoted where it must be")]
    NoTable(String),
    /// A transaction has the table, and has had it for long.
    #[error(
        "{table} is held by {holders}: our DDL would wait, and the game's writes behind it. End \
         that transaction or let it end, then run this again"
    )]
    Held {
        /// The table.
        table: String,
        /// Who, and since when.
        holders: String,
    },
    /// A round of this table and one of another have the same id.
    #[error(
        "ids of rounds must not be the same in two attached tables: {id} is in {table} and in \
         {other}. Detach that one, or give one of them ids of another range"
    )]
    Collision {
        /// The table to attach.
        table: String,
        /// The attached one.
        other: String,
        /// The first id that is in both.
        id: i64,
    },
}

/// What PostgreSQL said.
#[derive(Debug)]
pub struct Refusal {
    code: Option<String>,
    message: String,
    hint: Option<String>,
}

impl AttachError {
    /// Whether somebody else held a lock: lock_not_available, deadlock_detected.
    pub(super) fn is_contention(&self) -> bool {
        let Self::Refused(refusal) = self else { return false };
        matches!(refusal.code.as_deref(), Some("55P03" | "40P01"))
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

impl From<sqlx::Error> for AttachError {
    fn from(error: sqlx::Error) -> Self {
        let said = error.as_database_error();
        let said = said.and_then(|said| said.try_downcast_ref::<PgDatabaseError>());
        Self::Refused(Refusal {
            code: database::code(&error),
            message: database::reason(&error),
            hint: said.and_then(PgDatabaseError::hint).map(str::to_owned),
        })
    }
}
