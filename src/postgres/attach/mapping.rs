//! A mapping as the operator reads it, with one round as it will be streamed.

use serde_json::Value;
use sqlx::{Connection, PgConnection};

use super::{AttachError, AttachOptions};
use crate::{postgres::rows, stream::round::UnixMillis};

/// Without the seed index, a table without finished rounds is read to its end. The example is optional.
const EXAMPLE_WITHIN: &str = "set local statement_timeout = '5s'";
/// As the server's sessions render extras that are made of columns.
const RENDERED: &str = "set local timezone = 'UTC'; set local datestyle = 'ISO, MDY'; \
    set local intervalstyle = 'postgres'; set local extra_float_digits = 1; set local bytea_output = 'hex'";

/// What attaching with these options means.
#[derive(Debug)]
pub(super) struct Mapping {
    pub(super) lines: Vec<String>,
    /// Why it may publish open rounds.
    pub(super) doubt: Option<String>,
}

/// Reads the mapping in a transaction that it rolls back.
pub(super) async fn read(
    connection: &mut PgConnection,
    table: &str,
    options: &AttachOptions,
) -> Result<Mapping, AttachError> {
    let mut transaction = connection.begin().await?;
    let query = "select o::text, datastream.open_rounds($1::text::regclass, o) \
        from datastream.attach_options($1::text::regclass, $2::text::jsonb) o";
    let query = sqlx::query_as(query).bind(table).bind(options.mapping().to_string());
    let (mapping, doubt): (String, Option<String>) = query.fetch_one(&mut *transaction).await?;
    let example = example(&mut transaction, table, &mapping).await;
    transaction.rollback().await?;
    let mapping = serde_json::from_str(&mapping).unwrap_or_default();
    let mut lines = describe(table, &mapping);
    lines.push(line("example", &example));
    Ok(Mapping { lines, doubt })
}

/// The lines as a comment of an SQL script.
pub(super) fn as_comment(lines: &[String]) -> String {
    lines.iter().map(|line| format!("-- {}\n", one_line(line))).collect()
}

/// Without line breaks, which would end a comment, and without escape sequences for the terminal.
pub(super) fn one_line(text: &str) -> String {
    text.replace(char::is_control, " ")
}

/// One finished round as JSON, or why there is none.
async fn example(connection: &mut PgConnection, table: &str, mapping: &str) -> String {
    match read_example(connection, table, mapping).await {
        Ok(Some(round)) => round,
        Ok(None) => "none: the table has no finished round that can be sent".to_owned(),
        Err(error) => format!("none: {error}"),
    }
}

async fn read_example(
    connection: &mut PgConnection,
    table: &str,
    mapping: &str,
) -> Result<Option<String>, AttachError> {
    sqlx::raw_sql(RENDERED).execute(&mut *connection).await?;
    sqlx::query(EXAMPLE_WITHIN).execute(&mut *connection).await?;
    let query = "select * from datastream.example($1::text::regclass, $2::text::jsonb)";
    let query = sqlx::query(query).bind(table).bind(mapping);
    let Some(row) = query.fetch_optional(connection).await? else { return Ok(None) };
    let round = rows::round(&row, UnixMillis::now())?.ok();
    Ok(round.map(|round| String::from_utf8_lossy(&round.to_json()).into_owned()))
}

fn line(name: &str, value: &str) -> String {
    format!("  {name:<12} {value}")
}

/// A line for each key of a round.
fn describe(table: &str, mapping: &Value) -> Vec<String> {
    vec![
        format!("{table} is streamed as:"),
        line("round_id", &id(mapping)),
        line("game", &game(mapping)),
        line("finished_at", &finished_at(mapping)),
        line("extras", &extras(mapping)),
    ]
}

fn text<'a>(mapping: &'a Value, key: &str) -> Option<&'a str> {
    mapping.get(key)?.as_str()
}

fn list(mapping: &Value, key: &str) -> Option<String> {
    let names = mapping.get(key)?.as_array()?.iter().filter_map(Value::as_str);
    Some(names.collect::<Vec<_>>().join(", "))
}

fn id(mapping: &Value) -> String {
    let columns = list(mapping, "id").unwrap_or_default();
    match (text(mapping, "id_prefix"), mapping.get("id_text")) {
        (Some(prefix), _) => format!("{columns}, a string with the prefix {prefix}:"),
        (None, Some(_)) => format!("{columns}, as a string"),
        (None, None) => columns,
    }
}

/// A column, or a constant in quotes.
fn source(mapping: &Value, column: &str, constant: &str) -> String {
    let constant = || text(mapping, constant).map(|value| format!("\"{value}\""));
    text(mapping, column).map(str::to_owned).or_else(constant).unwrap_or_default()
}

fn game(mapping: &Value) -> String {
    let id = source(mapping, "game_id", "game_id_value");
    match text(mapping, "games") {
        Some(games) => format!(
            "{id}, as {} of {games}, with slug {}, name {}, type {}",
            source(mapping, "games_id", ""),
            source(mapping, "games_slug", ""),
            source(mapping, "games_name", ""),
            source(mapping, "games_type", "type")
        ),
        None => format!(
            "{id}, with slug {}, type {}",
            source(mapping, "slug_column", "slug"),
            source(mapping, "type_column", "type")
        ),
    }
}

fn finished_at(mapping: &Value) -> String {
    let column = text(mapping, "finished_at").unwrap_or_default();
    let zone = text(mapping, "time_zone").map(|zone| format!(" in {zone}"));
    let unit = text(mapping, "finished_at_unit").map(|unit| format!(" in {unit} since 1970"));
    let condition = text(mapping, "finished_when")
        .map(|condition| format!(", if {}", condition.replace("datastream_row.", "")));
    [Some(column.to_owned()), zone, unit, condition].into_iter().flatten().collect()
}

fn extras(mapping: &Value) -> String {
    let object = list(mapping, "extras_columns").map(|columns| format!("an object of {columns}"));
    object.unwrap_or_else(|| source(mapping, "extras", ""))
}
