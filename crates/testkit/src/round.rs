//! A round as a client parses it.

use serde::Deserialize;

/// The object of contract section 1, with its exact text.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct WireRound {
    pub round_id: i64,
    pub game_id: i64,
    pub game_slug: String,
    pub game_type: String,
    pub finished_at: String,
    pub extras: String,
    pub timestamp: i64,
    #[serde(skip)]
    pub text: String,
}

impl WireRound {
    #[track_caller]
    pub fn parse(text: &str) -> Self {
        let round = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
        Self { text: text.to_owned(), ..round }
    }
}

/// The ids, in the order of arrival.
pub fn ids(rounds: &[WireRound]) -> Vec<i64> {
    rounds.iter().map(|round| round.round_id).collect()
}
