//! The options of `attach` and `detach`.

use clap::{Args, builder::NonEmptyStringValueParser};
use serde_json::{Value, json};

use super::CaptureMode;
use crate::postgres::options::DatabaseOptions;

/// The options of `attach`. Tables are named as in SQL, with quotes if their names need them
/// (`game."Results"`). Columns are bare names.
#[derive(Args, Clone, Debug)]
pub struct AttachOptions {
    /// The database. --listen-url, if given: a pooler does not keep sessions.
    #[command(flatten)]
    pub database: DatabaseOptions,

    /// Table of rounds, as in SQL: game.results, or game."Results".
    #[arg(long, value_name = "TABLE", help_heading = "Round")]
    #[arg(required_unless_present = "suggest", default_value = "", hide_default_value = true)]
    pub table: String,

    /// Print the whole command for each table that looks like rounds, or for this one. Changes nothing
    /// and needs no schema.
    #[arg(long, value_name = "TABLE", num_args = 0..=1, conflicts_with = "table", help_heading = "How")]
    pub suggest: Option<Option<String>>,

    /// The round's id and finish.
    #[command(flatten)]
    pub round: RoundOptions,

    /// The game.
    #[command(flatten)]
    pub game: GameOptions,

    /// How the trigger announces a finished round. Default: `auto` for a new table, otherwise
    /// unchanged.
    #[arg(long, value_enum, help_heading = "How")]
    pub capture: Option<CaptureMode>,

    /// Build the index for the latest round of a game, CONCURRENTLY: writes continue.
    #[arg(long, help_heading = "How")]
    pub index: bool,

    /// Allow a change of the options that the table is attached with.
    #[arg(long, help_heading = "How")]
    pub replace: bool,

    /// Attach although --finished-at is always set: rows are inserted when a round has finished.
    #[arg(long, help_heading = "How")]
    pub yes: bool,

    /// Print the SQL for psql, including the schema if it is missing. Changes nothing.
    #[arg(long, help_heading = "How")]
    pub dry_run: bool,
}

/// The columns of a round.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Round")]
pub struct RoundOptions {
    /// Columns of the round's id, all not null and covered by a unique index: integer, numeric, uuid or
    /// text; at most one of several is text [default: id]. Several are joined by `:`.
    #[arg(long, value_name = "COLUMN,…", value_delimiter = ',')]
    pub id: Option<Vec<String>>,

    /// Send ids as strings, with this prefix and `:` before them. With several tables attached each
    /// has its own.
    #[arg(long, value_name = "PREFIX")]
    pub id_prefix: Option<String>,

    /// Send integer ids as strings: JavaScript reads numbers exactly up to 2^53 - 1.
    #[arg(long)]
    pub id_text: bool,

    /// Column that is set when a round finishes: timestamptz, timestamp, date or a number
    /// [default: finished_at].
    #[arg(long, value_name = "COLUMN")]
    pub finished_at: Option<String>,

    /// Unit of a --finished-at column that is a number: since 1970.
    #[arg(long, value_enum, value_name = "UNIT")]
    pub finished_at_unit: Option<Unit>,

    /// Time zone of a --finished-at column of type timestamp or date [default: UTC].
    #[arg(long, value_name = "ZONE")]
    pub time_zone: Option<String>,

    /// SQL condition over the row that must hold too: "status = 'settled' and deleted_at is null".
    #[arg(long, value_name = "CONDITION")]
    pub finished_when: Option<String>,

    /// Column of the extras: jsonb, json or text [default: extras].
    #[arg(long, value_name = "COLUMN")]
    pub extras: Option<String>,

    /// Columns to combine into a JSON object, instead of --extras.
    #[arg(long, value_name = "COLUMN,…", value_delimiter = ',', conflicts_with = "extras")]
    pub extras_columns: Option<Vec<String>>,
}

/// The source of a round's game: a table of games (the default); or each of slug, type and id from a
/// column of the round or the same for all.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Game")]
pub struct GameOptions {
    /// Column of the game's id: integer, uuid or text [default: game_id].
    #[arg(long, value_name = "COLUMN")]
    pub game_id: Option<String>,

    /// Table of games, as in SQL [default: public.games].
    #[arg(long, value_name = "TABLE")]
    pub games: Option<String>,

    /// Column of the id in the table of games [default: id].
    #[arg(long, value_name = "COLUMN")]
    pub games_id: Option<String>,

    /// Column of the slug in the table of games [default: slug]. Slugs are part of stream URLs.
    #[arg(long, value_name = "COLUMN")]
    pub games_slug: Option<String>,

    /// Column of the display name in the table of games [default: name].
    #[arg(long, value_name = "COLUMN")]
    pub games_name: Option<String>,

    /// Column of the type in the table of games [default: type].
    #[arg(long, value_name = "COLUMN")]
    pub games_type: Option<String>,

    /// Column of the slug in the table of rounds, instead of a table of games.
    #[arg(long, value_name = "COLUMN", conflicts_with = "games")]
    pub slug_column: Option<String>,

    /// Column of the type in the table of rounds.
    #[arg(long, value_name = "COLUMN")]
    pub type_column: Option<String>,

    /// Slug of all rounds of this table, instead of a table of games.
    #[arg(long, value_name = "SLUG", conflicts_with_all = ["games", "slug_column"])]
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub slug: Option<String>,

    /// Type of all games of this table.
    #[arg(long, value_name = "TYPE", conflicts_with = "type_column")]
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub r#type: Option<String>,

    /// Id of the game of all rounds of this table: a number, or a text.
    #[arg(long, value_name = "ID", conflicts_with = "game_id", allow_negative_numbers = true)]
    pub game_id_value: Option<String>,
}

/// The unit of a number that is a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Unit {
    /// Seconds.
    S,
    /// Milliseconds.
    Ms,
    /// Microseconds.
    Us,
}

impl Unit {
    fn name(self) -> &'static str {
        match self {
            Self::S => "s",
            Self::Ms => "ms",
            Self::Us => "us",
        }
    }
}

impl AttachOptions {
    /// The mapping as `datastream.attach` takes it.
    pub(super) fn mapping(&self) -> Value {
        let (round, game) = (&self.round, &self.game);
        json!({
            "id": round.id,
            "id_prefix": round.id_prefix,
            "id_text": round.id_text.then_some(true),
            "finished_at": round.finished_at,
            "finished_at_unit": round.finished_at_unit.map(Unit::name),
            "time_zone": round.time_zone,
            "finished_when": round.finished_when,
            "extras": round.extras,
            "extras_columns": round.extras_columns,
            "game_id": game.game_id,
            "game_id_value": game.game_id_value,
            "games": game.games,
            "games_id": game.games_id,
            "games_slug": game.games_slug,
            "games_name": game.games_name,
            "games_type": game.games_type,
            "slug_column": game.slug_column,
            "type_column": game.type_column,
            "slug": game.slug,
            "type": game.r#type,
        })
    }
}

/// The options of `detach`.
#[derive(Args, Clone, Debug)]
pub struct DetachOptions {
    /// The database. --listen-url, if given.
    #[command(flatten)]
    pub database: DatabaseOptions,

    /// Table, as in SQL. It may have been dropped or renamed.
    #[arg(long, value_name = "TABLE")]
    pub table: String,

    /// Print the SQL for psql. Changes nothing.
    #[arg(long)]
    pub dry_run: bool,
}
