//! The operator's queries for rounds and games, which replace our views in the read-only mode. The
//! queries in `sql/read_only/` read from them.

mod id_types;

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

pub(crate) use id_types::IdTypes;

use crate::postgres::sql::sql;

/// The beginning of every query.
const SOURCE: &str = sql!("read_only/source");

/// The configuration of the read-only mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadOnlyConfig {
    /// A query for rounds: round_id, game_id, finished_at, extras.
    pub rounds: String,
    /// A query for games: id, slug, name, type.
    pub games: String,
    /// How long after its `finished_at` a round may commit.
    pub overlap: Duration,
}

/// The source of rounds in the read-only mode. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct OperatorQueries {
    rounds: Arc<str>,
    games: Arc<str>,
    /// The types of the ids, once a session has asked for them.
    id_types: Arc<OnceLock<IdTypes>>,
    /// How long after its `finished_at` a round may commit, in microseconds.
    pub overlap_micros: i64,
}

impl OperatorQueries {
    /// From the configuration.
    pub(crate) fn new(config: &ReadOnlyConfig) -> Self {
        // A line break ends each query, so that a comment in its last line ends there.
        let inner = |query: &str| format!("{}\n", query.trim().trim_end_matches(';'));
        let (rounds, games) = (inner(&config.rounds).into(), inner(&config.games).into());
        let overlap_micros = i64::try_from(config.overlap.as_micros()).unwrap_or(i64::MAX);
        Self { rounds, games, id_types: Arc::default(), overlap_micros }
    }

    /// Sets the types of the ids, which decide how the queries compare them.
    pub(crate) fn set_id_types(&self, types: IdTypes) {
        self.id_types.get_or_init(|| types);
    }

    /// A query that reads from the operator's queries.
    pub(crate) fn query(&self, query: &str) -> String {
        let types = self.id_types.get().copied().unwrap_or_default();
        let (before, rest) = SOURCE.split_once("{games}").unwrap_or((SOURCE, ""));
        let (between, after) = rest.split_once("{rounds}").unwrap_or((rest, ""));
        let (rounds, games) = (&self.rounds, &self.games);
        format!("{before}{games}{between}{rounds}{} {}", types.fill(after), types.fill(query))
    }
}
