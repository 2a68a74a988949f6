//! The options of `attach` and `detach`.

use clap::Args;

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
    pub table: String,

    /// Column of the round's id: smallint, integer or bigint [default: id].
    #[arg(long, value_name = "COLUMN", help_heading = "Round")]
    pub id: Option<String>,

    /// Column that is set when a round finishes: timestamptz or timestamp [default: finished_at].
    #[arg(long, value_name = "COLUMN", help_heading = "Round")]
    pub finished_at: Option<String>,

    /// Time zone of a --finished-at column of type timestamp [default: UTC].
    #[arg(long, value_name = "ZONE", help_heading = "Round")]
    pub time_zone: Option<String>,

    /// Column of the extras: jsonb, json or text [default: extras].
    #[arg(long, value_name = "COLUMN", help_heading = "Round")]
    pub extras: Option<String>,

    /// Columns to combine into a JSON object, instead of --extras.
    #[arg(long, value_name = "COLUMN,…", value_delimiter = ',', help_heading = "Round")]
    #[arg(conflicts_with = "extras")]
    pub extras_columns: Option<Vec<String>>,

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

    /// Print the SQL for psql, including the schema if it is missing. Changes nothing.
    #[arg(long, help_heading = "How")]
    pub dry_run: bool,
}

/// The source of a round's game: a table of games (the default), columns of the round's table, or
/// constants.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Game")]
pub struct GameOptions {
    /// Column of the game's id [default: game_id].
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

    /// Slug of all rounds of this table. Needs --type and --game-id-value.
    #[arg(long, value_name = "SLUG", requires = "type", requires = "game_id_value")]
    #[arg(conflicts_with_all = ["games", "slug_column"])]
    pub slug: Option<String>,

    /// Type of all games of this table.
    #[arg(long, value_name = "TYPE", conflicts_with = "type_column")]
    pub r#type: Option<String>,

    /// Id of the game of all rounds of this table.
    #[arg(long, value_name = "ID", conflicts_with = "game_id")]
    pub game_id_value: Option<i64>,
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
