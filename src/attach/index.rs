//! The seed index of an attached table, built while the game goes on.

use sqlx::{AssertSqlSafe, PgConnection};

use super::{AttachError, table};

/// What an interrupted CONCURRENTLY left behind: it would count as "already there".
const INVALID: &str = "select format('drop index concurrently %s', i.indexrelid::regclass) \
    from pg_index i join pg_class c on c.oid = i.indexrelid \
    where not i.indisvalid and c.relkind = 'i' and c.relname like 'datastream\\_latest\\_%' \
    and i.indrelid in (select to_regclass($1) union all \
        select t.relid from pg_partition_tree(to_regclass($1)) t)";

/// Builds what is missing; the statements run.
pub(super) async fn build(
    connection: &mut PgConnection,
    name: &str,
) -> Result<Vec<String>, AttachError> {
    let mut statements: Vec<String> =
        sqlx::query_scalar(INVALID).bind(name).fetch_all(&mut *connection).await?;
    statements.extend(missing(connection, name).await?);
    for statement in &statements {
        tracing::info!("{statement}");
        table::with_patience(name, connection, async |connection| run(connection, statement).await)
            .await?;
    }
    Ok(statements)
}

/// The statements that build it; none where it is there and whole.
async fn missing(connection: &mut PgConnection, table: &str) -> Result<Vec<String>, AttachError> {
    let whole = "select exists (select from pg_index i join pg_depend d on d.objid = i.indexrelid \
        and d.classid = 'pg_class'::regclass and d.refclassid = 'pg_proc'::regclass \
        and d.refobjid = 'datastream.is_finished(anyelement)'::regprocedure \
        where i.indrelid = $1::text::regclass and i.indisvalid)";
    if sqlx::query_scalar(whole).bind(table).fetch_one(&mut *connection).await? {
        return Ok(Vec::new());
    }
    let sql = "select datastream.index_sql($1::text::regclass)";
    Ok(sqlx::query_scalar(sql).bind(table).fetch_all(connection).await?)
}

/// CONCURRENTLY waits for old transactions without making anybody wait, so it may take its time;
/// the other statements (a parent's index, a partition's) need a lock that writers would queue for.
pub(super) fn lock_timeout(statement: &str) -> &'static str {
    if statement.contains(" concurrently ") { "0" } else { "2s" }
}

async fn run(connection: &mut PgConnection, statement: &str) -> Result<(), AttachError> {
    let set = format!("set lock_timeout = '{}'", lock_timeout(statement));
    sqlx::query(AssertSqlSafe(set)).execute(&mut *connection).await?;
    sqlx::query(AssertSqlSafe(statement.to_owned())).execute(connection).await?;
    Ok(())
}
