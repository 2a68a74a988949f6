//! The games, if PostgreSQL cannot read the row of one: damaged storage, or a view of games with an
//! expression that fails. The query reads some at a time, and halving finds that one.

use super::rows::{self, Columns};
use crate::stream::round::{Game, GameId};

/// Which games to read, and those that were read.
#[derive(Debug, Default)]
pub(crate) struct GameParts {
    pending: Vec<GamePart>,
    games: Vec<Game>,
}

/// Some games to read.
#[derive(Debug)]
pub(crate) struct GamePart {
    ids: Vec<GameId>,
    /// Whether their names are read. A game without a name has its slug.
    has_names: bool,
}

impl GamePart {
    /// The query of these games.
    pub(crate) fn query(&self, games_by_id: &str) -> String {
        match self.has_names {
            true => games_by_id.to_owned(),
            false => {
                games_by_id.replace("g.name", "g.slug as name").replace("{name}", "null::text")
            }
        }
    }

    /// Its parameters: ids that are numbers, and ids that are strings.
    pub(crate) fn ids(&self) -> (Vec<i64>, Vec<&str>) {
        GameId::by_kind(&self.ids)
    }
}

impl GameParts {
    /// Of the games with the ids in these rows.
    pub(crate) fn of<R: Columns>(ids: &[R]) -> Result<Self, R::Error> {
        let ids = ids.iter().filter_map(|row| rows::game_id(row).map(Result::ok).transpose());
        let part = GamePart { ids: ids.collect::<Result<_, _>>()?, has_names: true };
        Ok(Self { pending: vec![part], games: Vec::new() })
    }

    /// The next ones to read.
    pub(crate) fn next(&mut self) -> Option<GamePart> {
        self.pending.pop()
    }

    /// Takes the rows of a part.
    pub(crate) fn take<R: Columns>(&mut self, rows: &[R]) -> Result<(), R::Error> {
        for row in rows {
            self.games.extend(rows::game(row)?);
        }
        Ok(())
    }

    /// The query of a part failed. A single game is read without its name, or left out.
    pub(crate) fn split(&mut self, part: GamePart, error: &dyn std::error::Error) {
        let GamePart { mut ids, has_names } = part;
        if ids.len() > 1 {
            let second = ids.split_off(ids.len() / 2);
            self.pending.extend([ids, second].map(|ids| GamePart { ids, has_names }));
        } else if has_names {
            self.pending.push(GamePart { ids, has_names: false });
        } else if let [id] = &ids[..] {
            tracing::warn!(%error, game.id = %id, "a game cannot be read and is left out");
        }
    }

    /// The games that can be read, by id.
    pub(crate) fn games(mut self) -> Vec<Game> {
        self.games.sort_by(|one, other| one.id.cmp(&other.id));
        self.games
    }
}
