//! The check of games that PostgreSQL cannot read.

use sqlx::{AssertSqlSafe, PgConnection, Row};

use crate::postgres::{
    check::{Check, Status},
    connection,
    round_queries::fails_of_data,
    sql::sql,
};

const NAME: &str = "games";
/// Read together; each one that cannot be read is then found by itself.
const ALL: &str = sql!("doctor/readable_games");

/// A finding if one cannot be read. The check of ids and slugs says that all is well.
pub(super) async fn check(connection: &mut PgConnection) -> Option<Check> {
    let error = run(connection, ALL).await.err().filter(fails_of_data)?;
    let reason = connection::reason(&error);
    let (mut unreadable, mut first) = (0, None);
    for id in ids(connection).await.ok()? {
        let one = format!("{ALL} where coalesce(g.game_id::text, g.game_key) = {}", quoted(&id));
        if run(connection, &one).await.is_err() {
            unreadable += 1;
            first.get_or_insert(id);
        }
    }
    let such_as = first.map(|id| format!(", such as {id}")).unwrap_or_default();
    let says = format!("{unreadable} games cannot be read ({reason}){such_as}");
    let remedy = "correct these games; serve lists them without their name, or not at all";
    Some(Check::new(NAME, Status::Failed, says).remedy(remedy))
}

async fn run(connection: &mut PgConnection, sql: &str) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).fetch_all(connection).await.map(drop)
}

/// At most 1,000: each costs a query.
async fn ids(connection: &mut PgConnection) -> Result<Vec<String>, sqlx::Error> {
    let sql =
        "select coalesce(g.game_id::text, g.game_key) from datastream.attached_games g limit 1000";
    let rows = sqlx::raw_sql(sql).fetch_all(connection).await?;
    rows.iter().map(|row| row.try_get(0)).collect()
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
