//! Rounds to measure with.

#![expect(clippy::expect_used, reason = "a benchmark without rounds has nothing to measure")]

use datastream::internals::round::{FinishedAt, GameId, Round, RoundId, UnixMillis};

/// A finished round of a game.
pub(crate) fn round(game: i64, id: i64, extras: &str) -> Round {
    Round {
        round_id: RoundId::number(id),
        game_id: GameId::number(game),
        game_slug: "crash".into(),
        game_type: "multiplier".into(),
        finished_at: FinishedAt::from_micros(1_768_610_742_123_456 + id).expect("in range"),
        extras: extras.into(),
        timestamp: UnixMillis(1_768_610_742_123),
    }
}
