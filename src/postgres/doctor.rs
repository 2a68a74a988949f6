//! What is check of the database: a file of SQL for each check, which answers with its lines.

use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};

use super::check::{Check, Status};
use crate::{
    postgres::{connection, pooler, read_only::Source, target::PgTarget},
    stream::round::UnixMillis,
};

/// (To compile the queries takes a hundred times as long as to run them: of a table that was never
/// analyzed PostgreSQL expects many rows. 47 s against 1 s.)
const SETTINGS: [(&str, &str); 4] = [
    ("statement_timeout", "10s"),
    ("lock_timeout", "2s"),
    ("default_transaction_read_only", "on"),
    ("jit", "off"),
];
/// `timestamp` in a round is by this machine's clock, `finished_at` by the game's.
const CLOCK_SKEW_MAX_SECS: f64 = 1.0;

/// A check and the statement that makes it. No rows: all is well, and `well` says so.
struct SqlCheck {
    name: &'static str,
    sql: &'static str,
    ok_text: &'static str,
}

macro_rules! sql_check {
    ($name:literal, $file:literal, $well:literal) => {
        SqlCheck {
            name: $name,
            sql: include_str!(concat!("../../sql/doctor/", $file, ".sql")),
            ok_text: $well,
        }
    };
}

/// Of any server.
const SERVER: [SqlCheck; 2] =
    [sql_check!("version", "version", ""), sql_check!("connections", "connections", "")];
/// Of one that listens: for the read-only mode a standby will do.
const PRIMARY: SqlCheck = sql_check!("primary", "primary", "");
const READ_ONLY: SqlCheck = sql_check!("read-only", "read_only", "");

const SCHEMA: SqlCheck = sql_check!("schema", "schema", "");
/// Of who may not even use our schema, too: it reads nothing of it.
const RIGHTS: SqlCheck = sql_check!("rights", "rights", "");
const COMPLETE: SqlCheck =
    sql_check!("schema", "whole", "the schema datastream is there, and whole");

/// Of what is attached.
const SCHEMA_CHECKS: [SqlCheck; 13] = [
    sql_check!("attached", "attached", ""),
    sql_check!("readable", "readable", "the views see all rounds"),
    sql_check!("subscriber", "subscriber", "no logical subscription writes rounds"),
    sql_check!("publications", "publications", "no publication sends our tables"),
    sql_check!("ids", "ids", "no two tables are near to giving the same ids"),
    sql_check!("games", "games", "each game has an id and a slug of its own"),
    sql_check!("index", "index", "no table is there to be indexed"),
    sql_check!("recorded", "recorded", ""),
    sql_check!("capture", "capture", ""),
    sql_check!("queue", "queue", ""),
    sql_check!("outbox", "outbox", ""),
    sql_check!("transactions", "transactions", "no transaction is open for long"),
    sql_check!("prepared", "prepared", ""),
];

/// What the files read of the attached tables.
const ATTACHED: &str = include_str!("../../sql/doctor/attached_tables.sql");
/// Where a statement failed that nothing else explains.
const STATEMENT_FAILED: &str = "mend what PostgreSQL says here, which serve meets as well; after a timeout, run datastream doctor \
     again";

/// What the database says: the connection, the checks of `sql/doctor`, the clocks.
pub(crate) async fn examine(
    target: &PgTarget,
    retention: Duration,
    source: Option<&Source>,
) -> Vec<Check> {
    let mut connection = match connection::connect(target, "doctor", &SETTINGS).await {
        Ok(connection) => connection,
        Err(error) => {
            let check = Check::new("connection", Status::Failed, error.to_string());
            return vec![check.remedy("set DATABASE_URL so that psql \"$DATABASE_URL\" connects")];
        }
    };
    let pooled = pooler::is_shared(&mut connection, target, "doctor").await;
    let how = if pooled { ", through a pooler that shares its sessions" } else { "" };
    let mut checks = vec![Check::new("connection", Status::Ok, format!("{target} answers{how}"))];
    checks.extend(match source {
        Some(source) => check_read_only(&mut connection, source).await,
        None => check_schema(&mut connection, retention).await,
    });
    checks.push(check_clock(&mut connection).await);
    let _closed = connection.close().await;
    checks
}

/// How far the two clocks are apart, at least: what the question took is not held against them.
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
                format!("the clocks of this machine and the database are {apart:.1} s apart");
            Check::new("clock", status, says).remedy("run an NTP client on both")
        }
    }
}

#[allow(clippy::cast_precision_loss, reason = "milliseconds since 1970 are far below 2^53")]
fn seconds() -> f64 {
    UnixMillis::now().0 as f64 / 1000.0
}

/// Asks it all. By PostgreSQL's simple protocol: a pooler in transaction mode mixes up what is
/// prepared on its connections.
async fn check_schema(connection: &mut PgConnection, retention: Duration) -> Vec<Check> {
    let mut checks = check_server(connection).await;
    checks.extend(run_check(connection, &PRIMARY, "", Status::Failed).await);
    let schema = run_check(connection, &SCHEMA, "", Status::Failed).await;
    if !none_failed(&schema) {
        return [checks, schema].concat();
    }
    let rights = run_check(connection, &RIGHTS, "", Status::Failed).await;
    // Without the rights the rest cannot be looked at, and that is said once.
    let on_error = if none_failed(&rights) { Status::Failed } else { Status::Skipped };
    checks.extend(rights);
    let retention = retention.as_secs();
    let with = format!("{ATTACHED}, options as (select interval '{retention} s' as retention) ");
    let whole = run_check(connection, &COMPLETE, &with, on_error).await;
    let is_complete = none_failed(&whole);
    checks.extend(whole);
    for check in SCHEMA_CHECKS.iter().filter(|_| is_complete) {
        checks.extend(run_check(connection, check, &with, on_error).await);
    }
    checks
}

/// What the read-only mode takes, which reads by the operator's own queries.
async fn check_read_only(connection: &mut PgConnection, source: &Source) -> Vec<Check> {
    let mut checks = check_server(connection).await;
    checks.extend(run_check(connection, &READ_ONLY, &source.query(""), Status::Failed).await);
    checks
}

async fn check_server(connection: &mut PgConnection) -> Vec<Check> {
    let mut checks = Vec::new();
    for check in &SERVER {
        checks.extend(run_check(connection, check, "", Status::Failed).await);
    }
    checks
}

/// Whether nothing failed.
fn none_failed(checks: &[Check]) -> bool {
    checks.iter().all(|check| check.status != Status::Failed)
}

/// What was found. A statement that fails leaves something on_error, and counts as `on_error`.
async fn run_check(
    connection: &mut PgConnection,
    check: &SqlCheck,
    with: &str,
    on_error: Status,
) -> Vec<Check> {
    let sql = AssertSqlSafe(format!("{with}{}", check.sql));
    let rows = sqlx::raw_sql(sql).fetch_all(connection).await;
    let checks = rows.and_then(|rows| rows.iter().map(|row| parse_row(check.name, row)).collect());
    match checks {
        Ok(checks) if Vec::is_empty(&checks) => {
            vec![Check::new(check.name, Status::Ok, check.ok_text)]
        }
        Ok(checks) => checks,
        Err(error) => {
            let says = format!("could not be looked at: {}", connection::reason(&error));
            vec![Check::new(check.name, on_error, says).remedy(STATEMENT_FAILED)]
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
