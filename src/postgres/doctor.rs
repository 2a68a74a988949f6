//! What is asked of the database: a file of SQL for each check, which answers with its lines.

use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};

use super::check::{Check, Status};
use crate::{
    postgres::{connection, pooler, read_only::Source, schema_version, target::PgTarget},
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
const CLOCK_APART: f64 = 1.0;

/// A check and the statement that makes it. No rows: all is well, and `well` says so.
struct Asked {
    name: &'static str,
    sql: &'static str,
    well: &'static str,
}

macro_rules! asked {
    ($name:literal, $file:literal, $well:literal) => {
        Asked {
            name: $name,
            sql: include_str!(concat!("../../sql/doctor/", $file, ".sql")),
            well: $well,
        }
    };
}

/// Of any server.
const SERVER: [Asked; 2] =
    [asked!("version", "version", ""), asked!("connections", "connections", "")];
/// Of one that listens: for the read-only mode a standby will do.
const PRIMARY: Asked = asked!("primary", "primary", "");
const READ_ONLY: Asked = asked!("read-only", "read_only", "");

const SCHEMA: Asked = asked!("schema", "schema", "");
/// Of who may not even use our schema, too: it reads nothing of it.
const RIGHTS: Asked = asked!("rights", "rights", "");
const WHOLE: Asked = asked!("schema", "whole", "the schema datastream is there, and whole");

/// Of what is attached.
const OURS: [Asked; 13] = [
    asked!("attached", "attached", ""),
    asked!("readable", "readable", "the views see all rounds"),
    asked!("subscriber", "subscriber", "no logical subscription writes rounds"),
    asked!("publications", "publications", "no publication sends our tables"),
    asked!("ids", "ids", "no two tables are near to giving the same ids"),
    asked!("games", "games", "each game has an id and a slug of its own"),
    asked!("index", "index", "no table is there to be indexed"),
    asked!("recorded", "recorded", ""),
    asked!("capture", "capture", ""),
    asked!("queue", "queue", ""),
    asked!("outbox", "outbox", ""),
    asked!("transactions", "transactions", "no transaction is open for long"),
    asked!("prepared", "prepared", ""),
];

/// What the files read of the attached tables.
const ATTACHED: &str = include_str!("../../sql/doctor/attached_tables.sql");
/// Where a statement failed that nothing else explains.
const UNKNOWN: &str = "mend what PostgreSQL says here, which serve meets as well; after a timeout, run datastream doctor \
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
        Some(source) => ask_read_only(&mut connection, source).await,
        None => ask(&mut connection, retention).await,
    });
    checks.push(clock(&mut connection).await);
    let _closed = connection.close().await;
    checks
}

/// How far the two clocks are apart, at least: what the question took is not held against them.
async fn clock(connection: &mut PgConnection) -> Check {
    let before = seconds();
    let there = "select extract(epoch from clock_timestamp())::double precision";
    let there = sqlx::raw_sql(there).fetch_one(connection).await;
    let there = there.and_then(|row| row.try_get::<f64, _>(0));
    let after = seconds();
    match there {
        Err(error) => Check::new("clock", Status::Skipped, connection::reason(&error)),
        Ok(there) => {
            let apart = (there - after).max(before - there).max(0.0);
            let status = if apart > CLOCK_APART { Status::Warning } else { Status::Ok };
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
async fn ask(connection: &mut PgConnection, retention: Duration) -> Vec<Check> {
    let mut checks = of_server(connection).await;
    checks.extend(lines(connection, &PRIMARY, "", Status::Failed).await);
    let schema = lines(connection, &SCHEMA, "", Status::Failed).await;
    if !are_well(&schema) {
        return [checks, schema].concat();
    }
    let rights = lines(connection, &RIGHTS, "", Status::Failed).await;
    // Without the rights the rest cannot be looked at, and that is said once.
    let unseen = if are_well(&rights) { Status::Failed } else { Status::Skipped };
    checks.extend(rights);
    if let Some(version) = schema_version(connection).await {
        let is_usable = version.status != Status::Failed;
        checks.push(version);
        if !is_usable {
            return checks;
        }
    }
    let retention = retention.as_secs();
    let with = format!("{ATTACHED}, told as (select interval '{retention} s' as retention) ");
    let whole = lines(connection, &WHOLE, &with, unseen).await;
    let is_whole = are_well(&whole);
    checks.extend(whole);
    for asked in OURS.iter().filter(|_| is_whole) {
        checks.extend(lines(connection, asked, &with, unseen).await);
    }
    checks
}

/// Whether this program knows the migrations of the database. None if that cannot be read: the
/// checks around it say why.
async fn schema_version(connection: &mut PgConnection) -> Option<Check> {
    let rows = sqlx::raw_sql(schema_version::QUERY).fetch_all(connection).await.ok()?;
    let applied: Result<Vec<(i64, bool)>, sqlx::Error> =
        rows.iter().map(|row| Ok((row.try_get("version")?, row.try_get("compatible")?))).collect();
    let verdict = schema_version::verdict(&applied.ok()?);
    let remedy = verdict.remedy();
    let status = if remedy.is_some() { Status::Failed } else { Status::Ok };
    let check = Check::new("migrations", status, verdict.to_string());
    Some(check.remedy(remedy.unwrap_or_default()))
}

/// What the read-only mode takes, which reads by the operator's own queries.
async fn ask_read_only(connection: &mut PgConnection, source: &Source) -> Vec<Check> {
    let mut checks = of_server(connection).await;
    checks.extend(lines(connection, &READ_ONLY, &source.query(""), Status::Failed).await);
    checks
}

async fn of_server(connection: &mut PgConnection) -> Vec<Check> {
    let mut checks = Vec::new();
    for asked in &SERVER {
        checks.extend(lines(connection, asked, "", Status::Failed).await);
    }
    checks
}

/// Whether nothing failed.
fn are_well(checks: &[Check]) -> bool {
    checks.iter().all(|check| check.status != Status::Failed)
}

/// What was found. A statement that fails leaves something unseen, and counts as `unseen`.
async fn lines(
    connection: &mut PgConnection,
    asked: &Asked,
    with: &str,
    unseen: Status,
) -> Vec<Check> {
    let sql = AssertSqlSafe(format!("{with}{}", asked.sql));
    let rows = sqlx::raw_sql(sql).fetch_all(connection).await;
    let checks = rows.and_then(|rows| rows.iter().map(|row| line(asked.name, row)).collect());
    match checks {
        Ok(checks) if Vec::is_empty(&checks) => {
            vec![Check::new(asked.name, Status::Ok, asked.well)]
        }
        Ok(checks) => checks,
        Err(error) => {
            let says = format!("could not be looked at: {}", connection::reason(&error));
            vec![Check::new(asked.name, unseen, says).remedy(UNKNOWN)]
        }
    }
}

fn line(name: &'static str, row: &sqlx::postgres::PgRow) -> Result<Check, sqlx::Error> {
    let status = match row.try_get("status")? {
        "ok" => Status::Ok,
        "warning" => Status::Warning,
        _ => Status::Failed,
    };
    let says: String = row.try_get("says")?;
    let remedy: Option<&str> = row.try_get("remedy")?;
    Ok(Check::new(name, status, says).remedy(remedy.unwrap_or_default()))
}
