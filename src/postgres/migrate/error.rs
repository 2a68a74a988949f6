//! Why a migration failed. Each message is one line and ends with a remedy.

use sqlx::migrate::MigrateError;

use crate::postgres::{
    lock_retry::{Contention, StatementRefusal},
    target::ConnectError,
};

/// A failure of `migrate`.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MigrationError {
    /// The connection failed.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// PostgreSQL refused a statement.
    #[error(transparent)]
    Refused(#[from] StatementRefusal),
    /// PostgreSQL refused a statement of a migration.
    #[error("migration {0}: {1}")]
    Migration(i64, StatementRefusal),
    /// The database has a migration that this program does not have.
    #[error(
        "migration {0} of the database is unknown to this version of datastream. Use the newer \
         version."
    )]
    Unknown(i64),
    /// An earlier text of a migration is applied.
    #[error(
        "migration {version} had another text when it was applied to this database. Use the version of \
         datastream that applied it, or replace the schema (the game's tables keep their rows; resume \
         points and granted rights in the schema are lost): {commands}"
    )]
    Changed {
        /// The first migration that differs.
        version: i64,
        /// The commands that replace the schema, for a shell.
        commands: String,
    },
    /// The server is older than PostgreSQL 13.
    #[error("the PostgreSQL server is too old. Use PostgreSQL 13 or later.")]
    Unsupported,
    /// A publication would send our tables to a subscriber that does not have them.
    #[error(
        "publication {0} is for all tables: it would include the tables of datastream, and \
         subscribers without them stop. Follow docs/existing-database.md, \"A publication for all \
         tables\", then set PGOPTIONS='-c datastream.published=on'."
    )]
    Published(String),
    /// All migrations are applied, but objects that they created were dropped.
    #[error(
        "{0}: dropped after its migration was applied. Run `datastream attach` again if it is a \
         view or function of an attached table. Otherwise run `drop schema datastream cascade`, \
         migrate and attach again."
    )]
    Dropped(String),
    /// Another error of the migrator.
    #[error("cannot apply the migrations: {0}")]
    Other(MigrateError),
}

impl Contention for MigrationError {
    fn refusal(&self) -> Option<&StatementRefusal> {
        match self {
            Self::Refused(refusal) | Self::Migration(_, refusal) => Some(refusal),
            _ => None,
        }
    }
}

impl From<sqlx::Error> for MigrationError {
    fn from(error: sqlx::Error) -> Self {
        Self::Refused(StatementRefusal::from(&error))
    }
}

impl From<MigrateError> for MigrationError {
    fn from(error: MigrateError) -> Self {
        match error {
            MigrateError::Execute(error) => error.into(),
            MigrateError::ExecuteMigration(error, version) => {
                Self::Migration(version, StatementRefusal::from(&error))
            }
            MigrateError::VersionMissing(version) => Self::Unknown(version),
            other => Self::Other(other),
        }
    }
}
