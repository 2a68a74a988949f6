//! How word of a finished round is sent, and changing it for all that is attached.

use sqlx::{Connection, PgConnection};

use super::{AttachError, SETTINGS, set_notice_level, table};
use crate::postgres::{pooler, target::PgTarget};

/// How word of a finished round is sent. Belongs to the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum CaptureMode {
    /// NOTIFY with the round, unless another transaction is doing so: nobody waits.
    Auto,
    /// NOTIFY for every round, whatever it costs the writers.
    Notify,
    /// No NOTIFY: the outbox is polled. For poolers and PREPARE TRANSACTION.
    Poll,
}

impl CaptureMode {
    /// As the database writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Notify => "notify",
            Self::Poll => "poll",
        }
    }
}

/// A table's full name, and how word of its rounds is sent.
type Attached = (String, String);

/// Attaches every attached table again with this way of sending word, each in a transaction of its
/// own, so that none is locked while another one is waited for. Says what is attached.
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

/// The attached tables that are still there by their names; a word about each that is not.
async fn attached_by_name(connection: &mut PgConnection) -> Result<Vec<String>, AttachError> {
    let query = sqlx::query_as(include_str!("../../../sql/whole_tables.sql"));
    let tables: Vec<(String, bool)> = query.fetch_all(connection).await?;
    for (table, _) in tables.iter().filter(|(_, whole)| !whole) {
        tracing::warn!(
            "{table} stays as it is: it, its table of games or a column of theirs is not there by \
             its name (renamed, dropped?); attach it again as all is called now, or detach it"
        );
    }
    Ok(tables.into_iter().filter_map(|(table, whole)| whole.then_some(table)).collect())
}

async fn capture_modes(connection: &mut PgConnection) -> Result<Vec<Attached>, AttachError> {
    let attached = "select relation, capture from datastream.attached order by id";
    Ok(sqlx::query_as(attached).fetch_all(connection).await?)
}

/// What there is to do; the notices come when it is done.
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

/// The statements that make it so; run unless `dry_run`.
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
