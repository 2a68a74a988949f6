//! `datastream attach --suggest`: guesses from the tables that are there, as commands to paste.
//!
//! It reads the catalog, and a sample of at most a thousand rows of each candidate. It needs no schema.

mod game;
mod guess;
mod table;

use guess::{Candidate, Guess, Samples};
use sqlx::{AssertSqlSafe, Connection, Decode, PgConnection, Postgres, Row, Type};
use table::{Column, Table};

use super::{AttachError, mapping::one_line};
use crate::postgres::{connection, target::PgTarget};

/// A sample is optional: a statement that takes longer is given up.
const SETTINGS: [(&str, &str); 4] = [
    ("statement_timeout", "5s"),
    ("lock_timeout", "2s"),
    ("default_transaction_read_only", "on"),
    ("jit", "off"),
];
const SAMPLE_ROWS: u32 = 1000;
/// More candidates are not looked at.
const SUGGESTIONS_MAX: usize = 20;
/// Printed if there is no candidate, and below the commands.
pub(crate) const BY_HAND: &str = "datastream attach --table TABLE --id COLUMN --finished-at COLUMN \
    --extras COLUMN --slug SLUG --type TYPE --game-id-value ID";

/// A table that looks like rounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Suggestion {
    /// The command, for a shell.
    pub(crate) command: String,
    /// Remarks on the guess.
    pub(crate) remarks: Vec<String>,
}

/// The suggestions for one table or for all, on a connection of its own.
pub(crate) async fn suggest(
    target: &PgTarget,
    table: Option<&str>,
) -> Result<Vec<Suggestion>, AttachError> {
    let mut connection = connection::connect(target, "suggest", &SETTINGS).await?;
    if let Some(name) = table {
        let exists = format!("select to_regclass({}) is not null", literal(name));
        let exists: Vec<bool> = values(&mut connection, exists).await?;
        if exists != [true] {
            return Err(AttachError::NoTable(name.to_owned()));
        }
    }
    let suggestions = read(&mut connection, table).await;
    let _closed = connection.close().await;
    suggestions
}

/// The suggestions for a database with no attached table. `None` if one is attached.
pub(crate) async fn suggest_first(
    target: &PgTarget,
) -> Result<Option<Vec<Suggestion>>, AttachError> {
    let mut connection = connection::connect(target, "suggest", &SETTINGS).await?;
    let suggestions = match any_is_attached(&mut connection).await? {
        true => None,
        false => Some(read(&mut connection, None).await?),
    };
    let _closed = connection.close().await;
    Ok(suggestions)
}

/// The suggestions as lines.
pub(crate) fn as_lines(suggestions: &[Suggestion]) -> Vec<String> {
    if suggestions.is_empty() {
        return vec![
            "# No table looks like rounds. Name yours, or attach it by hand (datastream attach --help):"
                .to_owned(),
            "#   datastream attach --suggest TABLE".to_owned(),
            format!("#   {BY_HAND}"),
        ];
    }
    let mut lines =
        vec!["# These tables look like rounds. Check the guesses, then run one:".to_owned()];
    if suggestions.len() > 1 {
        lines.push("# If you attach one table only, leave out --id-prefix.".to_owned());
    }
    for suggestion in suggestions {
        lines.push(String::new());
        lines.extend(suggestion.remarks.iter().map(|remark| format!("# {}", one_line(remark))));
        lines.push(suggestion.command.clone());
    }
    lines
}

async fn read(
    connection: &mut PgConnection,
    table: Option<&str>,
) -> Result<Vec<Suggestion>, AttachError> {
    let name = table.map_or_else(|| "null".to_owned(), literal);
    let query = include_str!("../../../sql/suggest_tables.sql").replace("$1", &name);
    let found: Vec<String> = values(connection, query).await?;
    let tables: Vec<Table> =
        found.iter().filter_map(|text| serde_json::from_str(text).ok()).collect();
    let is_attached = any_is_attached(connection).await?;
    let mut candidates = candidates(&tables, table.is_some());
    // A first table may have any name. Beside an attached one, that would suggest tables of users.
    if candidates.is_empty() && !is_attached {
        candidates = self::candidates(&tables, true);
    }
    candidates.sort_by_key(Candidate::rank);
    candidates.truncate(SUGGESTIONS_MAX);
    let mut sampled = Vec::new();
    for candidate in candidates {
        let samples = sample(connection, &candidate).await;
        if candidate.guess(&samples, false).is_some() {
            sampled.push((candidate, samples));
        }
    }
    let prefix = sampled.len() > 1 || is_attached;
    let guesses =
        sampled.iter().filter_map(|(candidate, samples)| candidate.guess(samples, prefix));
    // A command of several lines, or with escape sequences, is not one to paste.
    let suggestions = guesses.map(as_suggestion);
    Ok(suggestions.filter(|it| !it.command.contains(char::is_control)).collect())
}

fn candidates(tables: &[Table], any_name: bool) -> Vec<Candidate<'_>> {
    tables.iter().filter_map(|table| Candidate::of(table, any_name)).collect()
}

/// Triggers tell it without rights on the schema.
async fn any_is_attached(connection: &mut PgConnection) -> Result<bool, AttachError> {
    let query = "select exists (select from pg_trigger where tgname = 'datastream_inserted')";
    let found: Vec<bool> = values(connection, query.to_owned()).await?;
    Ok(found == [true])
}

async fn sample(connection: &mut PgConnection, candidate: &Candidate<'_>) -> Samples {
    let table = &candidate.table.table;
    let mut samples = Samples::default();
    if candidate.finished_at.is_time_number() {
        samples.median = median(connection, table, candidate.finished_at).await;
    }
    if let Some(state) = candidate.state.filter(|state| state.is_text()) {
        samples.states = states(connection, table, state).await;
    }
    if let [id] = &*candidate.ids
        && id.is_integer()
    {
        samples.max_id = max_id(connection, table, id).await;
    }
    samples
}

/// Times before March 1973 in seconds are no times of a game.
async fn median(connection: &mut PgConnection, table: &str, column: &Column) -> Option<f64> {
    let name = &column.quoted;
    let query = format!(
        "select percentile_disc(0.5) within group (order by v) \
         from (select {name}::double precision as v from {table} limit {SAMPLE_ROWS}) s \
         where v between 1e8 and 1e17"
    );
    values(connection, query).await.ok()?.pop().flatten()
}

async fn states(connection: &mut PgConnection, table: &str, column: &Column) -> Vec<String> {
    let name = &column.quoted;
    let query = format!(
        "select distinct rtrim(v) from (select {name}::text as v from {table} limit {SAMPLE_ROWS}) s \
         where v is not null limit 100"
    );
    values(connection, query).await.unwrap_or_default()
}

/// By the index of the key.
async fn max_id(connection: &mut PgConnection, table: &str, column: &Column) -> Option<i64> {
    let query = format!("select max({})::bigint from {table}", column.quoted);
    values(connection, query).await.ok()?.pop().flatten()
}

fn as_suggestion(guess: Guess) -> Suggestion {
    let mut command = "datastream attach".to_owned();
    for (option, value) in &guess.options {
        command.push(' ');
        command.push_str(option);
        if !value.is_empty() {
            // A value that begins with a dash would be read as an option.
            command.push(if value.starts_with('-') { '=' } else { ' ' });
            command.push_str(&quoted(value));
        }
    }
    Suggestion { command, remarks: guess.remarks }
}

/// A word of a shell (POSIX 2.2.2).
fn quoted(value: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-.,/:".contains(c);
    if value.chars().all(is_plain) {
        return value.to_owned();
    }
    format!("'{}'", value.replace('\'', r"'\''"))
}

/// The first column. The simple query protocol: a pooler in transaction mode does not keep prepared
/// statements.
async fn values<T>(connection: &mut PgConnection, query: String) -> Result<Vec<T>, sqlx::Error>
where
    T: for<'r> Decode<'r, Postgres> + Type<Postgres>,
{
    let rows = sqlx::raw_sql(AssertSqlSafe(query)).fetch_all(connection).await?;
    rows.iter().map(|row| row.try_get(0)).collect()
}

/// A string constant of SQL.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
