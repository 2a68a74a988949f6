//! Rounds that only the database has: which ones, without their content.

use std::{collections::HashSet, sync::Arc};

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
    /// About the bytes of the JSON of these rounds.
    json_bytes: usize,
}

impl StoredPart {
    /// The rounds for which `wanted` is true.
    pub(crate) fn new(
        all: &Arc<[StoredRound]>,
        mut wanted: impl FnMut(&StoredRound) -> bool,
    ) -> Self {
        let (mut rows, mut json_bytes) = (Vec::new(), 0);
        for (row, round) in all.iter().enumerate().filter(|(_, round)| wanted(round)) {
            rows.push(row as u32);
            json_bytes += round.json_bytes();
        }
        Self { rows, all: Arc::clone(all), json_bytes }
    }

    /// Removes the rounds with these finishes. The rounds are in the order of transactions: it does
    /// not look at older ones than the oldest of these.
    pub(crate) fn remove(&mut self, finishes: &HashSet<Finish>) {
        let Some(oldest) = finishes.iter().map(|finish| finish.xid).min() else { return };
        let round = |row: &u32| self.all.get(*row as usize);
        let is_older = |row: &u32| round(row).is_some_and(|round| round.finish.xid < oldest);
        let start = self.rows.partition_point(is_older);
        let mut removed = 0;
        let rest = self.rows.split_off(start).into_iter().filter(|row| {
            let Some(round) = round(row).filter(|round| finishes.contains(&round.finish)) else {
                return true;
            };
            removed += round.json_bytes();
            false
        });
        let rest: Vec<u32> = rest.collect();
        self.rows.extend(rest);
        self.json_bytes -= removed;
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
        self.json_bytes
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
    fn rounds_are_removed_with_their_bytes_wherever_they_are() {
        let all: Arc<[_]> = (1..=6).map(|id| round(id, 1, 100)).collect();
        let mut part = StoredPart::new(&all, |round| round.finish.xid != Xid(2));
        let finishes = |ids: &[i64]| ids.iter().map(|id| round(*id, 1, 0).finish).collect();
        part.remove(&finishes(&[]));
        assert_eq!((part.len(), part.json_bytes()), (5, 1500));
        part.remove(&finishes(&[2, 3, 6, 9]));
        let left: Vec<u64> = part.iter().map(|round| round.finish.xid.0).collect();
        assert_eq!((left, part.json_bytes()), (vec![1, 4, 5], 900));
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
