//! A round as a client parses it.

use serde::{Deserialize, de::DeserializeOwned};

/// The object that clients receive (README, "A round"), with its exact text. Ids are numbers or strings.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct WireRound<I = i64, G = i64> {
    pub round_id: I,
    pub game_id: G,
    pub game_slug: String,
    pub game_type: String,
    pub finished_at: String,
    pub extras: String,
    pub timestamp: i64,
    #[serde(skip)]
    pub text: String,
}

impl<I: DeserializeOwned, G: DeserializeOwned> WireRound<I, G> {
    /// Parses a round with ids of these types.
    #[track_caller]
    pub fn parse_as(text: &str) -> Self {
        let round: Self =
            serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
        Self { text: text.to_owned(), ..round }
    }
}

impl WireRound {
    #[track_caller]
    pub fn parse(text: &str) -> Self {
        Self::parse_as(text)
    }
}

/// The ids, in the order of arrival.
pub fn ids<I: Clone>(rounds: &[WireRound<I>]) -> Vec<I> {
    rounds.iter().map(|round| round.round_id.clone()).collect()
}
