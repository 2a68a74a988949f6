//! Why a migration failed, in one line, with what to do about it.

use sqlx::migrate::MigrateError;

use crate::postgres::{
    lock_retry::{Contention, Refusal},
    target::ConnectError,
};

/// Why the database is not as it should be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MigrationError {
    /// There is no connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// PostgreSQL refused a statement.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// PostgreSQL refused a statement of a migration.
    #[error("migration {0}: {1}")]
    Migration(i64, Refusal),
    /// Somebody applied a migration that this program does not have.
    #[error(
        "the database has migration {0}, which this program does not know: use the version of \
         datastream that has it, or a later one"
    )]
    Unknown(i64),
    /// An earlier text of a migration is applied.
    #[error(
        "the text of migration {version} was another one when it was applied to this database. \
         Use the program that applied it, or replace the schema (the game's tables keep their \
         rows; resume points and granted rights in the schema are lost): {commands}"
    )]
    Changed {
        /// The first migration that differs.
        version: i64,
        /// The commands that replace the schema, for a shell.
        commands: String,
    },
    /// Older than what we need.
    #[error("PostgreSQL 13 or later is needed")]
    Unsupported,
    /// What is ours would reach a subscriber that has no tables for it.
    #[error(
        "publication {0} is for all tables: it would send ours too, and a subscriber without them \
         stops. docs/existing-database.md says how to go on (\"A publication for all tables\"), \
         then: PGOPTIONS='-c datastream.published=on'"
    )]
    Published(String),
    /// All migrations are applied, and something that they made is gone.
    #[error(
        "dropped, though its migration is applied: {0}. A view or function that `datastream \
         attach` makes it makes anew, with the options that a table is attached by; for all else: \
         drop schema datastream cascade, then run this again, and attach"
    )]
    Dropped(String),
    /// Anything else the migrator says.
    #[error("the migrations cannot be applied: {0}")]
    Other(MigrateError),
}

impl Contention for MigrationError {
    fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(refusal) | Self::Migration(_, refusal) => Some(refusal),
            _ => None,
        }
    }
}

impl From<sqlx::Error> for MigrationError {
    fn from(error: sqlx::Error) -> Self {
        Self::Refused(Refusal::from(&error))
    }
}

impl From<MigrateError> for MigrationError {
    fn from(error: MigrateError) -> Self {
        match error {
            MigrateError::Execute(error) => error.into(),
            MigrateError::ExecuteMigration(error, version) => {
                Self::Migration(version, Refusal::from(&error))
            }
            MigrateError::VersionMissing(version) => Self::Unknown(version),
            other => Self::Other(other),
        }
    }
}
