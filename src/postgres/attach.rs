//! `datastream attach` and `detach`: start and stop streaming a game's own table.
//!
//! The functions `datastream.attach` and `datastream.detach` of the database do the work (see
//! `migrations/README.md`). This module protects the game from it: it refuses to wait for a long
//! transaction, retries after a short one, and builds the index concurrently.

mod capture;
mod error;
mod index;
mod options;
mod plan;
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

/// Attaches a table.
pub(crate) async fn attach(
    target: &PgTarget,
    options: &AttachOptions,
) -> Result<Report, AttachError> {
    let mut connection = pooler::connect_alone(target, "attach", &SETTINGS).await?;
    let table = table::qualified(&mut connection, &options.table).await?;
    let statements = pending_statements(&mut connection, options).await?;
    if options.dry_run {
        return Ok(Report::Plan(
            plan::attach_script(&mut connection, &table, options, &statements).await?,
        ));
    }
    let mut done = Vec::new();
    if !statements.is_empty() {
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
    let game = &options.game;
    let query = sqlx::query_scalar(include_str!("../../sql/attach_table.sql"))
        .bind(&options.table)
        .bind(&options.id)
        .bind(&options.finished_at)
        .bind(&options.extras)
        .bind(&options.extras_columns)
        .bind(&game.game_id)
        .bind(game.game_id_value)
        .bind(&game.games)
        .bind(&game.games_id)
        .bind(&game.games_slug)
        .bind(&game.games_name)
        .bind(&game.games_type)
        .bind(&game.slug_column)
        .bind(&game.type_column)
        .bind(&game.slug)
        .bind(&game.r#type)
        .bind(&options.time_zone)
        .bind(options.capture.map(CaptureMode::name))
        .bind(options.replace)
        .bind(dry_run);
    Ok(query.fetch_all(connection).await?)
}

async fn capture(connection: &mut PgConnection, table: &str) -> Result<String, AttachError> {
    let query = "select capture from datastream.attached where relation = $1";
    Ok(sqlx::query_scalar(query).bind(table).fetch_one(connection).await?)
}
