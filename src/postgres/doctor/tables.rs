//! The checks of games that cannot be read, and of rounds in the tables whose id or moment cannot be sent.

use std::collections::BTreeMap;

use sqlx::{AssertSqlSafe, PgConnection, Row, postgres::PgRow};
use tokio::sync::Mutex;

use crate::{
    postgres::{
        check::{Check, Status},
        connection,
        games::{self, GameQueries},
        round_queries::fails_of_data,
        rows,
        sql::sql,
        sqlstate,
    },
    stream::round::{Game, GameId},
};

/// Rounds of a table that are counted for each check.
const COUNTED_MAX: usize = 1_000;

/// Reads games by statements without parameters: a pooler may keep none that are prepared.
struct Games<'a>(Mutex<&'a mut PgConnection>);

impl Games<'_> {
    async fn rows(&self, sql: String) -> Result<Vec<PgRow>, sqlx::Error> {
        let mut connection = self.0.lock().await;
        sqlx::raw_sql(AssertSqlSafe(sql)).fetch_all(&mut **connection).await
    }
}

impl GameQueries for Games<'_> {
    type Error = sqlx::Error;

    async fn keys(&self) -> Result<Vec<GameId>, sqlx::Error> {
        let found = self.rows(sql!("game_keys").to_owned()).await?;
        found.iter().filter_map(|row| rows::game_id(row).map(Result::ok).transpose()).collect()
    }

    async fn games(
        &self,
        ids: Option<&[GameId]>,
        with_names: bool,
    ) -> Result<Vec<Game>, sqlx::Error> {
        let (numbers, texts) = ids.map(GameId::by_kind).unzip();
        let numbers = numbers.map(|ids| {
            let ids: Vec<_> = ids.iter().map(ToString::to_string).collect();
            format!("array[{}]", ids.join(", "))
        });
        let texts = texts.map(|ids| {
            let ids: Vec<_> =
                ids.iter().map(|id| format!("'{}'", id.replace('\'', "''"))).collect();
            format!("array[{}]", ids.join(", "))
        });
        let sql = games::query(sql!("games"), with_names)
            .replace("$1", numbers.as_deref().unwrap_or("null"));
        let sql = sql.replace("$2", texts.as_deref().unwrap_or("null"));
        let found = self.rows(sql).await?;
        found.iter().filter_map(|row| rows::game(row).transpose()).collect()
    }

    fn is_of_data(error: &sqlx::Error) -> bool {
        fails_of_data(error)
    }

    fn reason(error: &sqlx::Error) -> String {
        connection::reason(error)
    }
}

/// The games that cannot be read.
pub(super) async fn unreadable_games(connection: &mut PgConnection) -> Vec<Check> {
    let queries = Games(Mutex::new(connection));
    match queries.games(None, true).await {
        Err(error) if fails_of_data(&error) => {}
        _ => return Vec::new(),
    }
    let Ok(ids) = queries.keys().await else { return Vec::new() };
    let Ok((_, unreadable)) = games::read_each(&queries, &ids).await else { return Vec::new() };
    let check = |(id, reason): &(GameId, String)| {
        let says = format!("game {id} cannot be read ({reason}), so its rounds are skipped");
        let check = Check::new("games", Status::Failed, says);
        check.remedy("correct the slug and the type of this game")
    };
    unreadable.iter().map(check).collect()
}

/// The finished rounds of all attached tables whose id or moment cannot be sent.
pub(super) async fn unsendable_rounds(
    connection: &mut PgConnection,
    on_error: Status,
) -> Vec<Check> {
    let attached =
        "select a.id, a.relation::text as relation from datastream.attached a order by a.id";
    let Ok(tables) = sqlx::raw_sql(attached).fetch_all(&mut *connection).await else {
        return Vec::new();
    };
    let mut checks = Vec::new();
    for table in &tables {
        let (Ok(id), Ok(relation)) = (table.try_get("id"), table.try_get("relation")) else {
            continue;
        };
        checks.extend(of_table(connection, id, relation, on_error).await);
    }
    if checks.is_empty() && !tables.is_empty() {
        let says = "every finished round in the attached tables has an id and a finished_at that can be sent";
        checks.push(Check::new("rounds", Status::Ok, says));
    }
    checks
}

async fn of_table(
    connection: &mut PgConnection,
    id: i32,
    relation: &str,
    on_error: Status,
) -> Vec<Check> {
    let sql = format!(
        "select u.shown, u.reason from datastream.unsendable_rows({id}, {}) u",
        COUNTED_MAX + 1
    );
    let found = sqlx::raw_sql(AssertSqlSafe(sql)).fetch_all(connection).await;
    let found = match found {
        Ok(found) => found,
        Err(error) => return vec![failed(&error, relation, on_error)],
    };
    let mut by_reason: BTreeMap<&str, (usize, &str)> = BTreeMap::new();
    for row in &found {
        let (Ok(reason), Ok(shown)) = (row.try_get("reason"), row.try_get("shown")) else {
            continue;
        };
        by_reason.entry(reason).or_insert((0, shown)).0 += 1;
    }
    by_reason.iter().map(|(reason, found)| warning(reason, *found, relation)).collect()
}

fn warning(reason: &str, (count, shown): (usize, &str), relation: &str) -> Check {
    let count = if count > COUNTED_MAX { format!("over {COUNTED_MAX}") } else { count.to_string() };
    let reason = match reason {
        "bad_id" => {
            "the id is empty, longer than 200 bytes, not whole, or has characters that cannot be sent"
        }
        _ => "finished_at is out of range",
    };
    let says =
        format!("{count} finished rounds cannot be sent ({reason}), such as {shown} of {relation}");
    Check::new("rounds", Status::Warning, says).remedy("correct these rounds; serve skips them")
}

/// A large table may not be read within the session's time limit.
fn failed(error: &sqlx::Error, relation: &str, on_error: Status) -> Check {
    let code = error.as_database_error().and_then(|error| error.code());
    if code.as_deref() == Some(sqlstate::QUERY_CANCELED) {
        let says = format!(
            "{relation} was not read to its end within 10 s: its ids and finished_at were not checked"
        );
        return Check::new("rounds", Status::Skipped, says);
    }
    let says = format!(
        "the ids and finished_at of {relation} could not be checked: {}",
        connection::reason(error)
    );
    Check::new("rounds", on_error, says).remedy(super::STATEMENT_FAILED)
}
