//! Types that games had before: kept while a ring buffer has a round of them.

use super::RecentRounds;

/// Below this number of types, those without a round are not searched for.
const FEW: usize = 64;

impl RecentRounds {
    #[cfg(test)]
    pub(in crate::stream::hub) fn types(&self) -> usize {
        self.types.len()
    }

    /// Forgets types that no game has and that no round in a ring buffer has, once there are many more
    /// types than games: a game may be given another type again and again.
    pub(super) fn forget_former_types(&mut self) {
        if self.types.len() <= FEW + 2 * self.games.len() {
            return;
        }
        let games = &self.games;
        self.types.retain(|kind, ids| {
            ids.retain(|id| {
                games.get(id).is_some_and(|game| game.kind == *kind || game.buffer.has_type(kind))
            });
            !ids.is_empty()
        });
    }
}
