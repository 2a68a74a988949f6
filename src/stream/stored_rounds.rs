//! Rounds that only the database has: which ones, without their content.

use std::sync::Arc;

use super::{
    round::GameId,
    topic::Topic,
    transaction::{Finish, RoundName, Xid},
};

/// The bytes of a round's JSON besides its extras (measured: 160 to 200).
const JSON_OVERHEAD: usize = 200;
/// The bytes that an entry keeps besides its id, for the memory budget.
const ENTRY_BYTES: usize = 160;

/// An outbox row and what a replay must know of its round before it reads the content.
#[derive(Clone, Debug)]
pub(crate) struct StoredRound {
    /// The outbox row.
    pub(crate) finish: Finish,
    /// The oldest transaction that was running when the trigger recorded the round.
    pub(crate) before: Xid,
    /// Its game and the game's type: they decide which topics include it.
    pub(crate) game: (GameId, Arc<str>),
    /// The bytes of its extras.
    pub(crate) extras_bytes: usize,
}

impl StoredRound {
    /// Whether this round belongs to the topic.
    pub(crate) fn is_of(&self, topic: &Topic) -> bool {
        topic.includes(&self.game.0, &self.game.1)
    }

    /// About the bytes of its JSON.
    pub(crate) fn json_bytes(&self) -> usize {
        self.extras_bytes + JSON_OVERHEAD
    }
}

/// The bytes that so many entries keep.
pub(crate) fn kept_bytes(rounds: usize) -> usize {
    rounds * ENTRY_BYTES
}

/// Some of the rounds of one query, in order. Connections share the query's result; each has only
/// the numbers of its rows.
#[derive(Clone, Debug, Default)]
pub struct StoredPart {
    all: Arc<[StoredRound]>,
    rows: Vec<u32>,
}

impl StoredPart {
    /// The rounds for which `wanted` is true.
    pub(crate) fn new(
        all: &Arc<[StoredRound]>,
        mut wanted: impl FnMut(&StoredRound) -> bool,
    ) -> Self {
        let rows = all.iter().enumerate().filter(|(_, round)| wanted(round));
        Self { rows: rows.map(|(row, _)| row as u32).collect(), all: Arc::clone(all) }
    }

    /// Keeps the rounds for which `keep` is true.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&StoredRound) -> bool) {
        let all = &self.all;
        self.rows.retain(|row| all.get(*row as usize).is_some_and(&mut keep));
    }

    /// The rounds, oldest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &StoredRound> {
        self.rows.iter().filter_map(|row| self.all.get(*row as usize))
    }

    /// How many rounds it has.
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether it has no rounds.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// About the bytes of the JSON of all rounds.
    pub(crate) fn json_bytes(&self) -> usize {
        self.iter().map(StoredRound::json_bytes).sum()
    }

    /// The names from this row on, of rounds that together have about so many bytes; at least one.
    pub(crate) fn page(&self, from: usize, bytes: usize) -> Vec<RoundName> {
        let (mut ids, mut total) = (Vec::new(), 0);
        for round in self.iter().skip(from) {
            total += round.json_bytes();
            if !ids.is_empty() && total > bytes {
                break;
            }
            ids.push(round.finish.name());
        }
        ids
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::{round::RoundId, transaction::Attachment};

    fn round(id: i64, game: i64, extras_bytes: usize) -> StoredRound {
        let (xid, attachment) = (Xid(id.cast_unsigned()), Attachment(0));
        let finish = Finish { xid, attachment, round: RoundId::number(id) };
        let game = (GameId::number(game), Arc::from("multiplier"));
        StoredRound { finish, before: xid, game, extras_bytes }
    }

    #[test]
    fn a_page_has_at_least_one_round_and_no_more_bytes_than_allowed() {
        let all: Arc<[_]> = (1..=6).map(|id| round(id, id % 2, 100)).collect();
        let odd = StoredPart::new(&all, |round| round.is_of(&Topic::game(GameId::number(1))));
        assert_eq!((odd.len(), odd.json_bytes()), (3, 900));
        let ids = |from, bytes| -> Vec<RoundId> {
            odd.page(from, bytes).into_iter().map(|(_, id)| id).collect()
        };
        assert_eq!(ids(0, 600), [1, 3].map(RoundId::number));
        assert_eq!(ids(1, 10), [RoundId::number(3)]);
        assert_eq!(ids(3, 600), []);
    }
}
