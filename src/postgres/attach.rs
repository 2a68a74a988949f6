//! `datastream attach` and `detach`: start and stop streaming a game's own table.
//!
//! The functions `datastream.attach` and `datastream.detach` of the database do the work (see
//! `migrations/README.md`). This module protects the game from it: it refuses to wait for a long
//! transaction, retries after a short one, and builds the index concurrently.

mod capture;
mod error;
mod index;
mod mapping;
mod options;
mod plan;
pub(crate) mod suggest;
mod table;

pub(crate) use capture::{CaptureMode, set_capture};
pub(crate) use error::AttachError;
pub(crate) use options::{AttachOptions, DetachOptions};
pub(crate) use plan::plan_with_schema;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
pub(crate) use table::log_warnings;

use crate::postgres::{pooler, target::PgTarget};

/// Logs notices: the database's functions address them to the operator.
pub(crate) const LOG_FILTER: &str = "info,sqlx=warn,sqlx::postgres::notice=info";

/// Without JIT, for the reason given in `doctor`.
const SETTINGS: [(&str, &str); 3] =
    [("lock_timeout", "2s"), ("statement_timeout", "0"), ("jit", "off")];

/// The result of a command.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Report {
    /// The SQL for `--dry-run`.
    Plan(String),
    /// A line for each change. Empty if no change was needed.
    Done(Vec<String>),
}

/// Attaches a table. `show` gets the mapping, with one round as it will be streamed, before any lock
/// is asked for.
pub(crate) async fn attach(
    target: &PgTarget,
    options: &AttachOptions,
    show: impl Fn(&str),
) -> Result<Report, AttachError> {
    let mut connection = pooler::connect_alone(target, "attach", &SETTINGS).await?;
    let table = table::qualified(&mut connection, &options.table).await?;
    let statements = pending_statements(&mut connection, options).await?;
    let mapping = mapping_of_change(&mut connection, &table, options, &statements).await?;
    if options.dry_run {
        let script = plan::attach_script(&mut connection, &table, options, &statements).await?;
        return Ok(Report::Plan(mapping::as_comment(&mapping) + &script));
    }
    let mut done = Vec::new();
    if !statements.is_empty() {
        mapping.iter().for_each(|line| show(line));
        table::refuse_if_locked(&mut connection, &table, options.replace).await?;
        table::warn_of_large_ids(&mut connection, &table, options).await?;
        table::with_lock_retries(&table, &mut connection, async |connection| {
            attach_in_transaction(connection, options).await
        })
        .await?;
        done.push(format!(
            "{table} is attached; capture is {}",
            capture(&mut connection, &table).await?
        ));
    }
    if options.index {
        done.extend(index::build(&mut connection, target, &table).await?);
    }
    log_warnings(&mut connection, Some(&table)).await?;
    Ok(Report::Done(done))
}

/// Checks everything on a database without the schema `datastream`, which it makes in a transaction
/// that it rolls back: a mapping with a problem changes nothing. A schema of another version is left
/// to `migrate`.
pub(crate) async fn check_with_schema(
    target: &PgTarget,
    options: &AttachOptions,
    schema: &str,
) -> Result<(), AttachError> {
    let mut connection = pooler::connect_alone(target, "attach", &SETTINGS).await?;
    if table::has_other_schema(&mut connection).await? {
        return Ok(());
    }
    set_notice_level(&mut connection, "warning").await?;
    let mut transaction = connection.begin().await?;
    sqlx::raw_sql(AssertSqlSafe(schema.to_owned())).execute(&mut *transaction).await?;
    let table = table::qualified(&mut transaction, &options.table).await?;
    let statements = pending_statements(&mut transaction, options).await?;
    mapping_of_change(&mut transaction, &table, options, &statements).await?;
    Ok(transaction.rollback().await?)
}

/// The mapping as lines, if attaching changes something. Fails if it would publish open rounds, unless
/// the operator has agreed.
async fn mapping_of_change(
    connection: &mut PgConnection,
    table: &str,
    options: &AttachOptions,
    statements: &[String],
) -> Result<Vec<String>, AttachError> {
    if statements.is_empty() {
        return Ok(Vec::new());
    }
    let mapping = mapping::read(connection, table, options).await?;
    match mapping.doubt {
        Some(doubt) if !options.yes && !options.dry_run => Err(AttachError::Doubt(doubt)),
        doubt => {
            doubt.into_iter().for_each(|doubt| tracing::warn!("{doubt}"));
            Ok(mapping.lines)
        }
    }
}

/// Stops streaming a table and drops its triggers, index and view.
pub(crate) async fn detach(
    target: &PgTarget,
    options: &DetachOptions,
) -> Result<Report, AttachError> {
    let mut connection = pooler::connect_alone(target, "detach", &SETTINGS).await?;
    let table = match table::qualified(&mut connection, &options.table).await {
        // The table may have been dropped since it was attached.
        Err(AttachError::NoTable(name)) => name,
        outcome => outcome?,
    };
    let call = "select datastream.detach($1, $2)";
    let query = || sqlx::query_scalar(call).bind(&table).bind(options.dry_run);
    if options.dry_run {
        return Ok(Report::Plan(plan::transaction_script(
            &query().fetch_all(&mut connection).await?,
        )));
    }
    table::refuse_if_locked(&mut connection, &table, true).await?;
    table::with_lock_retries(&table, &mut connection, async |connection| {
        let mut transaction = connection.begin().await?;
        let _: Vec<String> = query().fetch_all(&mut *transaction).await?;
        // `detach` has created again the views that were dropped with a table.
        table::hand_to_schema_owner(&mut transaction).await?;
        Ok(transaction.commit().await?)
    })
    .await?;
    Ok(Report::Done(vec![format!("{table} is detached")]))
}

/// The statements that attaching would run. Hides notices: they come when the statements run.
async fn pending_statements(
    connection: &mut PgConnection,
    options: &AttachOptions,
) -> Result<Vec<String>, AttachError> {
    let level = if options.dry_run { "notice" } else { "warning" };
    set_notice_level(connection, level).await?;
    let statements = call(connection, options, true).await?;
    set_notice_level(connection, "notice").await?;
    Ok(statements)
}

/// Sets the lowest level of the server's messages.
async fn set_notice_level(connection: &mut PgConnection, level: &str) -> Result<(), AttachError> {
    let set = format!("set client_min_messages = {level}");
    sqlx::query(AssertSqlSafe(set)).execute(connection).await?;
    Ok(())
}

async fn attach_in_transaction(
    connection: &mut PgConnection,
    options: &AttachOptions,
) -> Result<(), AttachError> {
    let mut transaction = connection.begin().await?;
    call(&mut transaction, options, false).await?;
    table::hand_to_schema_owner(&mut transaction).await?;
    Ok(transaction.commit().await?)
}

/// The statements of `datastream.attach`, run unless `dry_run`.
async fn call(
    connection: &mut PgConnection,
    options: &AttachOptions,
    dry_run: bool,
) -> Result<Vec<String>, AttachError> {
    let query = sqlx::query_scalar(include_str!("../../sql/attach_table.sql"))
        .bind(&options.table)
        .bind(options.mapping().to_string())
        .bind(options.capture.map(CaptureMode::name))
        .bind(options.replace)
        .bind(dry_run);
    Ok(query.fetch_all(connection).await?)
}

async fn capture(connection: &mut PgConnection, table: &str) -> Result<String, AttachError> {
    let query = "select capture from datastream.attached where relation = $1";
    Ok(sqlx::query_scalar(query).bind(table).fetch_one(connection).await?)
}
