//! Why a migration failed, in one line, with what to do about it.

use std::fmt;

use sqlx::{migrate::MigrateError, postgres::PgDatabaseError};

use crate::{
    database,
    pg_target::{ConnectError, advice},
};

/// Why the database is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum MigrationError {
    /// There is no connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// PostgreSQL refused a statement.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Somebody applied a migration that this program does not have.
    #[error("the database has migration {0}, which this program does not know: use the newer one")]
    Unknown(i64),
    /// A migration was edited after it was applied.
    #[error(
        "migration {0} was applied to this database in another form: use the program it came with"
    )]
    Changed(i64),
    /// Older than what we need.
    #[error("PostgreSQL 13 or later is needed")]
    Unsupported,
    /// Anything else the migrator says.
    #[error("the migrations cannot be applied: {0}")]
    Other(MigrateError),
}

/// A statement that PostgreSQL refused.
#[derive(Debug, thiserror::Error)]
pub struct Refusal {
    migration: Option<i64>,
    code: Option<String>,
    message: String,
    hint: Option<String>,
}

impl MigrationError {
    /// Whether somebody else held a lock: lock_not_available, deadlock_detected.
    pub(super) fn is_contention(&self) -> bool {
        let Self::Refused(refusal) = self else { return false };
        matches!(refusal.code.as_deref(), Some("55P03" | "40P01"))
    }
}

impl Refusal {
    fn new(error: &sqlx::Error, migration: Option<i64>) -> Self {
        let said = error.as_database_error();
        let said = said.and_then(|said| said.try_downcast_ref::<PgDatabaseError>());
        Self {
            migration,
            code: database::code(error),
            message: database::reason(error),
            hint: said.and_then(PgDatabaseError::hint).map(str::to_owned),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(version) = self.migration {
            write!(f, "migration {version}: ")?;
        }
        f.write_str(&self.message)?;
        match self.hint.as_deref().or_else(|| advice(self.code.as_deref()?)) {
            Some(hint) => write!(f, " ({hint})"),
            None => Ok(()),
        }
    }
}

impl From<sqlx::Error> for MigrationError {
    fn from(error: sqlx::Error) -> Self {
        Self::Refused(Refusal::new(&error, None))
    }
}

impl From<MigrateError> for MigrationError {
    fn from(error: MigrateError) -> Self {
        match error {
            MigrateError::Execute(error) => error.into(),
            MigrateError::ExecuteMigration(error, version) => {
                Self::Refused(Refusal::new(&error, Some(version)))
            }
            MigrateError::VersionMissing(version) => Self::Unknown(version),
            MigrateError::VersionMismatch(version) => Self::Changed(version),
            other => Self::Other(other),
        }
    }
}
