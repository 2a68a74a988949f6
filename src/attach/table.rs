//! What is asked of a table before it is touched: whether it is there, who holds it, whose ids it
//! shares.

use sqlx::{AssertSqlSafe, PgConnection, Row};

use super::{AttachError, AttachOptions};
use crate::database::{self, Contention};

/// A transaction that has had a table for longer will go on for longer: the batch job, the
/// forgotten psql. Shorter ones are waited for, two seconds at a time.
const LONG: f64 = 5.0;
/// Looks at ids read whole indexes, if need be: a help, not a duty.
const LOOK_WITHIN: &str = "set local statement_timeout = '5s'";
/// Beyond it a JSON number is not exact in JavaScript (2^53).
const EXACT_MAX: i64 = 1 << 53;

/// The table's full name, quoted where it must be.
pub(super) async fn qualified(
    connection: &mut PgConnection,
    table: &str,
) -> Result<String, AttachError> {
    let schema = "select has_schema_privilege(n.oid, 'usage') and to_regprocedure( \
        'datastream.index_sql(regclass, boolean)') is not null \
        from pg_namespace n where n.nspname = 'datastream'";
    let schema: Option<bool> = sqlx::query_scalar(schema).fetch_optional(&mut *connection).await?;
    if schema != Some(true) {
        return Err(AttachError::NoSchema);
    }
    let name = "select datastream.qualified(to_regclass($1))";
    let name: Option<String> = sqlx::query_scalar(name).bind(table).fetch_one(connection).await?;
    name.ok_or_else(|| AttachError::NoTable(table.to_owned()))
}

/// Runs the task until no lock is in its way; at last says who holds the table.
pub(super) async fn with_patience<T>(
    table: &str,
    connection: &mut PgConnection,
    task: impl AsyncFn(&mut PgConnection) -> Result<T, AttachError>,
) -> Result<T, AttachError> {
    match database::with_patience(async || task(connection).await).await {
        Err(error) if error.is_contention() => {
            let holders = holders(connection, table, true, 0.0).await?;
            if holders.is_empty() {
                return Err(error);
            }
            Err(AttachError::Held { table: table.to_owned(), holders })
        }
        outcome => outcome,
    }
}

/// Hands what was made to whom the rest belongs, in the transaction in which it was made: the
/// server goes on reading.
pub(super) async fn adopt(connection: &mut PgConnection) -> Result<(), AttachError> {
    sqlx::raw_sql(include_str!("../../sql/adopt.sql")).execute(connection).await?;
    Ok(())
}

/// Refuses where a transaction has held the table for long.
pub(super) async fn refuse_held(
    connection: &mut PgConnection,
    table: &str,
    by_readers_too: bool,
) -> Result<(), AttachError> {
    let holders = holders(connection, table, by_readers_too, LONG).await?;
    if holders.is_empty() {
        return Ok(());
    }
    Err(AttachError::Held { table: table.to_owned(), holders })
}

/// Who has held the table for so many seconds, for people; empty where nobody is seen to.
pub(super) async fn holders(
    connection: &mut PgConnection,
    table: &str,
    by_readers_too: bool,
    seconds: f64,
) -> Result<String, AttachError> {
    let query = sqlx::query(include_str!("../../sql/table_holders.sql"));
    let query = query.bind(table).bind(by_readers_too).bind(seconds);
    let rows = query.fetch_all(connection).await?;
    let holders = rows.iter().map(|row| {
        let who: String = row.try_get("who")?;
        let since: String = row.try_get("since")?;
        let seconds: i64 = row.try_get("seconds")?;
        Ok(format!("{who} since {since} ({seconds} s)"))
    });
    Ok(holders.collect::<Result<Vec<_>, sqlx::Error>>()?.join(", "))
}

/// Looks at the ids of rounds here and in the other attached tables.
pub(super) async fn look_at_ids(
    connection: &mut PgConnection,
    table: &str,
    options: &AttachOptions,
) -> Result<(), AttachError> {
    let id = options.id.as_deref().unwrap_or("id");
    let [max, others] = [
        "select format('select max(%I)::bigint from %s', $2, $1)",
        "select format('select a.%1$I::bigint from %2$s a join %3$s b on a.%1$I = b.%4$I limit 1', $2, $1, \
             a.relation, a.options->>'id') || ' -- ' || a.relation \
         from datastream.attached a where a.relation <> $1 and to_regclass(a.relation) is not null",
    ]
    .map(|query| sqlx::query_scalar::<_, String>(query).bind(table).bind(id));
    let max = max.fetch_one(&mut *connection).await?;
    if look(connection, &max).await.is_some_and(|max| max > EXACT_MAX) {
        tracing::warn!("{table} has ids beyond 2^53, which JavaScript does not read exactly");
    }
    for query in others.fetch_all(&mut *connection).await? {
        let Some(id) = look(connection, &query).await else { continue };
        let other = query.rsplit(" -- ").next().unwrap_or_default().to_owned();
        return Err(AttachError::Collision { table: table.to_owned(), other, id });
    }
    Ok(())
}

/// One number, if it is found in time.
async fn look(connection: &mut PgConnection, query: &str) -> Option<i64> {
    use sqlx::Connection;
    let mut transaction = connection.begin().await.ok()?;
    sqlx::query(LOOK_WITHIN).execute(&mut *transaction).await.ok()?;
    let query = sqlx::query_scalar::<_, Option<i64>>(AssertSqlSafe(query.to_owned()));
    let found = query.fetch_optional(&mut *transaction).await;
    let _ = transaction.rollback().await;
    match found {
        Ok(found) => found.flatten(),
        Err(error) => {
            tracing::warn!("ids were not compared: {}", database::reason(&error));
            None
        }
    }
}

/// Says where two games have the same id or the same slug, and where rounds are not found by
/// their ids, or a game's latest one, at once: of this table, or of all that are attached.
pub(crate) async fn warn(
    connection: &mut PgConnection,
    table: Option<&str>,
) -> Result<(), sqlx::Error> {
    for row in sqlx::query(include_str!("../../sql/warnings.sql"))
        .bind(table)
        .fetch_all(connection)
        .await?
    {
        tracing::warn!("{}", row.try_get::<&str, _>("warning")?);
    }
    Ok(())
}
