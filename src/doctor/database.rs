//! What is asked of the database: a file of SQL for each check, which answers with its lines.

use std::time::Duration;

use sqlx::{AssertSqlSafe, PgConnection, Row};

use super::check::{Check, Status};
use crate::database;

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
const SERVER: [Asked; 4] = [
    asked!("version", "version", ""),
    asked!("primary", "primary", ""),
    asked!("connections", "connections", ""),
    asked!("schema", "schema", ""),
];

/// Of one that has our schema.
const OURS: [Asked; 12] = [
    asked!("rights", "rights", ""),
    asked!("attached", "attached", ""),
    asked!("readable", "readable", "the views see all rounds"),
    asked!("subscriber", "subscriber", "no logical subscription writes rounds"),
    asked!("games", "games", "each game has an id and a slug of its own"),
    asked!("index", "index", "no table is there to be indexed"),
    asked!("recorded", "recorded", ""),
    asked!("capture", "capture", ""),
    asked!("queue", "queue", ""),
    asked!("outbox", "outbox", ""),
    asked!("transactions", "transactions", "no transaction is open for long"),
    asked!("prepared", "prepared", ""),
];

/// What the files call `attached`: the attached tables with their oids, found without a right on
/// their schemas, which the reader has not.
const ATTACHED: &str = "with named as (select c.oid, format('%I.%I', n.nspname, c.relname) as name \
    from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.relkind in ('r', 'p', 'v', 'm', 'f')), \
    attached as (select a.*, t.oid, g.oid as games from datastream.attached a \
    left join named t on t.name = a.relation left join named g on g.name = a.options->>'games') ";

/// Asks it all. By PostgreSQL's simple protocol: a pooler in transaction mode mixes up what is
/// prepared on its connections.
pub(super) async fn ask(connection: &mut PgConnection, retention: Duration) -> Vec<Check> {
    let mut checks = Vec::new();
    for asked in &SERVER {
        checks.extend(lines(connection, asked, "").await);
    }
    if checks.iter().any(|check| check.name == "schema" && check.status != Status::Ok) {
        return checks;
    }
    let with =
        format!("{ATTACHED}, told as (select interval '{} s' as retention) ", retention.as_secs());
    for asked in &OURS {
        checks.extend(lines(connection, asked, &with).await);
    }
    checks
}

async fn lines(connection: &mut PgConnection, asked: &Asked, with: &str) -> Vec<Check> {
    let sql = AssertSqlSafe(format!("{with}{}", asked.sql));
    let rows = sqlx::raw_sql(sql).fetch_all(connection).await;
    let checks = rows.and_then(|rows| rows.iter().map(|row| line(asked.name, row)).collect());
    match checks {
        Ok(checks) if Vec::is_empty(&checks) => {
            vec![Check::new(asked.name, Status::Ok, asked.well)]
        }
        Ok(checks) => checks,
        Err(error) => {
            vec![Check::new(asked.name, Status::Skipped, database::reason(&error))]
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
