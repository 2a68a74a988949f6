//! Latest rounds of which the hub has no bytes: read from the database for one opening.
//!
//! The hub keeps the latest round of each game for seeds. Once they alone have more than the memory for
//! history, it drops the bytes of the largest, and keeps their names.

use super::{
    frame::Frame,
    hub::{MissingSeed, ReadSeeds},
    list::ListPlace,
    round::{NamedRound, Round},
    round_store::{RoundStore, StoreError},
};
use crate::ops::memory_budget::MemoryBudget;

/// Reads the latest rounds of games. A round that cannot be read any more is no seed.
pub(crate) async fn read(
    store: &dyn RoundStore,
    missing: Vec<MissingSeed>,
    budget: &MemoryBudget,
) -> Result<ReadSeeds, StoreError> {
    let mut seeds = ReadSeeds::new();
    for seed in missing {
        let round = match round(store, &seed).await {
            Err(StoreError::Unreadable(_)) => None,
            round => round?,
        };
        let frame = round.map(|round| Frame::encode_counted(&round, budget).0);
        seeds.insert(seed.age, frame);
    }
    Ok(seeds)
}

/// The round, or the one before it if it was deleted: no later one, which the hub may not have
/// published yet.
async fn round(store: &dyn RoundStore, seed: &MissingSeed) -> Result<Option<Round>, StoreError> {
    let (finished_at, round) = seed.age.clone();
    let place = ListPlace { finished_at, round };
    let Ok(named) = NamedRound::parse(&place.round.to_string()) else { return Ok(None) };
    let found = store.list_place(&named).await?;
    let key = match found.into_iter().find(|key| key.place == place) {
        Some(key) => Some(key),
        None => {
            let games = std::slice::from_ref(&seed.game);
            store.list_keys(games, Some(&place), 1).await?.keys.pop()
        }
    };
    let Some(key) = key else { return Ok(None) };
    // The first round is in the answer whatever its size.
    Ok(store.list_rounds(&[key], 1).await?.rounds.pop())
}
