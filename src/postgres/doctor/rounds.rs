//! The check of rounds that cannot be sent. One that PostgreSQL cannot read makes a statement fail, so
//! halving finds it, and the others are checked without it.

use sqlx::{AssertSqlSafe, PgConnection, Row};

use super::run_sql;
use crate::{
    ops::halves::Halves,
    postgres::{
        check::{Check, Status},
        connection,
        read_only::{IdTypes, OperatorQueries},
        round_queries::fails_of_data,
        sql::sql,
    },
};

const NAME: &str = "rounds";
const OK_TEXT: &str = "the extras of the last 1000 rounds can be sent";

/// A row of the outbox: its attachment, `round_id` and `round_key`.
type Name = (i32, i64, String);

/// The statements of the check.
pub(super) struct RoundsCheck {
    /// What comes before the names of the rounds.
    with: String,
    newest: String,
    /// Reads what is sent of the rounds.
    read: String,
    /// Its rows are the findings.
    findings: String,
    /// The table of all rounds; none if their attachments tell.
    table: Option<&'static str>,
}

impl RoundsCheck {
    /// Of the rounds that the outbox names.
    pub(super) fn of_outbox() -> Self {
        Self {
            with: "with ".to_owned(),
            newest: sql!("doctor/newest").to_owned(),
            read: sql!("doctor/readable_rounds").to_owned(),
            findings: sql!("doctor/rounds").to_owned(),
            table: None,
        }
    }

    /// Of the operator's queries.
    pub(super) async fn read_only(
        connection: &mut PgConnection,
        source: &OperatorQueries,
    ) -> Result<Self, sqlx::Error> {
        let sql = AssertSqlSafe(source.query(sql!("read_only/zoned")));
        let row = sqlx::raw_sql(sql).fetch_one(connection).await?;
        let types = IdTypes::of(row.try_get("round_type")?, row.try_get("game_type")?);
        let types = types.in_encoding(row.try_get("encoding")?);
        source.set_id_types(types);
        Ok(Self {
            with: source.query(", "),
            newest: types.fill(sql!("doctor/read_only_newest")),
            read: types.fill(sql!("doctor/read_only_readable_rounds")),
            findings: types.fill(sql!("doctor/read_only_rounds")),
            table: Some("DATASTREAM_READ_ONLY_ROUNDS"),
        })
    }

    /// The findings about the newest rounds.
    pub(super) async fn run(&self, connection: &mut PgConnection, on_error: Status) -> Vec<Check> {
        let names = match self.read(connection, &self.newest).await {
            Err(error) if fails_of_data(&error) => self.names(connection).await.ok(),
            _ => None,
        };
        let Some(names) = names else {
            return self.findings(connection, &self.newest, on_error).await;
        };
        let (unreadable, readable) = self.split(connection, &names).await;
        let mut checks: Vec<Check> =
            self.report(connection, &unreadable).await.into_iter().collect();
        let others = self.findings(connection, &values(&readable), on_error).await;
        checks.extend(others.into_iter().filter(|check| check.status != Status::Ok));
        checks
    }

    async fn findings(
        &self,
        connection: &mut PgConnection,
        newest: &str,
        on_error: Status,
    ) -> Vec<Check> {
        let sql = format!("{}{newest} {}", self.with, self.findings);
        run_sql(connection, NAME, sql, OK_TEXT, on_error).await
    }

    async fn read(&self, connection: &mut PgConnection, newest: &str) -> Result<(), sqlx::Error> {
        let sql = AssertSqlSafe(format!("{}{newest} {}", self.with, self.read));
        sqlx::raw_sql(sql).fetch_all(connection).await.map(drop)
    }

    async fn names(&self, connection: &mut PgConnection) -> Result<Vec<Name>, sqlx::Error> {
        let names = sql!("doctor/round_names");
        let sql = AssertSqlSafe(format!("{}{} {names}", self.with, self.newest));
        let rows = sqlx::raw_sql(sql).fetch_all(connection).await?;
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?))).collect()
    }

    /// Those that cannot be read with PostgreSQL's reason, and the others.
    async fn split(
        &self,
        connection: &mut PgConnection,
        names: &[Name],
    ) -> (Vec<(Name, String)>, Vec<Name>) {
        let (mut unreadable, mut readable) = (Vec::new(), Vec::new());
        let mut halves = Halves::of(names);
        while let Some(part) = halves.next_part() {
            match (self.read(connection, &values(part)).await, part) {
                (Ok(()), part) => readable.extend_from_slice(part),
                (Err(error), [name]) => unreadable.push((name.clone(), connection::reason(&error))),
                (Err(error), part) if fails_of_data(&error) => {
                    halves.split(part);
                }
                // Nothing is known of these.
                (Err(_), _) => {}
            }
        }
        (unreadable, readable)
    }

    async fn report(
        &self,
        connection: &mut PgConnection,
        unreadable: &[(Name, String)],
    ) -> Option<Check> {
        let ((attachment, id, key), reason) = unreadable.first()?;
        let shown = if key.is_empty() { id.to_string() } else { key.clone() };
        let table = match self.table {
            Some(table) => table.to_owned(),
            None => table_of(connection, *attachment).await,
        };
        let count = unreadable.len();
        let says = format!(
            "{count} finished rounds cannot be read ({reason}), such as {shown} of {table}"
        );
        let check = Check::new(NAME, Status::Failed, says);
        Some(check.remedy("correct or delete these rounds; serve skips them"))
    }
}

async fn table_of(connection: &mut PgConnection, attachment: i32) -> String {
    let sql = format!("select relation::text from datastream.attached where id = {attachment}");
    let row = sqlx::raw_sql(AssertSqlSafe(sql)).fetch_one(connection).await;
    row.and_then(|row| row.try_get(0)).unwrap_or_default()
}

/// These names in the place of the newest.
fn values(names: &[Name]) -> String {
    let value = |(attachment, id, key): &Name| {
        format!("({attachment}, {id}::bigint, '{}'::text)", key.replace('\'', "''"))
    };
    let values: Vec<_> = names.iter().map(value).collect();
    match values.is_empty() {
        true => {
            "newest(attachment, round_id, round_key) as (select 0, 0::bigint, ''::text where false)"
                .to_owned()
        }
        false => {
            format!("newest(attachment, round_id, round_key) as (values {})", values.join(", "))
        }
    }
}
