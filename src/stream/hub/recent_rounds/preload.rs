//! The rounds from before this process: recent ones of the outbox, and the latest one of each game.

use std::collections::HashSet;

use super::{Encoded, RecentRounds};
use crate::stream::{hub::Position, round::GameId, transaction::Xid};

impl RecentRounds {
    pub(in crate::stream::hub) fn preload(
        &mut self,
        recent: Vec<Encoded>,
        latest: Vec<Encoded>,
        trimmed: Xid,
    ) {
        // A round without an outbox row is older than every round with one, so it goes first.
        let known: HashSet<_> =
            recent.iter().map(|encoded| encoded.captured.round.round_id.clone()).collect();
        let (known, table_only): (Vec<_>, Vec<_>) =
            latest.into_iter().partition(|it| known.contains(&it.captured.round.round_id));
        for encoded in table_only.into_iter().chain(recent) {
            self.place(encoded);
        }
        for encoded in known {
            self.keep_latest(&encoded);
        }
        self.shrink();
        for game in self.games.values_mut().filter(|game| game.buffer.is_full()) {
            // The query returns at most as many rounds as the ring buffer holds: older ones may exist.
            let oldest = game.buffer.after(Position(0)).next().map_or(Xid(0), |entry| entry.xid);
            game.buffer.mark_truncated(oldest);
        }
        self.trimmed = trimmed;
        self.first_live = Position(self.head.0 + 1);
    }

    /// Adds latest rounds of games, which are older than all recent ones. A later one of the same game
    /// replaces it, and so does the same round among the recent ones.
    pub(in crate::stream::hub) fn preload_latest(&mut self, latest: Vec<Encoded>) {
        for encoded in latest {
            self.forget_latest_of(&encoded.captured.round.game_id);
            self.place(encoded);
        }
        self.first_live = Position(self.head.0 + 1);
        self.shrink();
    }

    /// Forgets the latest round that a game was preloaded with. Another game may have a round of the same
    /// id, and its resume point stays.
    fn forget_latest_of(&mut self, game: &GameId) {
        let Some(game) = self.games.get_mut(game) else { return };
        let rounds = game.buffer.after(Position(0));
        let former: Vec<_> = rounds.filter(|entry| entry.xid == Xid(0)).cloned().collect();
        game.buffer.retain(|entry| entry.xid != Xid(0));
        former.iter().for_each(|entry| self.forget_point(entry));
    }
}
