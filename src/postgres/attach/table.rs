//! What is asked of a table before it is touched: whether it is there, who holds it, how large its
//! ids are.

use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};

use super::{AttachError, AttachOptions};
use crate::postgres::lock_retry::{self, Contention};

/// A transaction that has had a table for longer will go on for longer: the batch job, the
/// forgotten psql. Shorter ones are waited for, two seconds at a time.
const LONG_HELD_SECS: f64 = 5.0;
/// A look at ids without an index reads the whole table: a help, not a duty.
const ID_SCAN_TIMEOUT: &str = "set local statement_timeout = '5s'";
/// Beyond it a JSON number is not exact in JavaScript (2^53).
const EXACT_MAX: i64 = 1 << 53;

/// The table's full name, quoted where it must be.
pub(super) async fn qualified(
    connection: &mut PgConnection,
    table: &str,
) -> Result<String, AttachError> {
    check_schema(connection).await?;
    let name = "select datastream.qualified(to_regclass($1))";
    let name: Option<String> = sqlx::query_scalar(name).bind(table).fetch_one(connection).await?;
    name.ok_or_else(|| AttachError::NoTable(table.to_owned()))
}

/// An error unless our schema is there, of this version, and for this role.
async fn check_schema(connection: &mut PgConnection) -> Result<(), AttachError> {
    let schema = "select has_schema_privilege(n.oid, 'usage') as usable, \
        quote_ident(pg_get_userbyid(n.nspowner)) as owner, quote_ident(current_user) as role, \
        case when has_schema_privilege(n.oid, 'usage') \
          then to_regprocedure('datastream.index_sql(regclass, boolean)') is not null end as whole \
        from pg_namespace n where n.nspname = 'datastream'";
    let row = sqlx::query(schema).fetch_optional(connection).await?.ok_or(AttachError::NoSchema)?;
    if !row.try_get::<bool, _>("usable")? {
        let (owner, role) = (row.try_get("owner")?, row.try_get("role")?);
        return Err(AttachError::NotPermitted { owner, role });
    }
    row.try_get::<bool, _>("whole")?.then_some(()).ok_or(AttachError::NoSchema)
}

/// Runs the task until no lock is in its way; at last says who holds the table.
pub(super) async fn with_lock_retries<T>(
    table: &str,
    connection: &mut PgConnection,
    task: impl AsyncFn(&mut PgConnection) -> Result<T, AttachError>,
) -> Result<T, AttachError> {
    match lock_retry::with_lock_retries(async || task(connection).await).await {
        Err(error) if error.is_contention() => {
            let holders = lock_holders(connection, table, true, 0.0).await?;
            if holders.is_empty() {
                return Err(error);
            }
            Err(AttachError::Locked { table: table.to_owned(), holders })
        }
        outcome => outcome,
    }
}

/// See the file's head.
pub(super) const ADOPT: &str = include_str!("../../../sql/adopt.sql");

/// Hands what was made to whom the rest belongs, in the transaction in which it was made: the
/// server goes on reading.
pub(super) async fn hand_to_schema_owner(connection: &mut PgConnection) -> Result<(), AttachError> {
    sqlx::raw_sql(ADOPT).execute(connection).await?;
    Ok(())
}

/// Refuses where a transaction has held the table for long.
pub(super) async fn refuse_if_locked(
    connection: &mut PgConnection,
    table: &str,
    include_readers: bool,
) -> Result<(), AttachError> {
    let holders = lock_holders(connection, table, include_readers, LONG_HELD_SECS).await?;
    if holders.is_empty() {
        return Ok(());
    }
    Err(AttachError::Locked { table: table.to_owned(), holders })
}

/// Who has held the table for so many seconds, for people; empty where nobody is seen to.
pub(super) async fn lock_holders(
    connection: &mut PgConnection,
    table: &str,
    include_readers: bool,
    seconds: f64,
) -> Result<String, AttachError> {
    let query = sqlx::query(include_str!("../../../sql/table_holders.sql"));
    let query = query.bind(table).bind(include_readers).bind(seconds);
    let rows = query.fetch_all(connection).await?;
    let holders = rows.iter().map(|row| {
        let who: String = row.try_get("who")?;
        let since: String = row.try_get("since")?;
        let seconds: i64 = row.try_get("seconds")?;
        Ok(format!("{who} since {since} ({seconds} s)"))
    });
    Ok(holders.collect::<Result<Vec<_>, sqlx::Error>>()?.join(", "))
}

/// Ids of rounds that a client in JavaScript would not read exactly are told.
pub(super) async fn warn_of_large_ids(
    connection: &mut PgConnection,
    table: &str,
    options: &AttachOptions,
) -> Result<(), AttachError> {
    let id = options.id.as_deref().unwrap_or("id");
    let query = "select pg_catalog.format('select max(%I)::bigint from %s', $2, $1)";
    let query: String =
        sqlx::query_scalar(query).bind(table).bind(id).fetch_one(&mut *connection).await?;
    if max_id(connection, query).await.is_ok_and(|max| max.is_some_and(|max| max > EXACT_MAX)) {
        tracing::warn!("{table} has ids beyond 2^53, which JavaScript does not read exactly");
    }
    Ok(())
}

/// One number, if it is found in time.
async fn max_id(connection: &mut PgConnection, query: String) -> Result<Option<i64>, sqlx::Error> {
    let mut transaction = connection.begin().await?;
    sqlx::query(ID_SCAN_TIMEOUT).execute(&mut *transaction).await?;
    let greatest = sqlx::query_scalar(AssertSqlSafe(query)).fetch_one(&mut *transaction).await;
    transaction.rollback().await?;
    greatest
}

/// Says where two games have the same id or the same slug, and where rounds are not found by
/// their ids, or a game's latest one, at once: of this table, or of all that are attached.
pub(crate) async fn log_warnings(
    connection: &mut PgConnection,
    table: Option<&str>,
) -> Result<(), sqlx::Error> {
    for row in sqlx::query(include_str!("../../../sql/warnings.sql"))
        .bind(table)
        .fetch_all(connection)
        .await?
    {
        tracing::warn!("{}", row.try_get::<&str, _>("warning")?);
    }
    Ok(())
}
