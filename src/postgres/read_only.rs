//! The operator's own queries for rounds and games, from which the read-only mode reads in place
//! of our views: each query of it is one in `sql/read_only/` over them.

use std::{sync::Arc, time::Duration};

/// What every query begins with.
const SOURCE: &str = include_str!("../../sql/read_only/source.sql");

/// Where rounds come from without our schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadOnlyConfig {
    /// A query for rounds: round_id, game_id, finished_at, extras.
    pub rounds: String,
    /// A query for games: id, slug, name, type.
    pub games: String,
    /// How late after its `finished_at` a round may be committed.
    pub overlap: Duration,
}

/// Where rounds come from without our schema. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    with: Arc<str>,
    /// How late after its `finished_at` a round may be committed, in microseconds.
    pub overlap_micros: i64,
}

impl Source {
    /// From what the operator decided.
    pub(crate) fn new(config: &ReadOnlyConfig) -> Self {
        // A query ends with its line, so that a comment at its end stays one.
        let inner = |query: &str| format!("{}\n", query.trim().trim_end_matches(';'));
        let with = SOURCE.replace("{games}", &inner(&config.games));
        let with = with.replace("{rounds}", &inner(&config.rounds));
        let overlap_micros = i64::try_from(config.overlap.as_micros()).unwrap_or(i64::MAX);
        Self { with: with.into(), overlap_micros }
    }

    /// This query over the operator's own.
    pub(crate) fn query(&self, query: &str) -> String {
        format!("{}{query}", self.with)
    }
}
