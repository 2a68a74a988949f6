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
/// The most rounds beyond the limit among which a request looks for those that can be sent.
const SKIPPED_MAX: usize = 10_000;

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

/// The keys of listed rounds.
#[derive(Clone, Debug, Default)]
pub(crate) struct ListKeys {
    /// Those whose id and moment can be sent.
    pub(crate) keys: Vec<ListKey>,
    /// No round comes after them.
    pub(crate) is_last: bool,
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

/// Reads a page of at most `limit` rounds of these games. Rounds that cannot be sent take no place in
/// it, and a page follows only if it has a round.
pub(crate) async fn read(
    store: &dyn RoundStore,
    games: &[GameId],
    after: Option<&ListPlace>,
    limit: usize,
) -> Result<List, StoreError> {
    let (mut page, mut after) = (Page::of(limit), after.cloned());
    // One more key shows whether there is another page.
    let (mut wanted, mut looked) = (limit + 1, 0);
    while looked <= limit + SKIPPED_MAX {
        let found = store.list_keys(games, after.as_ref(), wanted).await?;
        if let Filled::Full = page.fill(store, &found.keys).await? {
            let next = page.last.take();
            return Ok(page.end(next));
        }
        match found.keys.last() {
            _ if found.is_last => return Ok(page.end(None)),
            Some(last) => {
                after = Some(last.place.clone());
                looked += found.keys.len();
                // Few at first: most rounds can be sent.
                wanted =
                    looked.saturating_sub(limit).min(ROUNDS_AT_ONCE).max(limit + 1 - page.rounds);
            }
            // No id of these can be sent, so none of them is a place to go on from.
            None => {
                looked += wanted;
                wanted = (wanted * 4).min(SKIPPED_MAX);
            }
        }
    }
    Ok(page.end(after))
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

/// Whether a page has room for more.
enum Filled {
    Partly,
    /// The next round does not fit, or would be one too many.
    Full,
}

/// A page that is being filled.
#[derive(Debug)]
struct Page {
    json: Vec<u8>,
    limit: usize,
    rounds: usize,
    /// The place of the last round.
    last: Option<ListPlace>,
}

impl Page {
    fn of(limit: usize) -> Self {
        Self { json: vec![b'['], limit, rounds: 0, last: None }
    }

    /// Appends the rounds of these keys that can be sent.
    async fn fill(
        &mut self,
        store: &dyn RoundStore,
        keys: &[ListKey],
    ) -> Result<Filled, StoreError> {
        let mut read = 0;
        while read < keys.len() {
            let part = &keys[read..keys.len().min(read + ROUNDS_AT_ONCE)];
            let listed = contents(store, part, self.room()).await?;
            for (index, round) in in_order(part, &listed.rounds) {
                if !self.push(round) {
                    return Ok(Filled::Full);
                }
                self.last = Some(part[index].place.clone());
            }
            let cut = listed.cut.and_then(|id| part.iter().position(|key| key.place.round == id));
            read += cut.unwrap_or(part.len()).max(1);
        }
        Ok(Filled::Partly)
    }

    /// Bytes that are left, without the bracket at the end.
    fn room(&self) -> usize {
        PAGE_BYTES.saturating_sub(self.json.len() + 1).max(1)
    }

    /// Appends a round; false if it does not fit. The first one always fits.
    fn push(&mut self, round: &Round) -> bool {
        let json = round.to_json();
        if self.rounds > 0 {
            if self.rounds == self.limit || json.len() + 1 > self.room() {
                return false;
            }
            self.json.push(b',');
        }
        self.json.extend_from_slice(&json);
        self.rounds += 1;
        true
    }

    fn end(mut self, next: Option<ListPlace>) -> List {
        self.json.push(b']');
        List { json: self.json, next }
    }
}

#[cfg(test)]
mod tests;
