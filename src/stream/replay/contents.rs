//! The content of stored rounds, read in pages as the clients take them. Clients that read the same
//! rounds share one query.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    net::IpAddr,
    sync::Arc,
    time::Instant,
};

use parking_lot::Mutex;

use super::{ReplayError, page::PAGE_TTL};
use crate::{
    ops::{
        halves::Halves,
        memory_budget::{Charge, MemoryBudget},
        telemetry::metrics::MemoryUse,
        turns::Turns,
    },
    stream::{
        frame::{Frame, ROUND_OVERHEAD},
        hub::{Hub, MissingSeed},
        list::ListPlace,
        round::Round,
        round_store::{SharedRoundStore, StoreError},
        transaction::RoundName,
    },
};

/// Queries for content that may run at once.
const QUERIES_AT_ONCE: usize = 2;
/// The cache has this part of the share of replays.
const CACHE_PART: usize = 8;

/// Encoded rounds, by name; `None` for those that cannot be sent any more.
pub(super) type Frames = HashMap<RoundName, Option<Frame>>;

/// Rounds that a client lacks.
#[derive(Clone, Copy, Debug)]
enum Asked<'a> {
    /// Of a replay.
    Rounds(&'a [RoundName]),
    /// Latest rounds of games.
    Seeds(&'a [MissingSeed]),
}

impl Asked<'_> {
    fn names(self) -> Vec<RoundName> {
        match self {
            Self::Rounds(names) => names.to_vec(),
            Self::Seeds(seeds) => seeds.iter().map(MissingSeed::name).collect(),
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
    cache: Mutex<Cache>,
}

impl Contents {
    pub(super) fn new(hub: Hub, store: SharedRoundStore, budget: MemoryBudget) -> Self {
        // Streams wait for turns: their number has a bound, and each has the memory for its page.
        let (turns, cache) = (Turns::for_all(QUERIES_AT_ONCE), Mutex::default());
        Self { hub, store, budget, turns, cache }
    }

    /// These rounds, without those that cannot be sent any more.
    pub(super) async fn read(
        &self,
        names: &[RoundName],
        client: Option<IpAddr>,
    ) -> Result<Frames, ReplayError> {
        self.read_asked(Asked::Rounds(names), client).await
    }

    /// Latest rounds of games. Instead of one that was deleted, its name has the one before it.
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
        let (mut frames, missing) = self.cache.lock().find(&asked.names());
        if missing.is_empty() {
            return Ok(frames);
        }
        let _turn = self.turns.take(client).await?;
        // Another client may have read them meanwhile.
        let (cached, missing) = self.cache.lock().find(&missing);
        frames.extend(cached);
        if missing.is_empty() {
            return Ok(frames);
        }
        let generation = self.hub.generation();
        let read = match asked {
            Asked::Rounds(_) => self.query(&missing).await?,
            Asked::Seeds(seeds) => {
                let is_missing = |seed: &&MissingSeed| missing.contains(&seed.name());
                self.query_seeds(&seeds.iter().filter(is_missing).collect::<Vec<_>>()).await?
            }
        };
        self.keep(&read, generation);
        frames.extend(read);
        Ok(frames)
    }

    /// Caches rounds, unless they are of a database that has been replaced since.
    fn keep(&self, read: &Frames, generation: u64) {
        let mut cache = self.cache.lock();
        if self.hub.generation() != generation {
            return;
        }
        cache.remove_expired();
        for (name, frame) in read {
            cache.insert(name, frame.as_ref(), &self.budget);
        }
    }

    async fn query(&self, names: &[RoundName]) -> Result<Frames, Arc<StoreError>> {
        let mut frames: Frames = names.iter().map(|name| (name.clone(), None)).collect();
        let encoded = |(name, round)| (name, Some(Frame::encode(&round)));
        frames.extend(self.rounds(names).await?.into_iter().map(encoded));
        Ok(frames)
    }

    async fn query_seeds(&self, seeds: &[&MissingSeed]) -> Result<Frames, Arc<StoreError>> {
        let names: Vec<_> = seeds.iter().map(|seed| seed.name()).collect();
        let (rounds, mut frames) = (self.rounds(&names).await?, Frames::new());
        for seed in seeds {
            let is_seed =
                |round: &&Round| round.round_id == seed.age.1 && round.game_id == seed.game;
            let frame = match rounds.iter().map(|(_, round)| round).find(is_seed) {
                Some(round) => Some(Frame::encode(round)),
                None => self.round_before(seed).await?.map(|round| Frame::encode(&round)),
            };
            frames.insert(seed.name(), frame);
        }
        Ok(frames)
    }

    /// The latest round of a game before one that was deleted: no later one, which the hub may not have
    /// published yet.
    async fn round_before(&self, seed: &MissingSeed) -> Result<Option<Round>, Arc<StoreError>> {
        let (finished_at, round) = seed.age.clone();
        let place = ListPlace { finished_at, round };
        let games = std::slice::from_ref(&seed.game);
        let mut found = self.store.list_keys(games, Some(&place), 1).await?;
        let Some(key) = found.keys.pop() else { return Ok(None) };
        // The first round is in the answer whatever its size.
        match self.store.list_rounds(&[key], 1).await {
            Ok(mut listed) => Ok(listed.rounds.pop()),
            Err(StoreError::Unreadable(_)) => Ok(None),
            Err(error) => Err(Arc::new(error)),
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
                Err(error) => return Err(Arc::new(error)),
            }
        }
        Ok(rounds)
    }

    /// Drops the rounds that were read too long ago.
    pub(super) fn remove_expired(&self) {
        self.cache.lock().remove_expired();
    }

    /// Drops all rounds.
    pub(super) fn clear(&self) {
        *self.cache.lock() = Cache::default();
    }
}

/// The bytes that an encoded round keeps.
pub(super) fn frame_bytes(frame: &Frame) -> usize {
    frame.size() + ROUND_OVERHEAD
}

/// Rounds that were read a moment ago: after a restart many clients resume at the same rounds. One
/// that cannot be sent is remembered too, so that it costs no query for each client.
#[derive(Debug, Default)]
struct Cache {
    frames: HashMap<RoundName, (Option<Frame>, Charge)>,
    /// In the order in which they were read.
    order: VecDeque<(Instant, RoundName)>,
    bytes: usize,
}

impl Cache {
    /// The cached ones of these rounds, and the others.
    fn find(&self, names: &[RoundName]) -> (Frames, Vec<RoundName>) {
        let (mut found, mut missing) = (HashMap::new(), HashSet::new());
        for name in names {
            match self.frames.get(name) {
                Some((frame, _)) => drop(found.insert(name.clone(), frame.clone())),
                None => drop(missing.insert(name.clone())),
            }
        }
        (found, missing.into_iter().collect())
    }

    fn insert(&mut self, name: &RoundName, frame: Option<&Frame>, budget: &MemoryBudget) {
        let bytes = frame.map_or(ROUND_OVERHEAD, frame_bytes);
        let most = budget.share(MemoryUse::replays) / CACHE_PART;
        if bytes > most || self.frames.contains_key(name) {
            return;
        }
        while self.bytes + bytes > most && self.remove_oldest() {}
        if let Ok(charge) = budget.take(MemoryUse::replays, None, bytes) {
            self.bytes += bytes;
            self.frames.insert(name.clone(), (frame.cloned(), charge));
            self.order.push_back((Instant::now(), name.clone()));
        }
    }

    fn remove_oldest(&mut self) -> bool {
        let Some((_, name)) = self.order.pop_front() else { return false };
        if let Some((frame, _)) = self.frames.remove(&name) {
            self.bytes -= frame.as_ref().map_or(ROUND_OVERHEAD, frame_bytes);
        }
        true
    }

    fn remove_expired(&mut self) {
        while self.order.front().is_some_and(|(read_at, _)| read_at.elapsed() >= PAGE_TTL) {
            self.remove_oldest();
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
