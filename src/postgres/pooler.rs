//! Detects a pooler that gives each transaction of a connection another session of the server.

use std::time::Duration;

use sqlx::{AssertSqlSafe, PgConnection};

use super::{
    connection::{connect, connect_error, query_text},
    session_settings::{OWN, SessionSettings},
};
use crate::postgres::target::{ConnectError, PgTarget};

/// If the pooler has one session only, the second query waits for the end of the transaction.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// A connection for work that needs a session. Fails behind a pooler that shares sessions: a lock
/// or a setting would stay in a session that the game uses next.
pub(crate) async fn connect_alone(
    target: &PgTarget,
    used_for: &str,
    settings: &[(&str, &str)],
) -> Result<PgConnection, ConnectError> {
    let mut connection = connect(target, used_for, settings).await?;
    if is_shared(&mut connection, target, used_for).await {
        let reason = "a pooler gives each transaction another session, and this command needs one \
            of its own. Set DATASTREAM_LISTEN_URL to the direct URL of the database.";
        return Err(ConnectError::new(target, None, reason).permanent());
    }
    let settings = SessionSettings::of(target, settings);
    let set = set_if_refused(&mut connection, &settings).await;
    set.map_err(|error| connect_error(target, &error))?;
    Ok(connection)
}

/// A pooler whose clients have sessions of their own may refuse settings at their start. It resets
/// them before another client gets the session.
async fn set_if_refused(
    connection: &mut PgConnection,
    settings: &SessionSettings<'_>,
) -> Result<(), sqlx::Error> {
    if !has_own_session(connection).await? {
        let statements = AssertSqlSafe(settings.set_session());
        sqlx::raw_sql(statements).execute(connection).await?;
    }
    Ok(())
}

/// Whether two transactions of the connection run in different sessions of the server while
/// another one is open. A busy pooler may not show it the first time, so this checks twice.
pub(crate) async fn is_shared(
    connection: &mut PgConnection,
    target: &PgTarget,
    used_for: &str,
) -> bool {
    if has_own_session(connection).await.unwrap_or(false) {
        return false;
    }
    for _ in 0..2 {
        let Ok(mut other) = connect(target, used_for, &[]).await else { return false };
        if sessions_differ(connection, &mut other).await.unwrap_or(true) {
            return true;
        }
    }
    false
}

/// Whether the session has the setting from its start.
pub(super) async fn has_own_session(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    let sql = "select coalesce(current_setting('datastream.session', true), '')";
    Ok(query_text(connection, sql).await? == OWN.1)
}

/// `None` if the pooler has no second session.
async fn sessions_differ(one: &mut PgConnection, other: &mut PgConnection) -> Option<bool> {
    const PID: &str = "select pg_backend_pid()::text";
    let before = query_text(one, PID).await.ok()?;
    sqlx::raw_sql("begin").execute(&mut *other).await.ok()?;
    let between = query_text(other, PID).await.ok()?;
    let after = tokio::time::timeout(ANSWER_TIMEOUT, query_text(one, PID)).await.ok()?.ok()?;
    let _ended = sqlx::raw_sql("rollback").execute(other).await;
    Some(before == between || before != after)
}
