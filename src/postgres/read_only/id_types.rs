//! The types of the ids in the operator's queries. A query compares an id in its own type: an expression
//! over the column would keep PostgreSQL from using the table's index.

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
}

impl IdTypes {
    /// From PostgreSQL's names of the types.
    pub(crate) fn of(round: &str, game: &str) -> Self {
        Self { round: IdType::of(round), game: IdType::of(game) }
    }

    /// Replaces the words in braces: `{round:key}`, or `{game:is $1 $2}` with a number and a text.
    pub(super) fn fill(self, query: &str) -> String {
        let mut parts = query.split('{');
        let mut filled = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let (word, rest) = part.split_once('}').unwrap_or((part, ""));
            filled += &self.expression(word);
            filled += rest;
        }
        filled
    }

    fn expression(self, word: &str) -> String {
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
        assert_eq!(numbers.fill("{before:order}, {g:id}"), "b.round_id, g.id::bigint");
    }
}
