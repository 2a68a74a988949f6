//! Lists of finished rounds, newest first.
//!
//! A page is read in two steps: the keys of its rounds, which are small, then the content of some
//! rounds at a time, until the page is full. So a thousand rounds of 1 MiB are never read at once.

use super::{
    round::{FinishedAt, GameId, NamedRound, Round, RoundId},
    round_store::{RoundStore, StoreError},
    transaction::Attachment,
};
use crate::ops::halves::Halves;

/// The most bytes of a page, unless its first round alone has more.
pub(crate) const PAGE_BYTES: usize = 1 << 20;
/// Rounds whose content is read at once.
const ROUNDS_AT_ONCE: usize = 100;

/// The place of a round in lists. It stays where it is if the round is deleted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ListPlace {
    pub(crate) finished_at: FinishedAt,
    pub(crate) round: RoundId,
}

/// The key of a listed round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ListKey {
    pub(crate) place: ListPlace,
    pub(crate) attachment: Attachment,
}

/// The content of listed rounds.
#[derive(Clone, Debug, Default)]
pub(crate) struct ListedRounds {
    pub(crate) rounds: Vec<Round>,
    /// The first round that was left out because those before it have enough bytes.
    pub(crate) cut: Option<RoundId>,
}

/// Where a list starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ListStart {
    /// With the newest round.
    Newest,
    /// After the round that the client names.
    Before(NamedRound),
    /// After the last round of another page.
    After(ListPlace),
}

/// A page of a list.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct List {
    /// A JSON array.
    pub(crate) json: Vec<u8>,
    /// After this place there may be more rounds.
    pub(crate) next: Option<ListPlace>,
}

/// The place of a finished round; `None` if there is none of this name.
pub(crate) async fn place_of(
    store: &dyn RoundStore,
    named: &NamedRound,
) -> Result<Option<ListPlace>, StoreError> {
    let found = store.list_place(named).await?;
    let candidate = |id: &RoundId| found.iter().find(|key| key.place.round == *id);
    Ok(named.candidates().find_map(candidate).map(|key| key.place.clone()))
}

/// Reads a page of at most `limit` rounds of these games.
pub(crate) async fn read(
    store: &dyn RoundStore,
    games: &[GameId],
    after: Option<&ListPlace>,
    limit: usize,
) -> Result<List, StoreError> {
    // One more key shows whether there is another page.
    let mut keys = store.list_keys(games, after, limit + 1).await?;
    let has_more = keys.len() > limit;
    keys.truncate(limit);
    let (mut page, mut read) = (Page::default(), 0);
    while read < keys.len() {
        let end = keys.len().min(read + ROUNDS_AT_ONCE);
        let part = &keys[read..end];
        let listed = contents(store, part, page.room()).await?;
        for (index, round) in in_order(part, &listed.rounds) {
            if !page.push(round) {
                return Ok(page.end(keys[..read + index].last()));
            }
        }
        let cut = listed.cut.and_then(|id| part.iter().position(|key| key.place.round == id));
        read += cut.unwrap_or(part.len()).max(1);
    }
    Ok(page.end(keys.last().filter(|_| has_more)))
}

/// The rounds with the index of their key, without those that finished at another time since.
fn in_order<'a>(
    keys: &'a [ListKey],
    rounds: &'a [Round],
) -> impl Iterator<Item = (usize, &'a Round)> {
    rounds.iter().filter_map(|round| {
        let is_its_key = |key: &ListKey| {
            key.place.round == round.round_id && key.place.finished_at == round.finished_at
        };
        keys.iter().position(is_its_key).map(|index| (index, round))
    })
}

/// Reads the content of rounds. Halving finds one that cannot be read: the others are listed.
async fn contents(
    store: &dyn RoundStore,
    keys: &[ListKey],
    room: usize,
) -> Result<ListedRounds, StoreError> {
    let (mut all, mut halves) = (ListedRounds::default(), Halves::of(keys));
    while let Some(part) = halves.next_part() {
        match store.list_rounds(part, room).await {
            Ok(listed) => {
                all.rounds.extend(listed.rounds);
                all.cut = listed.cut.or_else(|| next_if_full(&all.rounds, room, &halves));
                if all.cut.is_some() {
                    return Ok(all);
                }
            }
            Err(StoreError::Unreadable(error)) => {
                if let Some(key) = halves.split(part) {
                    tracing::debug!(%error, round.id = %key.place.round, "a round cannot be listed");
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(all)
}

/// The next round to read if these have enough bytes.
fn next_if_full(rounds: &[Round], room: usize, rest: &Halves<'_, ListKey>) -> Option<RoundId> {
    let bytes: usize = rounds.iter().map(|round| round.extras.len()).sum();
    let next = rest.following()?;
    (bytes >= room).then(|| next.place.round.clone())
}

/// A page that is being filled.
#[derive(Debug)]
struct Page {
    json: Vec<u8>,
    is_empty: bool,
}

impl Default for Page {
    fn default() -> Self {
        Self { json: vec![b'['], is_empty: true }
    }
}

impl Page {
    /// Bytes that are left, without the bracket at the end.
    fn room(&self) -> usize {
        PAGE_BYTES.saturating_sub(self.json.len() + 1).max(1)
    }

    /// Appends a round; false if it does not fit. The first one always fits.
    fn push(&mut self, round: &Round) -> bool {
        let json = round.to_json();
        if !self.is_empty {
            if json.len() + 1 > self.room() {
                return false;
            }
            self.json.push(b',');
        }
        self.json.extend_from_slice(&json);
        self.is_empty = false;
        true
    }

    fn end(mut self, next: Option<&ListKey>) -> List {
        self.json.push(b']');
        List { json: self.json, next: next.map(|key| key.place.clone()) }
    }
}

#[cfg(test)]
mod tests;
