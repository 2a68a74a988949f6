//! The read-only mode, as flags and variables.

use std::time::Duration;

use clap::{Args, builder::BoolishValueParser};

use crate::{config::values, postgres::read_only::ReadOnlyConfig};

/// The read-only mode, for a database to which not even a trigger may be added.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Read-only")]
pub struct ReadOnlyOptions {
    /// Work without the schema `datastream`: poll `finished_at` every 250 ms. A round that commits
    /// later than --read-only-overlap is lost. See docs/guarantees.md.
    #[arg(long, env = "DATASTREAM_READ_ONLY")]
    #[arg(num_args = 0..=1, default_value = "false", default_missing_value = "true")]
    #[arg(require_equals = true, value_parser = BoolishValueParser::new(), value_name = "BOOL")]
    pub read_only: bool,

    /// Query for rounds, with the columns round_id, game_id, finished_at (timestamptz) and extras.
    /// Create an index on finished_at.
    #[arg(long, env = "DATASTREAM_READ_ONLY_ROUNDS", value_name = "SQL")]
    #[arg(
        default_value = "select id as round_id, game_id, finished_at, extras from public.rounds"
    )]
    pub read_only_rounds: String,

    /// Query for games, with the columns id, slug, name and type.
    #[arg(long, env = "DATASTREAM_READ_ONLY_GAMES", value_name = "SQL")]
    #[arg(default_value = "select id, slug, name, type from public.games")]
    pub read_only_games: String,

    /// How long after its finished_at a round may commit. Lower: late commits are lost. Higher:
    /// each poll reads more rows.
    #[arg(long, env = "DATASTREAM_READ_ONLY_OVERLAP", value_name = "DURATION")]
    #[arg(value_parser = values::retention, default_value = "10s")]
    pub read_only_overlap: Duration,
}

impl ReadOnlyOptions {
    /// The two queries, or none if the mode is off.
    pub fn resolve(self) -> Option<ReadOnlyConfig> {
        self.read_only.then_some(ReadOnlyConfig {
            rounds: self.read_only_rounds,
            games: self.read_only_games,
            overlap: self.read_only_overlap,
        })
    }
}
