//! A round as a client reads it.

use serde::Deserialize;

/// The object of contract section 1, with the exact text it came as.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub(crate) struct WireRound {
    pub(crate) round_id: i64,
    pub(crate) game_id: i64,
    pub(crate) game_slug: String,
    pub(crate) game_type: String,
    pub(crate) finished_at: String,
    pub(crate) extras: String,
    pub(crate) timestamp: i64,
    #[serde(skip)]
    pub(crate) text: String,
}

impl WireRound {
    #[track_caller]
    pub(crate) fn parse(text: &str) -> Self {
        let round = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
        Self { text: text.to_owned(), ..round }
    }
}

/// The ids, in the order of arrival.
pub(crate) fn ids(rounds: &[WireRound]) -> Vec<i64> {
    rounds.iter().map(|round| round.round_id).collect()
}
