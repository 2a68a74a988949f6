//! Ids of rounds and games: a number, or a short string.
//!
//! An id has one text on the wire. [`RoundId::text`] and [`GameId::text`] check it where it enters
//! the program, so every other part can pass it on unchanged.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, de};

/// The most bytes of a string. The outbox indexes it, and an SSE stream repeats it in each event.
pub(crate) const TEXT_MAX: usize = 200;

/// The id of a row. Numbers come before strings, numbers by value, strings by bytes: the same order
/// as `collate "C"` of PostgreSQL. A number costs no allocation.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(untagged)]
enum Id {
    Number(i64),
    Text(Arc<str>),
}

/// Why a text is no id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidId {
    /// It has no characters.
    #[error("it is empty")]
    Empty,
    /// It has more than [`TEXT_MAX`] bytes.
    #[error("it is longer than 200 bytes")]
    TooLong,
    /// It has a control character.
    #[error("it contains a control character")]
    ControlCharacter,
}

/// The id of a round's row: unique over all attached tables. Clients resume after such an id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct RoundId(Id);

/// The round that a client names by its text on the wire. `12` may be the number or the string.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct NamedRound {
    number: Option<RoundId>,
    text: Option<RoundId>,
}

/// The id of a game's row.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct GameId(Id);

impl Id {
    fn text(text: &str) -> Result<Self, InvalidId> {
        if text.is_empty() {
            return Err(InvalidId::Empty);
        }
        if text.len() > TEXT_MAX {
            return Err(InvalidId::TooLong);
        }
        if text.chars().any(char::is_control) {
            return Err(InvalidId::ControlCharacter);
        }
        Ok(Self::Text(text.into()))
    }

    fn as_number(&self) -> Option<i64> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Text(_) => None,
        }
    }

    fn as_text(&self) -> Option<&str> {
        match self {
            Self::Number(_) => None,
            Self::Text(text) => Some(text),
        }
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Text(text) => text.fmt(f),
        }
    }
}

/// What both ids have.
macro_rules! id_methods {
    ($id:ident) => {
        impl $id {
            /// The id of a table whose ids are numbers on the wire.
            pub const fn number(number: i64) -> Self {
                Self(Id::Number(number))
            }

            /// The id as its text on the wire, with the prefix of its table.
            pub fn text(text: &str) -> Result<Self, InvalidId> {
                Id::text(text).map(Self)
            }

            /// The number; `None` if the id is a string.
            pub fn as_number(&self) -> Option<i64> {
                self.0.as_number()
            }

            /// The string; `None` if the id is a number.
            pub fn as_text(&self) -> Option<&str> {
                self.0.as_text()
            }

            /// The numbers and the strings among these, as parameters of a query.
            pub(crate) fn by_kind(ids: &[Self]) -> (Vec<i64>, Vec<&str>) {
                let texts = ids.iter().filter_map(Self::as_text).collect();
                (ids.iter().filter_map(Self::as_number).collect(), texts)
            }
        }

        impl fmt::Display for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl<'de> Deserialize<'de> for $id {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                match JsonId::deserialize(deserializer)? {
                    JsonId::Number(number) => Ok(Self::number(number)),
                    JsonId::Text(text) => Self::text(&text).map_err(de::Error::custom),
                }
            }
        }
    };
}

id_methods!(RoundId);
id_methods!(GameId);

impl RoundId {
    /// The columns `round_id` and `round_key` of the outbox: the number and an empty text, or 0 and
    /// the string. Equal columns are equal ids, because no string is empty.
    pub fn columns(&self) -> (i64, &str) {
        match &self.0 {
            Id::Number(number) => (*number, ""),
            Id::Text(text) => (0, text),
        }
    }
}

impl FromStr for RoundId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        Self::text(text)
    }
}

/// As in the JSON of a round.
#[derive(Deserialize)]
#[serde(untagged)]
enum JsonId {
    Number(i64),
    Text(String),
}

impl NamedRound {
    /// Checks the text.
    pub(crate) fn parse(text: &str) -> Result<Self, InvalidId> {
        let named = RoundId::text(text)?;
        // A number has one text: `+5`, `05` and `-0` name no number.
        let number = text.parse().ok().filter(|number: &i64| number.to_string() == text);
        Ok(Self { number: number.map(RoundId::number), text: Some(named) })
    }

    /// A round that no database has.
    pub(crate) fn unknown() -> Self {
        Self::default()
    }

    /// The ids that it may be, in the order in which they are looked for.
    pub(crate) fn candidates(&self) -> impl Iterator<Item = &RoundId> {
        self.number.iter().chain(&self.text)
    }
}

impl fmt::Display for NamedRound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text.iter().try_for_each(|text| text.fmt(f))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(id: &str) -> RoundId {
        RoundId::text(id).expect("an id")
    }

    #[test]
    fn numbers_come_by_value_before_strings_by_bytes() {
        let sorted = [
            RoundId::number(-1),
            RoundId::number(2),
            RoundId::number(10),
            text("10"),
            text("B"),
            text("a"),
            text("é"),
        ];
        assert!(sorted.is_sorted_by(|a, b| a < b));
    }

    #[test]
    fn a_number_is_a_json_number_and_everything_else_a_json_string() {
        let json = |id| serde_json::to_string(&id).expect("JSON");
        assert_eq!(json(RoundId::number(i64::MAX)), "9223372036854775807");
        assert_eq!(json(text("12")), r#""12""#);
        assert_eq!(json(text("a \"/:%é")), r#""a \"/:%é""#);
    }

    #[test]
    fn a_text_that_is_empty_or_long_or_has_control_characters_is_no_id() {
        assert_eq!(RoundId::text(""), Err(InvalidId::Empty));
        assert_eq!(RoundId::text(&"é".repeat(101)), Err(InvalidId::TooLong));
        assert!(RoundId::text(&"é".repeat(100)).is_ok());
        for control in ["a\nb", "\0", "\u{7f}", "\u{85}"] {
            assert_eq!(RoundId::text(control), Err(InvalidId::ControlCharacter));
        }
    }

    #[test]
    fn a_number_and_the_same_digits_as_a_string_are_two_ids() {
        assert_ne!(RoundId::number(12), text("12"));
        assert_ne!(RoundId::number(12).columns(), text("12").columns());
        assert_eq!(RoundId::number(0).columns(), (0, ""));
    }

    #[test]
    fn a_text_of_digits_names_the_number_first_and_then_the_string() {
        let named = |name: &str| {
            let named = NamedRound::parse(name).expect("an id");
            named.candidates().cloned().collect::<Vec<_>>()
        };
        assert_eq!(named("12"), [RoundId::number(12), text("12")]);
        assert_eq!(named("-3"), [RoundId::number(-3), text("-3")]);
        for only_text in ["+5", "05", "-0", "1.0", " 1", "1e3", "9223372036854775808"] {
            assert_eq!(named(only_text), [text(only_text)]);
        }
        assert_eq!(NamedRound::unknown().candidates().next(), None);
    }

    #[test]
    fn json_is_read_as_it_is_written() {
        for id in [RoundId::number(-7), text("12"), text("a \"/:%é\u{2028}")] {
            let json = serde_json::to_string(&id).expect("JSON");
            assert_eq!(serde_json::from_str::<RoundId>(&json).expect("an id"), id);
        }
        for no_id in ["1.5", "\"\"", "null", "9223372036854775808", "\"a\\n\""] {
            assert!(serde_json::from_str::<RoundId>(no_id).is_err(), "{no_id}");
        }
    }

    #[test]
    fn an_id_takes_two_machine_words() {
        assert_eq!(size_of::<RoundId>(), 16);
    }
}
