//! Checks of a table before it changes: whether it exists, its lock holders, and its largest id.

use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};

use super::{AttachError, AttachOptions};
use crate::postgres::lock_retry::{self, Contention};

/// A transaction that has held a lock for longer is likely a batch job or a forgotten psql, and
/// keeps it. For shorter ones each attempt waits two seconds.
const LONG_HELD_SECS: f64 = 5.0;
/// Without an index, `max(id)` reads the whole table. The check is optional, so it has a limit.
const ID_SCAN_TIMEOUT: &str = "set local statement_timeout = '5s'";
/// The greatest integer of which JavaScript knows every smaller one (`Number.MAX_SAFE_INTEGER`).
const EXACT_MAX: i64 = (1 << 53) - 1;

/// The table's qualified name, as an SQL identifier.
pub(super) async fn qualified(
    connection: &mut PgConnection,
    table: &str,
) -> Result<String, AttachError> {
    check_schema(connection).await?;
    let name = "select datastream.qualified(to_regclass($1))";
    let name: Option<String> = sqlx::query_scalar(name).bind(table).fetch_one(connection).await?;
    name.ok_or_else(|| AttachError::NoTable(table.to_owned()))
}

/// Fails unless the schema `datastream` exists, has this version, and this role may use it.
async fn check_schema(connection: &mut PgConnection) -> Result<(), AttachError> {
    let schema = "select has_schema_privilege(n.oid, 'usage') as usable, \
        quote_ident(pg_get_userbyid(n.nspowner)) as owner, quote_ident(current_user) as role, \
        case when has_schema_privilege(n.oid, 'usage') \
          then to_regprocedure('datastream.index_sql(regclass, boolean)') is not null end as complete \
        from pg_namespace n where n.nspname = 'datastream'";
    let row = sqlx::query(schema).fetch_optional(connection).await?.ok_or(AttachError::NoSchema)?;
    if !row.try_get::<bool, _>("usable")? {
        let (owner, role) = (row.try_get("owner")?, row.try_get("role")?);
        return Err(AttachError::NotPermitted { owner, role });
    }
    row.try_get::<bool, _>("complete")?.then_some(()).ok_or(AttachError::NoSchema)
}

/// Whether there is a schema `datastream` of another version.
pub(super) async fn has_other_schema(connection: &mut PgConnection) -> Result<bool, AttachError> {
    let outbox = "select exists (select from pg_class c join pg_namespace n on n.oid = c.relnamespace \
        where n.nspname = 'datastream' and c.relname in ('outbox', 'attached'))";
    Ok(sqlx::query_scalar(outbox).fetch_one(connection).await?)
}

/// Runs the task with retries after lock timeouts. The last failure names the lock holders.
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

/// The comment in the file says what it does.
pub(super) const ADOPT: &str = include_str!("../../../sql/adopt.sql");

/// Gives the new objects to the schema's owner, in the transaction that created them, so that the
/// server can read them at any time.
pub(super) async fn hand_to_schema_owner(connection: &mut PgConnection) -> Result<(), AttachError> {
    sqlx::raw_sql(ADOPT).execute(connection).await?;
    Ok(())
}

/// Fails if a transaction has held a lock on the table for long.
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

/// The sessions that have held a lock on the table for this long, as text. Empty if none is visible.
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
        let holder: String = row.try_get("holder")?;
        let since: String = row.try_get("since")?;
        let seconds: i64 = row.try_get("seconds")?;
        Ok(format!("{holder} since {since} ({seconds} s)"))
    });
    Ok(holders.collect::<Result<Vec<_>, sqlx::Error>>()?.join(", "))
}

/// Logs a warning if ids that are sent as numbers are too large for JavaScript.
pub(super) async fn warn_of_large_ids(
    connection: &mut PgConnection,
    table: &str,
    options: &AttachOptions,
) -> Result<(), AttachError> {
    let query = "select pg_catalog.format('select max(%I)::bigint from %s', o->'id'->>0, $1) \
        from datastream.with_defaults($1::text::regclass, '{\"id\": [\"id\"]}' || jsonb_strip_nulls($2::text::jsonb)) o \
        where datastream.has_numbers($1::text::regclass, o)";
    let query = sqlx::query_scalar(query).bind(table).bind(options.mapping().to_string());
    let Some(query) = query.fetch_optional(&mut *connection).await? else { return Ok(()) };
    if max_id(connection, query).await.is_ok_and(|max| max.is_some_and(|max| max > EXACT_MAX)) {
        tracing::warn!(
            "{table} has ids above 2^53 - 1, which JavaScript cannot represent exactly. Pass --id-text to \
             send ids as strings."
        );
    }
    Ok(())
}

/// The result of the query, if it ends within the limit.
async fn max_id(connection: &mut PgConnection, query: String) -> Result<Option<i64>, sqlx::Error> {
    let mut transaction = connection.begin().await?;
    sqlx::query(ID_SCAN_TIMEOUT).execute(&mut *transaction).await?;
    let greatest = sqlx::query_scalar(AssertSqlSafe(query)).fetch_one(&mut *transaction).await;
    transaction.rollback().await?;
    greatest
}

/// Logs missing indexes, and ids and slugs that two games share, of this table or of all attached
/// tables.
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
