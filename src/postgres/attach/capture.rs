//! The capture mode, and changing it for all attached tables.

use sqlx::{Connection, PgConnection};

use super::{AttachError, SETTINGS, set_notice_level, table};
use crate::postgres::{pooler, target::PgTarget};

/// How the trigger announces a finished round. Stored in the database, for each table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum CaptureMode {
    /// NOTIFY, unless another transaction is about to NOTIFY: no writer waits.
    Auto,
    /// NOTIFY for every round. Concurrent commits wait for each other.
    Notify,
    /// No NOTIFY: the server polls the outbox. For poolers and PREPARE TRANSACTION.
    Poll,
}

impl CaptureMode {
    /// The name in the database.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Notify => "notify",
            Self::Poll => "poll",
        }
    }
}

/// A table's qualified name and its capture mode.
type Attached = (String, String);

/// Attaches every attached table again with this capture mode. Each table has its own transaction,
/// so that none stays locked while the next one is waited for. Returns the attached tables.
pub(crate) async fn set_capture(
    target: &PgTarget,
    mode: CaptureMode,
) -> Result<Vec<Attached>, AttachError> {
    let mut connection = pooler::connect_alone(target, "migrate", &SETTINGS).await?;
    for table in attached_by_name(&mut connection).await? {
        if pending_statements(&mut connection, &table, mode).await?.is_empty() {
            continue;
        }
        table::refuse_if_locked(&mut connection, &table, true).await?;
        table::with_lock_retries(&table, &mut connection, async |connection| {
            let mut transaction = connection.begin().await?;
            reattach(&mut transaction, &table, mode, false).await?;
            table::hand_to_schema_owner(&mut transaction).await?;
            Ok(transaction.commit().await?)
        })
        .await?;
    }
    capture_modes(&mut connection).await
}

/// The attached tables that exist under their names. Logs a warning for each that does not.
async fn attached_by_name(connection: &mut PgConnection) -> Result<Vec<String>, AttachError> {
    let query = sqlx::query_as(include_str!("../../../sql/whole_tables.sql"));
    let tables: Vec<(String, bool)> = query.fetch_all(connection).await?;
    for (table, _) in tables.iter().filter(|(_, exists)| !exists) {
        tracing::warn!(
            "{table} keeps its capture mode: it, its table of games or one of their columns was \
             renamed or dropped. Attach it again with the current names, or detach it."
        );
    }
    Ok(tables.into_iter().filter_map(|(table, exists)| exists.then_some(table)).collect())
}

async fn capture_modes(connection: &mut PgConnection) -> Result<Vec<Attached>, AttachError> {
    let attached = "select relation, capture from datastream.attached order by id";
    Ok(sqlx::query_as(attached).fetch_all(connection).await?)
}

/// The statements that attaching again would run. Hides notices: they come when it runs.
async fn pending_statements(
    connection: &mut PgConnection,
    table: &str,
    mode: CaptureMode,
) -> Result<Vec<String>, AttachError> {
    set_notice_level(connection, "warning").await?;
    let statements = reattach(connection, table, mode, true).await?;
    set_notice_level(connection, "notice").await?;
    Ok(statements)
}

/// The statements that change the capture mode. Runs them unless `dry_run`.
async fn reattach(
    connection: &mut PgConnection,
    table: &str,
    mode: CaptureMode,
    dry_run: bool,
) -> Result<Vec<String>, AttachError> {
    let query = sqlx::query_scalar(include_str!("../../../sql/set_capture.sql"));
    let query = query.bind(table).bind(mode.name()).bind(dry_run);
    Ok(query.fetch_all(connection).await?)
}
