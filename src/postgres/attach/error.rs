//! Why a table was not attached or detached, in one line, with what to do about it.

use crate::postgres::{
    lock_retry::{Contention, Refusal},
    target::ConnectError,
};

/// Why the database is as it was before.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AttachError {
    /// There is no connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// PostgreSQL refused a statement.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Our schema is not there, or is of an older version.
    #[error(
        "the database has no schema of Data Stream, or an older one; run: datastream migrate (--no-tables \
         beside a game that has its own)"
    )]
    NoSchema,
    /// Our schema is there, and not for this role.
    #[error(
        "the schema datastream belongs to {owner}, and {role} may not use it; as a superuser or \
         as who may grant it: grant {owner} to {role}"
    )]
    NotPermitted {
        /// Whose it is, quoted where it must be.
        owner: String,
        /// Who asked.
        role: String,
    },
    /// The table's name means nothing here.
    #[error("there is no table {0}; write it as in SQL: schema.table, quoted where it must be")]
    NoTable(String),
    /// A transaction has the table, and has had it for long.
    #[error(
        "{table} is held by {holders}: our DDL would wait, and the game's writes behind it. End \
         that transaction or let it end, then run this again"
    )]
    Locked {
        /// The table.
        table: String,
        /// Who, and since when.
        holders: String,
    },
    /// It was built, and is not there as it should be.
    #[error(
        "the index for the latest round of a game on {0} is not whole after all was done to build \
         it: look for an invalid one of it or of a partition (psql: \\d+ {0}), drop that, and run \
         this again"
    )]
    NoIndex(String),
}

impl Contention for AttachError {
    fn refusal(&self) -> Option<&Refusal> {
        let Self::Refused(refusal) = self else { return None };
        Some(refusal)
    }
}

impl From<sqlx::Error> for AttachError {
    fn from(error: sqlx::Error) -> Self {
        Self::Refused(Refusal::from(&error))
    }
}
