//! Guesses the game of a round: a table of games, columns of the round, or constants.

use super::{
    guess::as_prefix,
    table::{Column, Reference, Table, has_word},
};

const GAMES: [&str; 10] = [
    "game", "games", "title", "titles", "variant", "variants", "mode", "modes", "product",
    "products",
];
/// Tables that rounds refer to as well.
const OTHERS: [&str; 15] = [
    "user",
    "users",
    "player",
    "players",
    "account",
    "accounts",
    "customer",
    "customers",
    "member",
    "members",
    "currency",
    "currencies",
    "operator",
    "operators",
    "wallet",
];
const SLUGS: [&str; 3] = ["slug", "code", "key"];
const NAMES: [&str; 4] = ["name", "title", "label", "display"];
const TYPES: [&str; 6] = ["type", "kind", "category", "family", "genre", "group"];
/// Of a round: the slug of its game.
const ROUND_SLUGS: [&str; 5] = ["slug", "game", "mode", "title", "shop"];
/// The type if no column says it.
const TYPE: &str = "game";

/// The options, and the columns of the round that they use.
pub(super) struct Game {
    pub(super) options: Vec<(&'static str, String)>,
    pub(super) columns: Vec<String>,
}

pub(super) fn guess(table: &Table) -> Game {
    let by_reference = table.references.iter().filter_map(of_reference);
    let best = by_reference.min_by_key(|(rank, _)| *rank).map(|(_, game)| game);
    best.or_else(|| of_columns(table)).unwrap_or_else(|| of_constants(table))
}

/// A table of games has a slug, or a name that serves as one. The rank is lower for a better name.
fn of_reference(reference: &Reference) -> Option<(u8, Game)> {
    let (columns, named) = (&reference.columns, |words: &[&str]| has_word(&reference.name, words));
    let text = |words: &[&str]| columns.iter().find(|it| it.is_text() && it.has_word(words));
    let slug = text(&SLUGS);
    let is_game = named(&GAMES) || has_word(&reference.column, &GAMES);
    if named(&OTHERS) || !is_game && slug.is_none() {
        return None;
    }
    let slug = slug.or_else(|| text(&NAMES))?;
    let name = text(&NAMES).unwrap_or(slug);
    let kind = columns.iter().find(|it| it.has_word(&TYPES) && !it.has_word(&["id"]));
    let kind = match kind {
        Some(column) => ("--games-type", column.name.clone()),
        None => ("--type", TYPE.to_owned()),
    };
    let options = vec![
        ("--game-id", reference.column.clone()),
        ("--games", reference.table.clone()),
        ("--games-id", reference.id.clone()),
        ("--games-slug", slug.name.clone()),
        ("--games-name", name.name.clone()),
        kind,
    ];
    Some((u8::from(!is_game), Game { options, columns: vec![reference.column.clone()] }))
}

fn of_columns(table: &Table) -> Option<Game> {
    let is_text = |column: &&Column| column.is_text() && column.is_readable();
    let texts = || table.columns.iter().filter(is_text);
    let is_slug = |it: &&Column| it.has_word(&ROUND_SLUGS) && !it.has_word(&["id", "type"]);
    let slug = texts().find(is_slug)?;
    let is_id = |it: &&Column| {
        it.is_key() && it.r#type != "numeric" && it.has_word(&["game"]) && it.has_word(&["id"])
    };
    let id = table.columns.iter().find(is_id).unwrap_or(slug);
    let mut columns = vec![slug.name.clone(), id.name.clone()];
    let kind = match texts().find(|it| it.name != slug.name && it.has_word(&TYPES)) {
        Some(column) => {
            columns.push(column.name.clone());
            ("--type-column", column.name.clone())
        }
        None => ("--type", TYPE.to_owned()),
    };
    let options = vec![("--game-id", id.name.clone()), ("--slug-column", slug.name.clone()), kind];
    Some(Game { options, columns })
}

/// The name of the table is the slug and the id: those of two tables differ.
fn of_constants(table: &Table) -> Game {
    let slug = as_prefix(&table.name);
    let options =
        vec![("--game-id-value", slug.clone()), ("--slug", slug), ("--type", TYPE.to_owned())];
    Game { options, columns: Vec::new() }
}
