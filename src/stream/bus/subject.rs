//! Subjects of the log. A token contains no byte that NATS gives a meaning to.
//!
//! Slugs are in no subject: an id has at most 200 bytes, a slug any number, and NATS ends a
//! connection that sends a subject of 4 KiB.

use std::fmt::Write;

use crate::stream::round::GameId;

/// The subjects below one prefix.
#[derive(Clone, Debug)]
pub(crate) struct Subjects {
    prefix: String,
}

/// What a message of the log is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A round, or a part of one.
    Round,
    /// The row of this game.
    Game(GameId),
    /// A claim to lead.
    Claim,
    /// The log begins again.
    Begin,
    /// A position alone.
    Mark,
}

impl Subjects {
    /// Below this prefix, `datastream` by default.
    pub(crate) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned() }
    }

    /// The first tokens.
    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Everything in the log.
    pub(crate) fn log(&self) -> String {
        format!("{}.log.>", self.prefix)
    }

    /// Rounds of this game.
    pub(crate) fn round(&self, game: &GameId) -> String {
        format!("{}.log.r.{}", self.prefix, game_token(game))
    }

    /// Rounds of all games.
    pub(crate) fn rounds(&self) -> String {
        format!("{}.log.r.*", self.prefix)
    }

    /// A game's row of the directory.
    pub(crate) fn game(&self, game: &GameId) -> String {
        format!("{}.log.g.{}", self.prefix, game_token(game))
    }

    /// The rows of all games.
    pub(crate) fn games(&self) -> String {
        format!("{}.log.g.*", self.prefix)
    }

    /// A node that claims to lead.
    pub(crate) fn claim(&self) -> String {
        format!("{}.log.c", self.prefix)
    }

    /// Where the log begins again.
    pub(crate) fn begin(&self) -> String {
        format!("{}.log.b", self.prefix)
    }

    /// A position without a round.
    pub(crate) fn mark(&self) -> String {
        format!("{}.log.m", self.prefix)
    }

    /// What the stream publishes again to everybody who listens.
    pub(crate) fn live(&self) -> String {
        format!("{}.live.>", self.prefix)
    }

    /// What a message of the log, or of its repetition, is about.
    pub(crate) fn kind(&self, subject: &str) -> Option<Kind> {
        let rest = subject.strip_prefix(self.prefix.as_str())?;
        let rest = rest.strip_prefix(".log.").or_else(|| rest.strip_prefix(".live."))?;
        match rest.split_once('.') {
            Some(("r", _)) => Some(Kind::Round),
            Some(("g", token)) => {
                text(token).and_then(|id| serde_json::from_str(&id).ok()).map(Kind::Game)
            }
            Some(_) => None,
            None => match rest {
                "c" => Some(Kind::Claim),
                "b" => Some(Kind::Begin),
                "m" => Some(Kind::Mark),
                _ => None,
            },
        }
    }

    /// The leader's beat.
    pub(crate) fn beat(&self) -> String {
        format!("{}.beat", self.prefix)
    }

    /// Questions for the leader.
    pub(crate) fn ask(&self, question: &str) -> String {
        format!("{}.ask.{question}", self.prefix)
    }

    /// The question that a subject names.
    pub(crate) fn question<'a>(&self, subject: &'a str) -> Option<&'a str> {
        subject.strip_prefix(self.prefix.as_str())?.strip_prefix(".ask.")
    }
}

/// The JSON of the id: a text that looks like a number is another game.
fn game_token(game: &GameId) -> String {
    // Serializing a number or a string cannot fail.
    token(&serde_json::to_string(game).unwrap_or_default())
}

/// Bytes other than `A-Za-z0-9_-` as `%XX`; `%` alone is the empty text.
pub(crate) fn token(text: &str) -> String {
    let mut token = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' => token.push(char::from(byte)),
            // Writing to a String cannot fail.
            other => drop(write!(token, "%{other:02X}")),
        }
    }
    if token.is_empty() { "%".to_owned() } else { token }
}

/// The text of a token; `None` if it is not one that [`token`] makes.
fn text(token: &str) -> Option<String> {
    if token == "%" {
        return Some(String::new());
    }
    let (mut bytes, mut rest) = (Vec::with_capacity(token.len()), token.bytes());
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => hex(rest.next()?)? * 16 + hex(rest.next()?)?,
            plain => plain,
        });
    }
    String::from_utf8(bytes).ok()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_survives_as_a_token_without_dots_wildcards_or_spaces() {
        for sample in
            ["", "crash", "a.b", "*", ">", "a b\t", "ü", "%", "%25", "x".repeat(200).as_str()]
        {
            let made = token(sample);
            assert!(!made.contains(['.', '*', '>', ' ', '\t']) && !made.is_empty(), "{made}");
            assert_eq!(text(&made).as_deref(), Some(sample));
        }
        assert_eq!(text("%4"), None);
    }

    #[test]
    fn the_kind_of_a_subject_is_the_same_in_the_log_and_in_its_repetition() {
        let subjects = Subjects::new("datastream");
        let (number, text) = (GameId::number(1), GameId::text("1").expect("an id"));
        assert_ne!(subjects.game(&number), subjects.game(&text));
        for id in [number, text] {
            let subject = subjects.game(&id);
            assert_eq!(subjects.kind(&subject), Some(Kind::Game(id.clone())));
            assert_eq!(subjects.kind(&subject.replace(".log.", ".live.")), Some(Kind::Game(id)));
        }
        assert_eq!(subjects.kind("datastream.live.r.1"), Some(Kind::Round));
        assert_eq!(subjects.kind("other.log.r.1"), None);
        assert_eq!(subjects.kind("datastream.log.z"), None);
    }
}
