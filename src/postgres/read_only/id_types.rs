//! The types of the ids in the operator's queries, and the database's encoding. A query compares an id
//! in its own type: an expression over the column would keep PostgreSQL from using the table's index.

mod undefined_bytes;

/// How a uuid is written on the wire. A cast of another text would fail the query.
const UUID: &str = "'^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'";

/// The type of an id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum IdType {
    /// A number on the wire.
    #[default]
    Integer,
    Uuid,
    Text,
    /// Its text is compared, without an index.
    Other,
}

/// The types of a round's id and of a game's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct IdTypes {
    round: IdType,
    game: IdType,
    /// A regular expression of the bytes that UTF-8 has no character for; empty if there is none.
    undefined: &'static str,
}

impl IdTypes {
    /// From PostgreSQL's names of the types.
    pub(crate) fn of(round: &str, game: &str) -> Self {
        Self { round: IdType::of(round), game: IdType::of(game), undefined: "" }
    }

    /// The same in a database of this encoding.
    pub(crate) fn in_encoding(self, encoding: &str) -> Self {
        Self { undefined: undefined_bytes::of(encoding), ..self }
    }

    /// Replaces the words in braces: `{round:key}`, or `{game:is $1 $2}` with a number and a text.
    pub(in crate::postgres) fn fill(self, query: &str) -> String {
        let mut parts = query.split('{');
        let mut filled = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let (word, rest) = part.split_once('}').unwrap_or((part, ""));
            // An empty JSON object is no word.
            filled += &if word.is_empty() { "{}".to_owned() } else { self.expression(word) };
            filled += rest;
        }
        filled
    }

    /// Whether UTF-8 has all characters of a text.
    fn is_text(self, value: &str) -> String {
        match self.undefined {
            "" => "true".to_owned(),
            bytes => format!("({value} collate \"C\") !~ '{bytes}'"),
        }
    }

    /// A text, or null if UTF-8 lacks a character of it.
    fn text(self, value: &str) -> String {
        match self.undefined {
            "" => value.to_owned(),
            _ => format!("case when {} then {value} end", self.is_text(value)),
        }
    }

    /// Whether UTF-8 has all characters of an id.
    fn is_id(self, id_type: IdType, column: &str) -> String {
        match id_type {
            IdType::Integer | IdType::Uuid => "true".to_owned(),
            IdType::Text | IdType::Other => self.is_text(&format!("{column}::text")),
        }
    }

    /// The text of an id for the log.
    fn shown(self, id_type: IdType, column: &str) -> String {
        match (id_type.text(column), self.undefined) {
            (text, "") => text,
            (text, bytes) => format!("regexp_replace({text} collate \"C\", '{bytes}', '?', 'g')"),
        }
    }

    fn expression(self, word: &str) -> String {
        match word {
            "slug" | "type" | "name" => return self.text(&format!("g.{word}::text")),
            "sendable" => {
                let round = self.is_id(self.round, "s.round_id");
                return format!("{round} and {}", self.is_id(self.game, "s.game_id"));
            }
            _ => {}
        }
        let (of, what) = word.split_once(':').unwrap_or((word, ""));
        let (id_type, column) = match of {
            "round" => (self.round, "f.round_id"),
            "before" => (self.round, "b.round_id"),
            "game" => (self.game, "f.game_id"),
            _ => (self.game, "g.id"),
        };
        let mut words = what.split(' ');
        let what = words.next().unwrap_or_default();
        let (number, text) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        match what {
            "id" => id_type.number(column),
            "key" => id_type.text(column),
            "shown" => self.shown(id_type, column),
            "is_text" => self.is_id(id_type, column),
            "order" => id_type.order(column),
            "is" => id_type.is(column, number, text),
            "less" => id_type.is_less(column, number, text),
            "named" => id_type.is_named(column),
            _ => id_type.is_in(column, number, text),
        }
    }
}

impl IdType {
    fn of(name: &str) -> Self {
        match name {
            "smallint" | "integer" | "bigint" => Self::Integer,
            "uuid" => Self::Uuid,
            "text" | "character varying" => Self::Text,
            _ => Self::Other,
        }
    }

    fn number(self, column: &str) -> String {
        match self {
            Self::Integer => format!("{column}::bigint"),
            _ => "null::bigint".to_owned(),
        }
    }

    fn text(self, column: &str) -> String {
        match self {
            Self::Integer => "null::text".to_owned(),
            _ => format!("{column}::text"),
        }
    }

    /// Numbers by value, strings by bytes.
    fn order(self, column: &str) -> String {
        match self {
            Self::Integer => column.to_owned(),
            _ => format!("{column}::text collate \"C\""),
        }
    }

    /// Both parameters stand in the query, so that PostgreSQL knows their types.
    fn is(self, column: &str, number: &str, text: &str) -> String {
        match self {
            Self::Integer => format!("({column} = {number}::bigint and {text}::text is null)"),
            Self::Uuid => format!(
                "({column} = (case when {text}::text ~ {UUID} then {text}::text::uuid end) and {number}::bigint is null)"
            ),
            Self::Text => format!("({column} = {text}::text and {number}::bigint is null)"),
            Self::Other => format!("({column}::text = {text}::text and {number}::bigint is null)"),
        }
    }

    /// Whether the id comes before another one on the wire: every number before every string.
    fn is_less(self, column: &str, number: &str, text: &str) -> String {
        match self {
            Self::Integer => format!("({column} < {number}::bigint or {text}::text is not null)"),
            _ => format!(
                "({column}::text collate \"C\" < {text}::text collate \"C\" and {number}::bigint is null)"
            ),
        }
    }

    /// Whether it is the id in the columns `round_id` and `round_key` of a row `n`.
    fn is_named(self, column: &str) -> String {
        match self {
            Self::Integer => format!("({column} = n.round_id and n.round_key = '')"),
            Self::Uuid => {
                format!("{column} = (case when n.round_key ~ {UUID} then n.round_key::uuid end)")
            }
            Self::Text => format!("{column} = n.round_key"),
            Self::Other => format!("{column}::text = n.round_key"),
        }
    }

    fn is_in(self, column: &str, numbers: &str, texts: &str) -> String {
        let ids = match self {
            Self::Integer => format!("{column} = any ({numbers}::bigint[])"),
            Self::Uuid => format!(
                "{column} = any (array(select case when k ~ {UUID} then k::uuid end from unnest({texts}::text[]) k))"
            ),
            Self::Text => format!("{column} = any ({texts}::text[])"),
            Self::Other => format!("{column}::text = any ({texts}::text[])"),
        };
        format!("({ids} and {numbers}::bigint[] is not null and {texts}::text[] is not null)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_compared_in_its_own_type() {
        let types = IdTypes::of("uuid", "character varying");
        assert_eq!(
            types.fill("select {round:id}, {game:key}"),
            "select null::bigint, f.game_id::text"
        );
        assert!(
            types.fill("{round:in $1 $2}").contains("f.round_id = any (array(select case when")
        );
        assert_eq!(
            types.fill("a {game:is $1 $2} b"),
            "a (f.game_id = $2::text and $1::bigint is null) b"
        );
        let numbers = IdTypes::default();
        assert_eq!(numbers.fill("{slug} {sendable}"), "g.slug::text true and true");
        assert_eq!(numbers.fill("{before:order}, {g:id}"), "b.round_id, g.id::bigint");
    }

    #[test]
    fn a_text_that_the_encoding_cannot_turn_into_utf_8_is_left_out() {
        let types = IdTypes::of("text", "bigint").in_encoding("WIN1252");
        let bytes = r"[\x81\x8d\x8f\x90\x9d]";
        assert_eq!(
            types.fill("{sendable}"),
            format!("(s.round_id::text collate \"C\") !~ '{bytes}' and true")
        );
        assert!(types.fill("{slug}").starts_with("case when (g.slug::text collate"));
        assert_eq!(types.in_encoding("UTF8").fill("{round:shown}"), "f.round_id::text");
    }
}
