//! Taking back what turned out to be no round: who comes later is not seeded with it, nor told of it.

use crate::stream::transaction::Finish;
use std::collections::HashMap;

use super::{Encoded, GameId, Memory};

impl Memory {
    /// Forgets these finishes. A game that had one of them as its latest round gets the one from
    /// `latest`, which has the latest of every game.
    pub(in crate::stream::hub) fn retract(&mut self, finishes: &[Finish], latest: Vec<Encoded>) {
        for game in self.games.values_mut() {
            game.recent.retain(|entry| !finishes.contains(&entry.finish()));
        }
        for (_, round) in finishes {
            let Some((game, position)) = self.points.get(round) else { continue };
            let game = self.games.get(game);
            if game.is_none_or(|game| game.recent.find(*position).is_none()) {
                self.points.remove(round);
            }
        }
        let mut latest: HashMap<GameId, Encoded> =
            latest.into_iter().map(|encoded| (encoded.0.round.game_id, encoded)).collect();
        let is_of_one = |id| finishes.iter().any(|(_, round)| *round == id);
        let games = self.games.iter().filter(|(_, game)| is_of_one(game.latest.1.round_id()));
        for id in games.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.replace_latest(id, latest.remove(&id));
        }
    }

    /// A game without any finished round is not known, as before its first.
    fn replace_latest(&mut self, id: GameId, latest: Option<Encoded>) {
        let Some(game) = self.games.get_mut(&id) else { return };
        self.ages.remove(&(game.latest.0, id));
        match latest {
            Some((captured, frame)) => {
                let age = captured.round.age();
                game.latest = (age, frame);
                self.ages.insert((age, id));
            }
            None => drop(self.games.remove(&id)),
        }
    }
}
