//! Why a table was not attached or detached. Each message is one line and ends with a remedy.

use crate::postgres::{
    lock_retry::{Contention, StatementRefusal},
    target::ConnectError,
};

/// A failure of `attach` or `detach`.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AttachError {
    /// The connection failed.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// PostgreSQL refused a statement.
    #[error(transparent)]
    Refused(#[from] StatementRefusal),
    /// The schema `datastream` is missing or of an older version.
    #[error(
        "the schema datastream is missing or of an older version. Run: datastream migrate (with \
         --no-tables if the game has its own tables)."
    )]
    NoSchema,
    /// This role may not use the schema `datastream`.
    #[error(
        "role {role} may not use the schema datastream, which belongs to {owner}. As a superuser, \
         run: grant {owner} to {role};"
    )]
    NotPermitted {
        /// The owner of the schema, as an SQL identifier.
        owner: String,
        /// The current role.
        role: String,
    },
    /// No table has this name.
    #[error(
        "table {0} does not exist. Write its name as in SQL: schema.table, with double quotes if \
         it needs them."
    )]
    NoTable(String),
    /// Attaching so would publish open rounds, and the operator has not agreed.
    #[error("{0}")]
    Doubt(String),
    /// A long transaction has a lock on the table.
    #[error(
        "{table} is locked by {holders}. Waiting would block the game's writes. End that \
         transaction, then run this command again."
    )]
    Locked {
        /// The table.
        table: String,
        /// The sessions that have the lock, and since when.
        holders: String,
    },
    /// The statements ran, but PostgreSQL has no valid index.
    #[error(
        "the index for the latest round of a game on {0} is invalid after all statements to build \
         it. Find the invalid index (psql: \\d+ {0}, also of partitions), drop it, and run this \
         command again."
    )]
    NoIndex(String),
}

impl Contention for AttachError {
    fn refusal(&self) -> Option<&StatementRefusal> {
        let Self::Refused(refusal) = self else { return None };
        Some(refusal)
    }
}

impl From<sqlx::Error> for AttachError {
    fn from(error: sqlx::Error) -> Self {
        Self::Refused(StatementRefusal::from(&error))
    }
}
