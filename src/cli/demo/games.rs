//! The rules of the four sample games: the result of a round, its pause and its duration.
//!
//! Extras have the shapes of the API documentation. This module does not use the database.

use std::time::Duration;

use serde::Serialize;

/// The share of the bets that a crash game pays back: the point is 0.99 / u, so that a bet on any
/// point returns 99 %.
const CRASH_RETURN: f64 = 0.99;
/// The round ends at this point by rule. u is that small once in 10,000 rounds.
const CRASH_POINT_MAX: f64 = 10_000.0;
/// Symbol, weight on each reel, and multiplier of three of it.
const SYMBOLS: [(&str, u32, &str); 6] = [
    ("cherry", 8, "2.00"),
    ("lemon", 7, "3.00"),
    ("orange", 6, "5.00"),
    ("plum", 4, "12.00"),
    ("bell", 3, "30.00"),
    ("seven", 1, "500.00"),
];
/// The multiplier of two cherries on any two reels.
const TWO_CHERRIES: &str = "0.50";

/// One of the sample games.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SampleGame {
    Crash,
    Double,
    Slot,
    WallStreet,
}

/// A round with its result, before it is played.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Draw {
    /// Its result, as JSON.
    pub(super) extras: String,
    /// Time before it begins, for bets.
    pub(super) pause: Duration,
    /// Time between its row and its result. `None` if the row is inserted as a finished round.
    pub(super) lasts: Option<Duration>,
}

#[derive(Serialize)]
struct Crash {
    point: String,
}

#[derive(Serialize)]
struct Double {
    color: &'static str,
    number: u8,
}

#[derive(Serialize)]
struct Slot {
    reels: [&'static str; 3],
    multiplier: &'static str,
}

#[derive(Serialize)]
struct WallStreet {
    trending: &'static str,
}

impl SampleGame {
    pub(super) const ALL: [Self; 4] = [Self::Crash, Self::Double, Self::Slot, Self::WallStreet];

    /// The slug by which the game's row is found.
    pub(super) fn slug(self) -> &'static str {
        match self {
            Self::Crash => "crash",
            Self::Double => "double",
            Self::Slot => "slot",
            Self::WallStreet => "wall-street",
        }
    }

    /// Draws the next round.
    pub(super) fn draw(self) -> Draw {
        match self {
            Self::Crash => crash(fastrand::f64()),
            Self::Double => Draw { extras: json(&double()), pause: seconds(6.0), lasts: None },
            Self::Slot => {
                let pause = seconds(1.5 + 3.0 * fastrand::f64());
                Draw { extras: json(&slot()), pause, lasts: None }
            }
            Self::WallStreet => {
                let trending = if fastrand::bool() { "up" } else { "down" };
                let extras = json(&WallStreet { trending });
                Draw { extras, pause: seconds(2.0), lasts: Some(seconds(5.0)) }
            }
        }
    }
}

/// The rocket climbs as e^(t/2): 2.00 after 1.4 s, 100.00 after 9.2 s.
fn crash(u: f64) -> Draw {
    let point = (CRASH_RETURN / (1.0 - u)).clamp(1.0, CRASH_POINT_MAX);
    let extras = json(&Crash { point: format!("{point:.2}") });
    Draw { extras, pause: seconds(3.0), lasts: Some(seconds(2.0 * point.ln())) }
}

/// A wheel of 15 numbers: 0 is green, 1 to 7 red, 8 to 14 black.
fn double() -> Double {
    let number = fastrand::u8(0..15);
    let color = match number {
        0 => "green",
        1..=7 => "red",
        _ => "black",
    };
    Double { color, number }
}

fn slot() -> Slot {
    let reels = [symbol(), symbol(), symbol()];
    Slot { reels, multiplier: multiplier(&reels) }
}

fn symbol() -> &'static str {
    let total = SYMBOLS.iter().map(|(_, weight, _)| weight).sum();
    let mut at = fastrand::u32(0..total);
    for (name, weight, _) in SYMBOLS {
        if at < weight {
            return name;
        }
        at -= weight;
    }
    SYMBOLS[0].0
}

fn multiplier(reels: &[&str; 3]) -> &'static str {
    let three = |(name, _, _): &&(&str, u32, &str)| reels.iter().all(|reel| reel == name);
    if let Some((_, _, pays)) = SYMBOLS.iter().find(three) {
        return pays;
    }
    let cherries = reels.iter().filter(|reel| **reel == "cherry").count();
    if cherries == 2 { TWO_CHERRIES } else { "0.00" }
}

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

fn json(extras: &impl Serialize) -> String {
    // Strings and small numbers always serialize. `{}` is the column's default.
    serde_json::to_string(extras).unwrap_or_else(|_| "{}".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_crash_points_are_below_two() {
        let points = (0..1000).map(|i| crash(f64::from(i) / 1000.0).extras);
        let below = points.filter(|extras| extras.starts_with(r#"{"point":"1."#)).count();
        assert!((500..=510).contains(&below), "{below} of 1000");
        assert_eq!(crash(0.0).extras, r#"{"point":"1.00"}"#);
        assert_eq!(crash(0.999_999_9).extras, r#"{"point":"10000.00"}"#);
    }

    #[test]
    fn a_slot_pays_three_of_a_kind_and_two_cherries() {
        assert_eq!(multiplier(&["seven", "seven", "seven"]), "500.00");
        assert_eq!(multiplier(&["cherry", "lemon", "cherry"]), "0.50");
        assert_eq!(multiplier(&["cherry", "lemon", "orange"]), "0.00");
    }

    #[test]
    fn every_draw_has_the_shape_of_the_api_page() {
        let keys = [
            (SampleGame::Crash, vec!["point"]),
            (SampleGame::Double, vec!["color", "number"]),
            (SampleGame::Slot, vec!["multiplier", "reels"]),
            (SampleGame::WallStreet, vec!["trending"]),
        ];
        for (game, expected) in keys {
            let extras: serde_json::Value =
                serde_json::from_str(&game.draw().extras).expect("valid JSON");
            let mut found: Vec<_> = extras.as_object().expect("an object").keys().collect();
            found.sort();
            assert_eq!(found, expected, "{game:?}");
        }
    }
}
