//! Builds the seed index of an attached table without blocking the game's writes.

use std::{convert::Infallible, time::Duration};

use sqlx::{AssertSqlSafe, Connection, PgConnection};

use super::{AttachError, table};
use crate::postgres::{connection, target::PgTarget};

/// After this wait, the blocking transaction is logged. Most transactions of a game are shorter.
const LOG_WAITS_AFTER: Duration = Duration::from_secs(2);

/// Builds the missing indexes and drops invalid ones. Returns the statements that ran.
pub(super) async fn build(
    connection: &mut PgConnection,
    target: &PgTarget,
    name: &str,
) -> Result<Vec<String>, AttachError> {
    let session = sqlx::query_scalar("select pg_backend_pid()").fetch_one(&mut *connection).await?;
    let statements = run_statements(connection, name);
    let done = tokio::select! {
        done = statements => done?,
        never = log_waits(target, session) => match never {},
    };
    match is_valid(connection, name).await? {
        true => Ok(done),
        false => Err(AttachError::NoIndex(name.to_owned())),
    }
}

async fn run_statements(
    connection: &mut PgConnection,
    name: &str,
) -> Result<Vec<String>, AttachError> {
    let mut done: Vec<String> = Vec::new();
    while let Some(statement) = table::with_lock_retries(name, connection, async |connection| {
        run_next(connection, name, &done).await
    })
    .await?
    {
        done.push(statement);
    }
    Ok(done)
}

/// Logs the transactions that this session waits for, each once. Logs nothing if a second
/// connection fails.
async fn log_waits(target: &PgTarget, session: i32) -> Infallible {
    let mut logged = None;
    loop {
        tokio::time::sleep(LOG_WAITS_AFTER).await;
        let Some((pid, blocker)) = blocking_session(target, session).await else { continue };
        if logged.replace(pid) != Some(pid) {
            tracing::info!(
                "the index build waits for {blocker}. It blocks no other session. End that \
                 transaction to continue sooner."
            );
        }
    }
}

/// The pid and the description of the session that blocks this one.
async fn blocking_session(target: &PgTarget, session: i32) -> Option<(i32, String)> {
    let mut connection = connection::connect(target, "attach", &super::SETTINGS).await.ok()?;
    let holder = sqlx::query_as(include_str!("../../../sql/index_waits.sql")).bind(session);
    let holder = holder.fetch_optional(&mut connection).await.ok().flatten();
    let _closed = connection.close().await;
    holder
}

/// Runs and logs the next statement. The statements are computed each time: a CONCURRENTLY
/// that fails (by a deadlock, for example) leaves an invalid index, which must be dropped first.
async fn run_next(
    connection: &mut PgConnection,
    table: &str,
    done: &[String],
) -> Result<Option<String>, AttachError> {
    let next = "select datastream.index_sql($1::text::regclass) limit 1";
    let next = sqlx::query_scalar(next).bind(table).fetch_optional(&mut *connection).await?;
    let Some(statement): Option<String> = next else { return Ok(None) };
    if done.contains(&statement) {
        return Err(AttachError::NoIndex(table.to_owned()));
    }
    tracing::info!("{statement}");
    run(connection, &statement).await?;
    Ok(Some(statement))
}

/// Whether the index is valid. A partitioned table's index is valid only if all partitions have it.
async fn is_valid(connection: &mut PgConnection, table: &str) -> Result<bool, AttachError> {
    let valid = "select exists (select from datastream.own_indexes() o \
        join pg_index i on i.indexrelid = o.indexrelid \
        where i.indrelid = $1::text::regclass and i.indisvalid)";
    Ok(sqlx::query_scalar(valid).bind(table).fetch_one(connection).await?)
}

/// CONCURRENTLY waits for old transactions and blocks nobody, so it has no limit. The other
/// statements (of a partitioned table) take a lock that writers would queue for.
pub(super) fn lock_timeout(statement: &str) -> &'static str {
    if statement.contains(" concurrently ") { "0" } else { "2s" }
}

async fn run(connection: &mut PgConnection, statement: &str) -> Result<(), AttachError> {
    let set = format!("set lock_timeout = '{}'", lock_timeout(statement));
    sqlx::query(AssertSqlSafe(set)).execute(&mut *connection).await?;
    sqlx::query(AssertSqlSafe(statement.to_owned())).execute(connection).await?;
    Ok(())
}
