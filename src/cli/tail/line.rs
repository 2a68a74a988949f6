//! Formats a round as a line, and recognizes rounds that were printed before.

use serde::Deserialize;

use crate::{
    ops::recent_set::RecentSet,
    stream::round::{RoundId, UnixMillis},
};

/// A restarted server repeats only the transactions that overlap the resume point: far fewer.
const REMEMBERED: usize = 10_000;
/// The first widths of the columns.
const GAME_WIDTH: usize = 12;
const ID_WIDTH: usize = 8;

/// A round as it is sent.
#[derive(Debug, Deserialize)]
pub(super) struct Round {
    pub(super) round_id: RoundId,
    game_slug: String,
    finished_at: String,
    extras: String,
    timestamp: i64,
}

/// Reads a message.
pub(super) fn parse(text: &str) -> serde_json::Result<Round> {
    serde_json::from_str(text)
}

/// The rounds printed last. A round that finished a second time counts as another one.
#[derive(Debug, Default)]
pub(super) struct Repeats(RecentSet<(RoundId, String), REMEMBERED>);

impl Repeats {
    /// Whether the round is new. Remembers it.
    pub(super) fn is_new(&mut self, round: &Round) -> bool {
        self.0.insert((round.round_id.clone(), round.finished_at.clone()))
    }
}

/// Formats rounds in columns. A column never gets narrower.
#[derive(Debug)]
pub(super) struct Printer {
    json: bool,
    game_width: usize,
}

impl Printer {
    /// Prints JSON lines or columns.
    pub(super) fn new(json: bool) -> Self {
        Self { json, game_width: GAME_WIDTH }
    }

    /// Finish time, game, round id, time since the server published it, and extras (last, because
    /// they have any length).
    pub(super) fn line(&mut self, round: &Round, text: &str) -> String {
        if self.json {
            return text.to_owned();
        }
        let time = round.finished_at.get(11..19).unwrap_or(&round.finished_at);
        let game = printable(&round.game_slug);
        self.game_width = self.game_width.max(game.chars().count());
        let latency = UnixMillis::now().0.saturating_sub(round.timestamp);
        let (id, extras) = (round.round_id.to_string(), printable(&round.extras));
        let width = self.game_width;
        format!("{time}  {game:width$}  {id:>ID_WIDTH$}  {latency:>5} ms  {extras}")
    }
}

/// Replaces control characters: text from a database must not control the terminal.
fn printable(text: &str) -> String {
    text.chars().map(|char| if char.is_control() { '\u{fffd}' } else { char }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(id: i64, finished_at: &str) -> Round {
        Round {
            round_id: RoundId::number(id),
            game_slug: "cra\u{1b}sh".to_owned(),
            finished_at: finished_at.to_owned(),
            extras: r#"{"point": "11.72"}"#.to_owned(),
            timestamp: UnixMillis::now().0,
        }
    }

    #[test]
    fn a_line_has_time_game_id_latency_and_extras_and_no_control_characters() {
        let line = Printer::new(false).line(&round(512, "2026-01-17T00:45:42.5Z"), "");
        assert!(line.starts_with("00:45:42  cra\u{fffd}sh             512  "), "{line}");
        assert!(line.ends_with(r#" ms  {"point": "11.72"}"#), "{line}");
    }

    #[test]
    fn a_round_is_a_repeat_unless_it_finished_again() {
        let mut repeats = Repeats::default();
        assert!(repeats.is_new(&round(1, "a")));
        assert!(!repeats.is_new(&round(1, "a")));
        assert!(repeats.is_new(&round(1, "b")));
    }
}
