//! The seed index of an attached table, built while the game goes on.

use std::{convert::Infallible, time::Duration};

use sqlx::{AssertSqlSafe, Connection, PgConnection};

use super::{AttachError, table};
use crate::postgres::{connection, target::PgTarget};

/// For longer it is logged who is waited for. Most transactions of a game are over by then.
const LOG_WAITS_AFTER: Duration = Duration::from_secs(2);

/// Builds what is missing, and drops what is in its place; the statements run.
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

/// Says for whom this session waits, each transaction once. It is a help: where there is no second
/// connection to be had, nothing is said.
async fn log_waits(target: &PgTarget, session: i32) -> Infallible {
    let mut logged = None;
    loop {
        tokio::time::sleep(LOG_WAITS_AFTER).await;
        let Some((pid, who)) = blocking_session(target, session).await else { continue };
        if logged.replace(pid) != Some(pid) {
            tracing::info!(
                "the index waits for {who}; nobody waits for the index. End that transaction, or \
                 let it end"
            );
        }
    }
}

/// Who holds this session up: its pid, and what it is for people.
async fn blocking_session(target: &PgTarget, session: i32) -> Option<(i32, String)> {
    let mut connection = connection::connect(target, "attach", &super::SETTINGS).await.ok()?;
    let holder = sqlx::query_as(include_str!("../../../sql/index_waits.sql")).bind(session);
    let holder = holder.fetch_optional(&mut connection).await.ok().flatten();
    let _closed = connection.close().await;
    holder
}

/// Does what comes next, and tells it. Asked anew each time: a CONCURRENTLY that does not end well
/// (a deadlock with the game's own, say) leaves an invalid index, which must go before it is tried
/// again.
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

/// Whether PostgreSQL uses it: a partitioned table's index is valid only with all of its parts.
async fn is_valid(connection: &mut PgConnection, table: &str) -> Result<bool, AttachError> {
    let whole = "select exists (select from datastream.own_indexes() o \
        join pg_index i on i.indexrelid = o.indexrelid \
        where i.indrelid = $1::text::regclass and i.indisvalid)";
    Ok(sqlx::query_scalar(whole).bind(table).fetch_one(connection).await?)
}

/// CONCURRENTLY waits for old transactions without making anybody wait, so it may take its time;
/// the other statements (a parent's index, a partition's) need a lock that writers would queue for.
pub(super) fn lock_timeout(statement: &str) -> &'static str {
    if statement.contains(" concurrently ") { "0" } else { "2s" }
}

async fn run(connection: &mut PgConnection, statement: &str) -> Result<(), AttachError> {
    let set = format!("set lock_timeout = '{}'", lock_timeout(statement));
    sqlx::query(AssertSqlSafe(set)).execute(&mut *connection).await?;
    sqlx::query(AssertSqlSafe(statement.to_owned())).execute(connection).await?;
    Ok(())
}
