//! The checks of the database. Each is a file of SQL whose rows are the findings.

mod rounds;
mod tables;

use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};

use self::rounds::RoundsCheck;
use super::check::{Check, Status};
use crate::{
    postgres::{
        connection, pooler, read_only::OperatorQueries, schema_version, sql::sql, target::PgTarget,
    },
    stream::round::UnixMillis,
};

/// Without JIT: compiling the queries takes far longer than running them (47 s instead of 1 s),
/// because PostgreSQL overestimates the rows of tables that were never analyzed.
const SETTINGS: [(&str, &str); 4] = [
    ("statement_timeout", "10s"),
    ("lock_timeout", "2s"),
    ("default_transaction_read_only", "on"),
    ("jit", "off"),
];
/// `timestamp` in a round is from this machine's clock, `finished_at` from the game's.
const CLOCK_SKEW_MAX_SECS: f64 = 1.0;

/// A check as an SQL statement. If it returns no rows, the finding is `ok_text`.
struct SqlCheck {
    name: &'static str,
    sql: &'static str,
    ok_text: &'static str,
}

macro_rules! sql_check {
    ($name:literal, $file:literal, $ok_text:literal) => {
        SqlCheck { name: $name, sql: sql!($file), ok_text: $ok_text }
    };
}

/// For every mode.
const SERVER: [SqlCheck; 2] = [
    sql_check!("version", "doctor/version", ""),
    sql_check!("connections", "doctor/connections", ""),
];
/// Not for the read-only mode, which works on a standby.
const PRIMARY: SqlCheck = sql_check!("primary", "doctor/primary", "");
const READ_ONLY: SqlCheck = sql_check!("read-only", "doctor/read_only", "");

const SCHEMA: SqlCheck = sql_check!("schema", "doctor/schema", "");
/// Reads no table of the schema, so that it works for a role without any rights on it.
const RIGHTS: SqlCheck = sql_check!("rights", "doctor/rights", "");
const COMPLETE: SqlCheck =
    sql_check!("schema", "doctor/whole", "the schema datastream is complete");

/// These need a complete schema.
const SCHEMA_CHECKS: [SqlCheck; 13] = [
    sql_check!("attached", "doctor/attached", ""),
    sql_check!("readable", "doctor/readable", "the views see all rounds"),
    sql_check!("subscriber", "doctor/subscriber", "no logical subscription writes rounds"),
    sql_check!(
        "publications",
        "doctor/publications",
        "no publication contains tables of datastream"
    ),
    sql_check!("ids", "doctor/ids", "no two tables are about to use the same ids"),
    sql_check!("games", "doctor/games", "ids and slugs of games are unique"),
    sql_check!("index", "doctor/index", "no table needs an index"),
    sql_check!("recorded", "doctor/recorded", ""),
    sql_check!("capture", "doctor/capture", ""),
    sql_check!("queue", "doctor/queue", ""),
    sql_check!("outbox", "doctor/outbox", ""),
    sql_check!("transactions", "doctor/transactions", "no transaction has been open for long"),
    sql_check!("prepared", "doctor/prepared", ""),
];

/// The common table expressions that the files read.
const ATTACHED: &str = sql!("doctor/attached_tables");
/// The remedy if the statement of a check failed.
const STATEMENT_FAILED: &str =
    "fix the error that PostgreSQL reports; after a timeout, run datastream doctor again";

/// Runs the checks of the database: the connection, the files of `sql/doctor`, the clocks.
pub(crate) async fn examine(
    target: &PgTarget,
    retention: Duration,
    source: Option<&OperatorQueries>,
) -> Vec<Check> {
    let mut connection = match connection::connect(target, "doctor", &SETTINGS).await {
        Ok(connection) => connection,
        Err(error) => {
            let check = Check::new("connection", Status::Failed, error.to_string());
            return vec![check.remedy("set DATABASE_URL so that psql \"$DATABASE_URL\" connects")];
        }
    };
    let pooled = pooler::is_shared(&mut connection, target, "doctor").await;
    let how = if pooled { ", through a pooler that shares sessions" } else { "" };
    let mut checks = vec![Check::new("connection", Status::Ok, format!("{target} answers{how}"))];
    checks.extend(match source {
        Some(source) => check_read_only(&mut connection, source).await,
        None => check_schema(&mut connection, retention).await,
    });
    checks.push(check_clock(&mut connection).await);
    let _closed = connection.close().await;
    checks
}

/// The least difference of the two clocks: the duration of the query is subtracted.
async fn check_clock(connection: &mut PgConnection) -> Check {
    let before = seconds();
    let there = "select extract(epoch from clock_timestamp())::double precision";
    let there = sqlx::raw_sql(there).fetch_one(connection).await;
    let there = there.and_then(|row| row.try_get::<f64, _>(0));
    let after = seconds();
    match there {
        Err(error) => Check::new("clock", Status::Skipped, connection::reason(&error)),
        Ok(there) => {
            let apart = (there - after).max(before - there).max(0.0);
            let status = if apart > CLOCK_SKEW_MAX_SECS { Status::Warning } else { Status::Ok };
            let says =
                format!("the clocks of this machine and of the database are {apart:.1} s apart");
            Check::new("clock", status, says).remedy("run an NTP client on both")
        }
    }
}

#[allow(clippy::cast_precision_loss, reason = "milliseconds since 1970 are far below 2^53")]
fn seconds() -> f64 {
    UnixMillis::now().0 as f64 / 1000.0
}

/// Runs all checks of the schema. They use the simple query protocol: a pooler in transaction mode
/// does not keep prepared statements.
async fn check_schema(connection: &mut PgConnection, retention: Duration) -> Vec<Check> {
    let mut checks = check_server(connection).await;
    checks.extend(run_check(connection, &PRIMARY, "", Status::Failed).await);
    let schema = run_check(connection, &SCHEMA, "", Status::Failed).await;
    if !none_failed(&schema) {
        return [checks, schema].concat();
    }
    let rights = run_check(connection, &RIGHTS, "", Status::Failed).await;
    // Without the rights the other checks cannot run; `rights` reports that once.
    let on_error = if none_failed(&rights) { Status::Failed } else { Status::Skipped };
    checks.extend(rights);
    if let Some(version) = schema_version(connection).await {
        let is_usable = version.status != Status::Failed;
        checks.push(version);
        if !is_usable {
            return checks;
        }
    }
    let retention = retention.as_secs();
    let with = format!("{ATTACHED}, options as (select interval '{retention} s' as retention) ");
    let complete = run_check(connection, &COMPLETE, &with, on_error).await;
    let is_complete = none_failed(&complete);
    checks.extend(complete);
    if is_complete {
        checks.extend(check_complete(connection, &with, on_error).await);
    }
    checks
}

/// The checks that need a complete schema. That of games reads all their slugs, which fails beside one
/// that cannot be read.
async fn check_complete(connection: &mut PgConnection, with: &str, on_error: Status) -> Vec<Check> {
    let mut checks = tables::unreadable_games(connection).await;
    let are_readable = checks.is_empty();
    for check in SCHEMA_CHECKS.iter().filter(|check| are_readable || check.name != "games") {
        checks.extend(run_check(connection, check, with, on_error).await);
    }
    checks.extend(RoundsCheck::of_outbox().run(connection, on_error).await);
    checks.extend(tables::unsendable_rounds(connection, on_error).await);
    checks
}

/// Whether this program knows the migrations of the database. None if that cannot be read: the
/// checks around it say why.
async fn schema_version(connection: &mut PgConnection) -> Option<Check> {
    let rows = sqlx::raw_sql(schema_version::QUERY).fetch_all(connection).await.ok()?;
    let applied: Result<Vec<(i64, bool)>, sqlx::Error> =
        rows.iter().map(|row| Ok((row.try_get("version")?, row.try_get("compatible")?))).collect();
    let compatibility = schema_version::compatibility(&applied.ok()?);
    let remedy = compatibility.remedy();
    let status = if remedy.is_some() { Status::Failed } else { Status::Ok };
    let check = Check::new("migrations", status, compatibility.to_string());
    Some(check.remedy(remedy.unwrap_or_default()))
}

/// Runs the checks of the read-only mode, which uses the operator's queries.
async fn check_read_only(connection: &mut PgConnection, source: &OperatorQueries) -> Vec<Check> {
    let mut checks = check_server(connection).await;
    let queries = run_check(connection, &READ_ONLY, &source.query(""), Status::Failed).await;
    let are_usable = none_failed(&queries);
    checks.extend(queries);
    if are_usable && let Ok(rounds) = RoundsCheck::read_only(connection, source).await {
        checks.extend(rounds.run(connection, Status::Failed).await);
    }
    checks
}

async fn check_server(connection: &mut PgConnection) -> Vec<Check> {
    let mut checks = Vec::new();
    for check in &SERVER {
        checks.extend(run_check(connection, check, "", Status::Failed).await);
    }
    checks
}

/// Whether no check failed.
fn none_failed(checks: &[Check]) -> bool {
    checks.iter().all(|check| check.status != Status::Failed)
}

/// The findings of one check, or one with the status `on_error` if its statement fails.
async fn run_check(
    connection: &mut PgConnection,
    check: &SqlCheck,
    with: &str,
    on_error: Status,
) -> Vec<Check> {
    let sql = format!("{with}{}", check.sql);
    run_sql(connection, check.name, sql, check.ok_text, on_error).await
}

async fn run_sql(
    connection: &mut PgConnection,
    name: &'static str,
    sql: String,
    ok_text: &str,
    on_error: Status,
) -> Vec<Check> {
    let rows = sqlx::raw_sql(AssertSqlSafe(sql)).fetch_all(connection).await;
    let checks = rows.and_then(|rows| rows.iter().map(|row| parse_row(name, row)).collect());
    match checks {
        Ok(checks) if Vec::is_empty(&checks) => {
            vec![Check::new(name, Status::Ok, ok_text)]
        }
        Ok(checks) => checks,
        Err(error) => {
            let says = format!("the check could not run: {}", connection::reason(&error));
            vec![Check::new(name, on_error, says).remedy(STATEMENT_FAILED)]
        }
    }
}

fn parse_row(name: &'static str, row: &sqlx::postgres::PgRow) -> Result<Check, sqlx::Error> {
    let status = match row.try_get("status")? {
        "ok" => Status::Ok,
        "warning" => Status::Warning,
        _ => Status::Failed,
    };
    let says: String = row.try_get("says")?;
    let remedy: Option<&str> = row.try_get("remedy")?;
    Ok(Check::new(name, status, says).remedy(remedy.unwrap_or_default()))
}
