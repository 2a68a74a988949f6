//! The check of rounds that cannot be sent. One that PostgreSQL cannot read makes a statement fail, so
//! halving finds it, and the others are checked without it.

use sqlx::{AssertSqlSafe, PgConnection, Row};

use super::{SqlCheck, run_check};
use crate::postgres::{
    check::{Check, Status},
    connection,
    round_queries::fails_of_data,
    sql::sql,
};

const CHECK: SqlCheck =
    SqlCheck { name: "rounds", sql: sql!("doctor/rounds"), ok_text: "the last 1000 rounds can be sent" };
const NEWEST: &str = sql!("doctor/newest");
const READ: &str = sql!("doctor/readable_rounds");

/// A row of the outbox: its attachment, `round_id` and `round_key`.
type Name = (i32, i64, String);

/// The findings about the newest rounds.
pub(super) async fn check(connection: &mut PgConnection, on_error: Status) -> Vec<Check> {
    let names = match run(connection, NEWEST).await {
        Err(error) if fails_of_data(&error) => names(connection).await.ok(),
        _ => None,
    };
    let Some(names) = names else {
        return run_check(connection, &CHECK, NEWEST, on_error).await;
    };
    let (unreadable, readable) = split(connection, &names).await;
    let mut checks = Vec::new();
    if let Some(((_, id, key), reason)) = unreadable.first() {
        let shown = if key.is_empty() { id.to_string() } else { key.clone() };
        let table = table(connection, &unreadable).await;
        let says = format!(
            "{} finished rounds cannot be read ({reason}), such as {shown} of {table}",
            unreadable.len()
        );
        let remedy = "correct or delete these rounds; serve skips them";
        checks.push(Check::new(CHECK.name, Status::Failed, says).remedy(remedy));
    }
    if !readable.is_empty() {
        let others = run_check(connection, &CHECK, &values(&readable), on_error).await;
        checks.extend(others.into_iter().filter(|check| check.status != Status::Ok));
    }
    checks
}

/// Those that cannot be read with PostgreSQL's reason, and the others.
async fn split(
    connection: &mut PgConnection,
    names: &[Name],
) -> (Vec<(Name, String)>, Vec<Name>) {
    let (mut unreadable, mut readable, mut pending) = (Vec::new(), Vec::new(), vec![names]);
    while let Some(names) = pending.pop() {
        match (run(connection, &values(names)).await, names) {
            (Ok(()), names) => readable.extend_from_slice(names),
            (Err(error), [name]) => unreadable.push((name.clone(), connection::reason(&error))),
            (Err(error), names) if fails_of_data(&error) => {
                let (first, second) = names.split_at(names.len() / 2);
                pending.extend([second, first]);
            }
            // Nothing is known of these.
            (Err(_), _) => {}
        }
    }
    (unreadable, readable)
}

async fn run(connection: &mut PgConnection, with: &str) -> Result<(), sqlx::Error> {
    let sql = AssertSqlSafe(format!("{with} {READ}"));
    sqlx::raw_sql(sql).fetch_all(connection).await.map(drop)
}

async fn names(connection: &mut PgConnection) -> Result<Vec<Name>, sqlx::Error> {
    let sql = AssertSqlSafe(format!("{NEWEST} {}", sql!("doctor/round_names")));
    let rows = sqlx::raw_sql(sql).fetch_all(connection).await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?))).collect()
}

async fn table(connection: &mut PgConnection, unreadable: &[(Name, String)]) -> String {
    let of = unreadable.first().map_or(0, |((attachment, ..), _)| *attachment);
    let sql = AssertSqlSafe(format!("select relation::text from datastream.attached where id = {of}"));
    let row = sqlx::raw_sql(sql).fetch_one(connection).await;
    row.and_then(|row| row.try_get(0)).unwrap_or_default()
}

/// These names in the place of the newest.
fn values(names: &[Name]) -> String {
    let value = |(attachment, id, key): &Name| {
        format!("({attachment}, {id}::bigint, '{}'::text)", key.replace('\'', "''"))
    };
    let values: Vec<_> = names.iter().map(value).collect();
    format!("with newest(attachment, round_id, round_key) as (values {})", values.join(", "))
}
