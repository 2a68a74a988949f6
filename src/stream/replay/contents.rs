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
        hub::Hub,
        round_store::{SharedRoundStore, StoreError},
        transaction::RoundName,
    },
};

/// Queries for content that may run at once.
const QUERIES_AT_ONCE: usize = 2;
/// The cache has this part of the share of replays.
const CACHE_PART: usize = 8;

/// Encoded rounds, by name; `None` for those that cannot be sent any more.
type Frames = HashMap<RoundName, Option<Frame>>;

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
        let (mut frames, missing) = self.cache.lock().find(names);
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
        let read = self.query(&missing).await?;
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

    /// A round that cannot be read does not stop the others: halving finds it. Every other error
    /// fails the page, since a replay without these rounds would lose them.
    async fn query(&self, names: &[RoundName]) -> Result<Frames, Arc<StoreError>> {
        let mut frames: Frames = names.iter().map(|name| (name.clone(), None)).collect();
        let mut halves = Halves::of(names);
        while let Some(part) = halves.next_part() {
            match self.store.contents(part).await {
                Ok(rounds) => {
                    let encoded = |(name, round)| (name, Some(Frame::encode(&round)));
                    frames.extend(rounds.into_iter().map(encoded));
                }
                Err(StoreError::Unreadable(error)) => {
                    if let Some((_, id)) = halves.split(part) {
                        tracing::debug!(error, round.id = %id, "a stored round cannot be read");
                    }
                }
                Err(error) => return Err(Arc::new(error)),
            }
        }
        Ok(frames)
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
