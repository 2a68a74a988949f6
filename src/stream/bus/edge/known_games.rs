//! The directory as it stands in the log.

use std::collections::BTreeMap;

use crate::stream::{
    bus::codec::GameMessage,
    round::{Game, GameId},
};

/// The rows that an edge has read.
#[derive(Debug, Default)]
pub(super) struct KnownGames {
    rows: BTreeMap<GameId, Game>,
    has_changed: bool,
}

impl KnownGames {
    /// Replaces all rows.
    pub(super) fn replace(&mut self, games: Vec<Game>) {
        self.rows = games.into_iter().map(|game| (game.id.clone(), game)).collect();
        self.has_changed = true;
    }

    pub(super) fn change(&mut self, change: GameMessage) {
        match change {
            GameMessage::Row(game) => drop(self.rows.insert(game.id.clone(), game)),
            GameMessage::Gone(id) => drop(self.rows.remove(&id)),
        }
        self.has_changed = true;
    }

    /// All rows, by id.
    pub(super) fn all(&self) -> Vec<Game> {
        self.rows.values().cloned().collect()
    }

    /// All rows, if any has changed since the last call.
    pub(super) fn take_changed(&mut self) -> Option<Vec<Game>> {
        std::mem::take(&mut self.has_changed).then(|| self.all())
    }
}
