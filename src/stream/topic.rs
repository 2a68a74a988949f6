//! A client subscribes to a topic: games, types of games, several of either, or everything.

mod index;

use std::{collections::BTreeSet, sync::Arc};

pub use self::index::TopicIndex;

use crate::stream::round::{Game, GameId, Round};

/// A selection of rounds in canonical form: two requests for the same rounds make equal topics and
/// share one channel in the hub.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Topic {
    /// Every round.
    Everything,
    /// Rounds of any of these games, or of any game of one of these types.
    AnyOf {
        /// Games by id, so that a game keeps its subscribers when its slug changes.
        games: BTreeSet<GameId>,
        /// Types by name, so that a game added later belongs to its type at once.
        types: BTreeSet<Arc<str>>,
    },
}

impl Topic {
    /// One game.
    pub fn game(id: GameId) -> Self {
        Self::AnyOf { games: BTreeSet::from([id]), types: BTreeSet::new() }
    }

    /// All games of one type.
    pub fn kind(name: &str) -> Self {
        Self::AnyOf { games: BTreeSet::new(), types: BTreeSet::from([name.into()]) }
    }

    /// Whether the rounds of this game belong to the topic.
    pub fn includes(&self, game: &GameId, kind: &str) -> bool {
        match self {
            Self::Everything => true,
            Self::AnyOf { games, types } => games.contains(game) || types.contains(kind),
        }
    }

    /// Whether this round belongs to the topic.
    pub fn matches(&self, round: &Round) -> bool {
        self.includes(&round.game_id, &round.game_type)
    }

    /// Whether this game belongs to the topic.
    pub fn covers(&self, game: &Game) -> bool {
        self.includes(&game.id, &game.kind)
    }
}

/// The names in a client's request, not yet resolved. Empty means everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Game slugs.
    pub games: Vec<String>,
    /// Game types.
    pub types: Vec<String>,
}
