//! `--dry-run`: the SQL as a script for psql, which does the same as the program.

use sqlx::{AssertSqlSafe, Connection, PgConnection};

use super::{
    AttachError, AttachOptions, Report, SETTINGS, index, mapping, mapping_of_change,
    pending_statements, table,
};
use crate::postgres::{pooler, target::PgTarget};

/// The script for a database without the schema `datastream`. Functions of the schema compute the
/// rest of the script, so this runs the SQL of the schema in a transaction and rolls it back.
pub(crate) async fn plan_with_schema(
    target: &PgTarget,
    options: &AttachOptions,
    schema: &str,
) -> Result<Report, AttachError> {
    let mut connection = pooler::connect_alone(target, "attach", &SETTINGS).await?;
    let mut transaction = connection.begin().await?;
    sqlx::raw_sql(AssertSqlSafe(schema.to_owned())).execute(&mut *transaction).await?;
    let table = table::qualified(&mut transaction, &options.table).await?;
    let statements = pending_statements(&mut transaction, options).await?;
    let mapping = mapping_of_change(&mut transaction, &table, options, &statements).await?;
    let attaching = attach_script(&mut transaction, &table, options, &statements).await?;
    transaction.rollback().await?;
    let mapping = mapping::as_comment(&mapping);
    Ok(Report::Plan(format!("{mapping}{}{attaching}", in_transaction(schema))))
}

/// The SQL that attaches. `index_sql` reads the row of the attached table, so this inserts the row
/// in a transaction and rolls it back. It changes no table of the game.
pub(super) async fn attach_script(
    connection: &mut PgConnection,
    table: &str,
    options: &AttachOptions,
    statements: &[String],
) -> Result<String, AttachError> {
    let mut sql =
        if statements.is_empty() { String::new() } else { transaction_script(statements) };
    if options.index {
        let mut transaction = connection.begin().await?;
        for row in statements.iter().filter(|statement| is_attached_row(statement)) {
            sqlx::query(AssertSqlSafe(row.clone())).execute(&mut *transaction).await?;
        }
        let index = "select datastream.index_sql($1::text::regclass)";
        let index: Vec<String> =
            sqlx::query_scalar(index).bind(table).fetch_all(&mut *transaction).await?;
        transaction.rollback().await?;
        for statement in index {
            let limit = index::lock_timeout(&statement);
            sql.push_str(&format!("set lock_timeout = '{limit}';\n{statement};\n"));
        }
    }
    Ok(sql)
}

/// Whether the statement changes the row of the attached table. Of a renamed table two do: its name,
/// then its options.
fn is_attached_row(statement: &str) -> bool {
    ["update datastream.attached ", "insert into datastream.attached "]
        .iter()
        .any(|row| statement.starts_with(row))
}

/// The statements in one transaction, which also hands the new objects to the schema's owner.
pub(super) fn transaction_script(statements: &[String]) -> String {
    let body: String =
        statements.iter().map(|statement| format!("{};\n", statement.trim_end())).collect();
    in_transaction(&format!("{body}{}", table::ADOPT))
}

fn in_transaction(body: &str) -> String {
    format!("begin;\nset local lock_timeout = '2s';\n{body}commit;\n")
}
