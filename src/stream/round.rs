//! A finished game round: the one value this server moves.
//!
//! The server decodes a `Round` once, from a notification payload or from a row. A decoded round can
//! always be sent: its `finished_at` prints as the contract requires (RFC 3339, UTC, years 1 to
//! 9999). [`FinishedAt::from_micros`] rejects every other time; the server counts these rounds.

use std::{fmt, sync::Arc};

use chrono::{DateTime, Datelike, SecondsFormat, Utc};
use serde::{Serialize, Serializer};

pub(crate) use super::id::NamedRound;
pub use super::id::{GameId, InvalidId, RoundId};
use crate::stream::json_writer;

/// Unix time in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct UnixMillis(pub i64);

/// A time that prints as RFC 3339 in UTC with a four-digit year (RFC 3339 section 5.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FinishedAt(DateTime<Utc>);

/// A game as clients see it: one row of `GET /games`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Game {
    /// `games.id`.
    pub id: GameId,
    /// `games.slug`: the name in a URL.
    pub slug: Arc<str>,
    /// `games.name`: the display name.
    pub name: Arc<str>,
    /// `games.type`: a client can subscribe to all games of one type.
    #[serde(rename = "type")]
    pub kind: Arc<str>,
}

impl Game {
    /// The bytes of its names.
    pub(crate) fn name_bytes(&self) -> usize {
        self.slug.len() + self.name.len() + self.kind.len()
    }
}

/// A finished round, its fields in the order in which they are written on the wire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Round {
    /// `rounds.id`.
    pub round_id: RoundId,
    /// `games.id`.
    pub game_id: GameId,
    /// `games.slug`.
    pub game_slug: Arc<str>,
    /// `games.type`.
    pub game_type: Arc<str>,
    /// The time at which the round finished, by the game's clock.
    pub finished_at: FinishedAt,
    /// `extras::text`, as PostgreSQL prints jsonb, unchanged.
    pub extras: Box<str>,
    /// The time at which this server published the round.
    pub timestamp: UnixMillis,
}

impl Round {
    /// Sort key by age: the latest round of a selection has the greatest key.
    pub fn age(&self) -> (FinishedAt, RoundId) {
        (self.finished_at, self.round_id.clone())
    }

    /// The round as its JSON object: seven keys, no white space outside strings.
    pub fn to_json(&self) -> Vec<u8> {
        let mut json = Vec::with_capacity(192 + self.extras.len());
        json_writer::write(self, &mut json);
        json
    }
}

impl FinishedAt {
    /// From microseconds since the unix epoch; `None` outside the years 1 to 9999.
    pub fn from_micros(micros: i64) -> Option<Self> {
        let time = DateTime::from_timestamp_micros(micros)?;
        (1..=9999).contains(&time.year()).then_some(Self(time))
    }

    /// Microseconds since the unix epoch: PostgreSQL's own precision.
    pub fn micros(self) -> i64 {
        self.0.timestamp_micros()
    }
}

impl fmt::Display for FinishedAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.to_rfc3339_opts(SecondsFormat::Secs, true);
        let micros = self.0.timestamp_subsec_micros();
        if micros == 0 {
            return f.write_str(&seconds);
        }
        let fraction = format!("{micros:06}");
        let (whole, fraction) = (seconds.trim_end_matches('Z'), fraction.trim_end_matches('0'));
        write!(f, "{whole}.{fraction}Z")
    }
}

impl Serialize for FinishedAt {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl UnixMillis {
    /// The current time by this machine's clock.
    pub fn now() -> Self {
        Self(Utc::now().timestamp_millis())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(micros: i64) -> String {
        FinishedAt::from_micros(micros).map_or_else(String::new, |time| time.to_string())
    }

    #[test]
    fn a_round_serializes_to_the_json_of_the_contract() {
        let round = Round {
            round_id: RoundId::number(512),
            game_id: GameId::number(1),
            game_slug: "crash".into(),
            game_type: "multiplier".into(),
            finished_at: FinishedAt::from_micros(1_768_610_742_000_000).expect("in range"),
            extras: r#"{"point": "11.72"}"#.into(),
            timestamp: UnixMillis(1_768_621_542_123),
        };
        let golden = r#"{"round_id":512,"game_id":1,"game_slug":"crash","game_type":"multiplier","finished_at":"2026-01-17T00:45:42Z","extras":"{\"point\": \"11.72\"}","timestamp":1768621542123}"#;
        assert_eq!(String::from_utf8(round.to_json()).expect("UTF-8"), golden);
    }

    #[test]
    fn a_fraction_has_one_to_six_digits_and_none_when_it_is_zero() {
        assert_eq!(at(0), "1970-01-01T00:00:00Z");
        assert_eq!(at(500_000), "1970-01-01T00:00:00.5Z");
        assert_eq!(at(1), "1970-01-01T00:00:00.000001Z");
        assert_eq!(at(120_000), "1970-01-01T00:00:00.12Z");
        assert_eq!(at(-1), "1969-12-31T23:59:59.999999Z");
    }

    #[test]
    fn years_after_9999_are_rejected() {
        assert_eq!(at(253_402_300_799_999_999), "9999-12-31T23:59:59.999999Z");
        assert_eq!(FinishedAt::from_micros(253_402_300_800_000_000), None);
        assert_eq!(FinishedAt::from_micros(i64::MAX), None);
        assert_eq!(FinishedAt::from_micros(i64::MIN), None);
    }
}
