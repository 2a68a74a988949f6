//! What `attach` and `detach` can be told.

use clap::Args;

use super::CaptureMode;
use crate::postgres::options::DatabaseOptions;

/// What `attach` can be told. Tables are named as in SQL, quoted where their names need it
/// (`game."Results"`); columns by their bare names.
#[derive(Args, Clone, Debug)]
pub struct AttachOptions {
    /// The database; --listen-url where both are given, as a pooler keeps no session.
    #[command(flatten)]
    pub database: DatabaseOptions,

    /// The table of rounds, as in SQL: game.results, or game."Results".
    #[arg(long, value_name = "TABLE", help_heading = "Round")]
    pub table: String,

    /// Column of the round's id: smallint, integer or bigint [default: id].
    #[arg(long, value_name = "COLUMN", help_heading = "Round")]
    pub id: Option<String>,

    /// Column that is set when a round finishes [default: finished_at].
    #[arg(long, value_name = "COLUMN", help_heading = "Round")]
    pub finished_at: Option<String>,

    /// Time zone of a --finished-at without one [default: UTC].
    #[arg(long, value_name = "ZONE", help_heading = "Round")]
    pub time_zone: Option<String>,

    /// Column of the extras: jsonb, json or text [default: extras].
    #[arg(long, value_name = "COLUMN", help_heading = "Round")]
    pub extras: Option<String>,

    /// Columns to make an object of, in place of --extras.
    #[arg(long, value_name = "COLUMN,…", value_delimiter = ',', help_heading = "Round")]
    #[arg(conflicts_with = "extras")]
    pub extras_columns: Option<Vec<String>>,

    /// The game.
    #[command(flatten)]
    pub game: GameOptions,

    /// How word of finished rounds is sent: auto (NOTIFY where nobody has to wait for it), notify
    /// (for each round) or poll (never). Left as it is where nothing is said; auto at first.
    #[arg(long, value_enum, help_heading = "How")]
    pub capture: Option<CaptureMode>,

    /// Build the index that finds the latest round of a game, CONCURRENTLY: the game goes on.
    #[arg(long, help_heading = "How")]
    pub index: bool,

    /// Change how a table is attached.
    #[arg(long, help_heading = "How")]
    pub replace: bool,

    /// Print the SQL and run none of it.
    #[arg(long, help_heading = "How")]
    pub dry_run: bool,
}

/// Where the game of a round is found: in a table of games (the default), in columns beside the
/// round, or it is the same for all.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Game")]
pub struct GameOptions {
    /// Column of the game's id [default: game_id].
    #[arg(long, value_name = "COLUMN")]
    pub game_id: Option<String>,

    /// The table of games, as in SQL [default: public.games].
    #[arg(long, value_name = "TABLE")]
    pub games: Option<String>,

    /// Its id [default: id].
    #[arg(long, value_name = "COLUMN")]
    pub games_id: Option<String>,

    /// Its slug, which is in the URL of a stream [default: slug].
    #[arg(long, value_name = "COLUMN")]
    pub games_slug: Option<String>,

    /// Its name, for people [default: name].
    #[arg(long, value_name = "COLUMN")]
    pub games_name: Option<String>,

    /// Its type [default: type].
    #[arg(long, value_name = "COLUMN")]
    pub games_type: Option<String>,

    /// Column of the slug beside the round, in place of a table of games.
    #[arg(long, value_name = "COLUMN", conflicts_with = "games")]
    pub slug_column: Option<String>,

    /// Column of the type beside the round.
    #[arg(long, value_name = "COLUMN")]
    pub type_column: Option<String>,

    /// The slug of all rounds of this table; with --type and --game-id-value.
    #[arg(long, value_name = "SLUG", requires = "type", requires = "game_id_value")]
    #[arg(conflicts_with_all = ["games", "slug_column"])]
    pub slug: Option<String>,

    /// The type of all rounds of this table.
    #[arg(long, value_name = "TYPE", conflicts_with = "type_column")]
    pub r#type: Option<String>,

    /// The game's id for all rounds of this table.
    #[arg(long, value_name = "ID", conflicts_with = "game_id")]
    pub game_id_value: Option<i64>,
}

/// What `detach` can be told.
#[derive(Args, Clone, Debug)]
pub struct DetachOptions {
    /// The database; --listen-url where both are given.
    #[command(flatten)]
    pub database: DatabaseOptions,

    /// The table, as in SQL; also one that is gone.
    #[arg(long, value_name = "TABLE")]
    pub table: String,

    /// Print the SQL and run none of it.
    #[arg(long)]
    pub dry_run: bool,
}
