//! Types that games had before: kept while a ring buffer has a round of them.

use std::{collections::HashSet, sync::Arc};

use super::RecentRounds;
use crate::stream::round::GameId;

/// Below this number of types, those without a round are not searched for.
pub(super) const FEW: usize = 64;

impl RecentRounds {
    #[cfg(test)]
    pub(in crate::stream::hub) fn types(&self) -> usize {
        self.types.len()
    }

    /// Forgets types that no game has and that no round in a ring buffer has, once there are many more
    /// types than games: a game may be given another type again and again. The search reads every ring
    /// buffer once, under the lock. The next one waits until there are twice as many types as it left: so
    /// a reload of the directory, which clients cause, does not repeat it.
    pub(super) fn forget_former_types(&mut self) {
        if self.types.len() <= self.types_most {
            return;
        }
        let used = self.used_former_types();
        let games = &self.games;
        self.types.retain(|kind, ids| {
            ids.retain(|id| {
                let has_it = games.get(id).is_some_and(|game| game.kind == *kind);
                has_it || used.contains(&(Arc::clone(kind), id.clone()))
            });
            !ids.is_empty()
        });
        self.types_most = (FEW + 2 * self.games.len()).max(2 * self.types.len());
    }

    /// The types that games had in rounds of their ring buffers, and have no longer.
    fn used_former_types(&self) -> HashSet<(Arc<str>, GameId)> {
        let mut used = HashSet::new();
        for (id, game) in &self.games {
            let former = game.buffer.types().filter(|kind| **kind != game.kind);
            used.extend(former.map(|kind| (Arc::clone(kind), id.clone())));
        }
        used
    }
}
