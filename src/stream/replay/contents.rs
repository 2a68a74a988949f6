//! The content of stored rounds, read in pages as the clients take them. Clients that read the same
//! rounds share one query.

mod frame_cache;

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
    sync::Arc,
    time::Instant,
};

use parking_lot::Mutex;

use self::frame_cache::FrameCache;
pub(super) use self::frame_cache::{FrameKey, Frames};
use super::ReplayError;
use crate::{
    ops::{halves::Halves, memory_budget::MemoryBudget, turns::Turns},
    stream::{
        frame::{Frame, ROUND_OVERHEAD, WeakFrame},
        hub::{Hub, MissingSeed},
        last_failure::LastFailure,
        list::ListPlace,
        round::Round,
        round_store::{SharedRoundStore, StoreError},
        transaction::RoundName,
    },
};

/// Queries for content that may run at once.
const QUERIES_AT_ONCE: usize = 2;
/// Rounds as they were read: encoded, or `None` if they cannot be sent any more.
type ReadRounds = HashMap<FrameKey, Option<(Frame, WeakFrame)>>;

/// Rounds that a client lacks.
#[derive(Clone, Copy, Debug)]
enum Asked<'a> {
    /// Of a replay.
    Rounds(&'a [RoundName]),
    /// Latest rounds of games.
    Seeds(&'a [MissingSeed]),
}

impl Asked<'_> {
    fn keys(self) -> Vec<FrameKey> {
        match self {
            Self::Rounds(names) => names.iter().map(FrameKey::from).collect(),
            Self::Seeds(seeds) => seeds.iter().map(FrameKey::from).collect(),
        }
    }
}

/// Reads and encodes stored rounds.
#[derive(Debug)]
pub(super) struct Contents {
    hub: Hub,
    store: SharedRoundStore,
    budget: MemoryBudget,
    turns: Turns,
    cache: Mutex<FrameCache>,
    /// The last query to which the database did not respond.
    unanswered: LastFailure,
}

impl Contents {
    pub(super) fn new(hub: Hub, store: SharedRoundStore, budget: MemoryBudget) -> Self {
        // Streams wait for turns: their number has a bound, and each has the memory for its page.
        let (turns, cache) = (Turns::for_all(QUERIES_AT_ONCE), Mutex::default());
        Self { hub, store, budget, turns, cache, unanswered: LastFailure::default() }
    }

    /// These rounds, without those that cannot be sent any more.
    pub(super) async fn read(
        &self,
        names: &[RoundName],
        client: Option<IpAddr>,
    ) -> Result<Frames, ReplayError> {
        self.read_asked(Asked::Rounds(names), client).await
    }

    /// Latest rounds of games. Instead of one that was deleted, its key has the one before it.
    pub(super) async fn read_seeds(
        &self,
        seeds: &[MissingSeed],
        client: Option<IpAddr>,
    ) -> Result<Frames, ReplayError> {
        self.read_asked(Asked::Seeds(seeds), client).await
    }

    async fn read_asked(
        &self,
        asked: Asked<'_>,
        client: Option<IpAddr>,
    ) -> Result<Frames, ReplayError> {
        let requested_at = Instant::now();
        let (mut frames, missing) = self.cache.lock().find(&asked.keys());
        if missing.is_empty() {
            return Ok(frames);
        }
        let _turn = self.turns.take(client).await?;
        // Another client may have read them meanwhile, or have waited for the database in vain.
        let (cached, missing) = self.cache.lock().find(&missing);
        frames.extend(cached);
        if missing.is_empty() {
            return Ok(frames);
        }
        if let Some(error) = self.unanswered.since(requested_at) {
            return Err(error.into());
        }
        let read = self.query_asked(asked, missing).await?;
        frames.extend(read.into_iter().map(|(key, read)| (key, read.map(|(frame, _)| frame))));
        Ok(frames)
    }

    /// Reads the missing ones of these rounds, and caches them.
    async fn query_asked(
        &self,
        asked: Asked<'_>,
        missing: HashSet<FrameKey>,
    ) -> Result<ReadRounds, Arc<StoreError>> {
        let generation = self.hub.generation();
        let read = match asked {
            Asked::Rounds(_) => {
                let names = missing.into_iter().filter_map(|key| match key {
                    FrameKey::Round(name) => Some(name),
                    FrameKey::Seed(..) => None,
                });
                self.query(&names.collect::<Vec<_>>()).await?
            }
            Asked::Seeds(seeds) => {
                let is_missing = |seed: &&MissingSeed| missing.contains(&FrameKey::from(*seed));
                self.query_seeds(&seeds.iter().filter(is_missing).collect::<Vec<_>>()).await?
            }
        };
        self.keep(&read, generation);
        Ok(read)
    }

    /// Caches rounds, unless they are of a database that has been replaced since.
    fn keep(&self, read: &ReadRounds, generation: u64) {
        let mut cache = self.cache.lock();
        if self.hub.generation() != generation {
            return;
        }
        cache.remove_expired();
        for (key, read) in read {
            cache.insert(key, read.as_ref(), &self.budget);
        }
    }

    async fn query(&self, names: &[RoundName]) -> Result<ReadRounds, Arc<StoreError>> {
        let mut read: ReadRounds = names.iter().map(|name| (name.into(), None)).collect();
        let encoded = |(name, round)| (FrameKey::Round(name), Some(Frame::encode_shared(&round)));
        read.extend(self.rounds(names).await?.into_iter().map(encoded));
        Ok(read)
    }

    async fn query_seeds(&self, seeds: &[&MissingSeed]) -> Result<ReadRounds, Arc<StoreError>> {
        // Two games may have a round of the same id.
        let names: HashSet<_> = seeds.iter().map(|seed| seed.name()).collect();
        let names: Vec<_> = names.into_iter().collect();
        let (rounds, mut read) = (self.rounds(&names).await?, ReadRounds::new());
        for seed in seeds {
            let is_seed =
                |round: &&Round| round.round_id == seed.age.1 && round.game_id == seed.game;
            let encoded = match rounds.iter().map(|(_, round)| round).find(is_seed) {
                Some(round) => Some(Frame::encode_shared(round)),
                None => self.round_before(seed).await?.map(|round| Frame::encode_shared(&round)),
            };
            read.insert(FrameKey::from(*seed), encoded);
        }
        Ok(read)
    }

    /// The latest round of a game before one that was deleted: no later one, which the hub may not have
    /// published yet.
    async fn round_before(&self, seed: &MissingSeed) -> Result<Option<Round>, Arc<StoreError>> {
        let (finished_at, round) = seed.age.clone();
        let place = ListPlace { finished_at, round };
        let games = std::slice::from_ref(&seed.game);
        let found = self.store.list_keys(games, Some(&place), 1).await;
        let mut found = found.map_err(|error| self.failed(error))?;
        let Some(key) = found.keys.pop() else { return Ok(None) };
        // The first round is in the answer whatever its size.
        match self.store.list_rounds(&[key], 1).await {
            Ok(mut listed) => Ok(listed.rounds.pop()),
            Err(StoreError::Unreadable(_)) => Ok(None),
            Err(error) => Err(self.failed(error)),
        }
    }

    /// A round that cannot be read does not stop the others: halving finds it. Every other error
    /// fails the page, since a replay without these rounds would lose them.
    async fn rounds(
        &self,
        names: &[RoundName],
    ) -> Result<Vec<(RoundName, Round)>, Arc<StoreError>> {
        let (mut rounds, mut halves) = (Vec::with_capacity(names.len()), Halves::of(names));
        while let Some(part) = halves.next_part() {
            match self.store.contents(part).await {
                Ok(read) => rounds.extend(read),
                Err(StoreError::Unreadable(error)) => {
                    if let Some((_, id)) = halves.split(part) {
                        tracing::debug!(error, round.id = %id, "a stored round cannot be read");
                    }
                }
                Err(error) => return Err(self.failed(error)),
            }
        }
        Ok(rounds)
    }

    /// If the database is unavailable, a query has failed for all clients that wait for one.
    fn failed(&self, error: StoreError) -> Arc<StoreError> {
        match error {
            StoreError::Unavailable(_) => self.unanswered.record(error),
            error => Arc::new(error),
        }
    }

    /// Drops the rounds that were read too long ago.
    pub(super) fn remove_expired(&self) {
        self.cache.lock().remove_expired();
    }

    /// Gives the memory of the cached rounds back.
    pub(super) fn free_memory(&self) {
        self.cache.lock().free_memory();
    }

    /// Drops all rounds.
    pub(super) fn clear(&self) {
        *self.cache.lock() = FrameCache::default();
    }
}

/// The bytes that an encoded round keeps.
pub(super) fn frame_bytes(frame: &Frame) -> usize {
    frame.size() + ROUND_OVERHEAD
}

#[cfg(test)]
pub(super) mod tests;
