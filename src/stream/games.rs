//! The directory of games: names to ids, ids to names. Every request reads it; a reload replaces it.

use std::{collections::HashMap, sync::Arc};

use arc_swap::ArcSwap;

use crate::{
    ops::{
        memory_budget::{CountedBytes, MemoryBudget},
        telemetry::metrics::MemoryUse,
    },
    stream::{
        round::{Game, GameId},
        topic::{Selection, Topic},
    },
};

/// A name that no game and no type has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnknownName {
    /// No game has this slug.
    #[error("there is no game {0:?}")]
    Game(String),
    /// No game has this type.
    #[error("there is no game of type {0:?}")]
    Type(String),
}

/// The directory has at most this part of the memory for history, in which its bytes count.
const HISTORY_PART: usize = 4;
/// The bytes that a game keeps besides its names: its entries, and their hash tables.
const ENTRY_BYTES: usize = 256;

#[derive(Debug, Default)]
struct Directory {
    all: Arc<[Game]>,
    by_id: HashMap<GameId, usize>,
    by_slug: HashMap<Arc<str>, usize>,
    _counted: Option<CountedBytes>,
}

/// The games known to this process. Cheap to clone; clones show the same games.
#[derive(Clone, Debug)]
pub struct Games {
    directory: Arc<ArcSwap<Directory>>,
    budget: MemoryBudget,
}

impl Default for Games {
    /// A directory without a limit.
    fn default() -> Self {
        Self::within(&MemoryBudget::unlimited())
    }
}

impl Games {
    /// A directory within this budget.
    pub(crate) fn within(budget: &MemoryBudget) -> Self {
        Self { directory: Arc::default(), budget: budget.clone() }
    }

    /// Replaces the directory with these games, if they differ. One that is too large is not taken:
    /// games that are not in the last one are unknown then, and their rounds are streamed to those
    /// that selected their type or everything.
    pub fn replace(&self, games: Vec<Game>) {
        if *self.directory.load().all == *games {
            return;
        }
        let bytes = games.iter().map(|game| game.name_bytes() + ENTRY_BYTES).sum();
        let most = self.budget.share(MemoryUse::history) / HISTORY_PART;
        if bytes > most {
            tracing::error!(
                games = games.len(),
                bytes,
                most,
                "the games have more names than the memory for them: keeping the former ones. \
                 Increase DATASTREAM_MEMORY."
            );
            return;
        }
        let _counted = Some(self.budget.count(MemoryUse::history, bytes));
        let by_id =
            games.iter().enumerate().map(|(index, game)| (game.id.clone(), index)).collect();
        let slugs = games.iter().enumerate();
        let by_slug = slugs.map(|(index, game)| (Arc::clone(&game.slug), index)).collect();
        self.directory.store(Arc::new(Directory { all: games.into(), by_id, by_slug, _counted }));
    }

    /// All games, by id.
    pub fn all(&self) -> Arc<[Game]> {
        Arc::clone(&self.directory.load().all)
    }

    /// One game by its id.
    pub fn by_id(&self, id: &GameId) -> Option<Game> {
        let directory = self.directory.load();
        directory.by_id.get(id).and_then(|&index| directory.all.get(index)).cloned()
    }

    /// One game by its slug.
    pub fn by_slug(&self, slug: &str) -> Result<Game, UnknownName> {
        let directory = self.directory.load();
        let found = directory.by_slug.get(slug).and_then(|&index| directory.all.get(index));
        found.cloned().ok_or_else(|| UnknownName::Game(slug.to_owned()))
    }

    /// The topic that these names select.
    pub fn topic(&self, selection: &Selection) -> Result<Topic, UnknownName> {
        if *selection == Selection::default() {
            return Ok(Topic::Everything);
        }
        let games = selection.games.iter().map(|slug| self.by_slug(slug).map(|game| game.id));
        let types = selection.types.iter().map(|name| self.kind(name));
        Ok(Topic::AnyOf {
            games: games.collect::<Result<_, _>>()?,
            types: types.collect::<Result<_, _>>()?,
        })
    }

    fn kind(&self, name: &str) -> Result<Arc<str>, UnknownName> {
        let directory = self.directory.load();
        let found = directory.all.iter().find(|game| *game.kind == *name);
        found.map(|game| Arc::clone(&game.kind)).ok_or_else(|| UnknownName::Type(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::telemetry::metrics::Metrics;

    fn games() -> Games {
        let games = Games::default();
        let game = |id, slug: &str, kind: &str| Game {
            id: GameId::number(id),
            slug: slug.into(),
            name: slug.into(),
            kind: kind.into(),
        };
        games.replace(vec![game(1, "crash", "multiplier"), game(3, "double", "color")]);
        games
    }

    fn select(games: &[&str], types: &[&str]) -> Selection {
        let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        Selection { games: owned(games), types: owned(types) }
    }

    #[test]
    fn the_same_games_in_another_order_are_the_same_topic() {
        let one = games().topic(&select(&["double", "crash", "crash"], &[]));
        assert_eq!(one, games().topic(&select(&["crash", "double"], &[])));
        assert_eq!(games().topic(&select(&[], &[])), Ok(Topic::Everything));
    }

    #[test]
    fn games_with_more_names_than_the_memory_for_them_do_not_replace_the_former_ones() {
        let budget = MemoryBudget::new(64 << 10, &Metrics::default());
        let games = Games::within(&budget);
        let game = |id: i64| Game {
            id: GameId::number(id),
            slug: format!("game-{id}").into(),
            name: "x".repeat(1000).into(),
            kind: "kind".into(),
        };
        games.replace((0..5).map(game).collect());
        let used = budget.used(MemoryUse::history);
        assert!((6_000..8_000).contains(&used), "{used}");
        games.replace((0..10).map(game).collect());
        assert_eq!((games.all().len(), budget.used(MemoryUse::history)), (5, used));
        games.replace(Vec::new());
        assert_eq!((games.all().len(), budget.used(MemoryUse::history)), (0, 0));
    }

    #[test]
    fn the_error_contains_the_unknown_name() {
        let unknown = games().topic(&select(&["crash", "chess"], &[]));
        assert_eq!(unknown, Err(UnknownName::Game("chess".into())));
        let unknown = games().topic(&select(&[], &["crash"]));
        assert_eq!(unknown, Err(UnknownName::Type("crash".into())));
    }
}
