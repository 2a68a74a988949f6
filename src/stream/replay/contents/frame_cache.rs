//! Rounds that were read a moment ago: after a restart many clients resume at the same rounds, and a
//! crowd asks for the same latest round.
//!
//! The cache keeps frames within its part of the memory. Beyond that it finds those again that a client
//! still takes, so that a crowd shares a round that is too wide to be kept.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    time::Instant,
};

use super::frame_bytes;
use crate::{
    ops::{
        memory_budget::{Charge, MemoryBudget},
        telemetry::metrics::MemoryUse,
    },
    stream::{
        frame::{Frame, ROUND_OVERHEAD, WeakFrame},
        hub::MissingSeed,
        replay::page::PAGE_TTL,
        round::{GameId, RoundId},
        transaction::RoundName,
    },
};

/// The cache has this part of the share of replays.
const CACHE_PART: usize = 8;
/// A round that is wider than that is kept alone, up to this part of the share.
const WIDE_PART: usize = 4;

/// Names a round that was read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::stream::replay) enum FrameKey {
    /// A round of a replay.
    Round(RoundName),
    /// The latest round of a game. The hub does not know its table, and a round of another game may
    /// have the same id: `attach` cannot see the ids of later rows.
    Seed(GameId, RoundId),
}

impl From<&RoundName> for FrameKey {
    fn from(name: &RoundName) -> Self {
        Self::Round(name.clone())
    }
}

impl From<&MissingSeed> for FrameKey {
    fn from(seed: &MissingSeed) -> Self {
        Self::Seed(seed.game.clone(), seed.age.1.clone())
    }
}

/// Encoded rounds; `None` for those that cannot be sent any more.
pub(in crate::stream::replay) type Frames = HashMap<FrameKey, Option<Frame>>;

/// The cached rounds. One that cannot be sent is remembered too, so that it costs no query for each
/// client.
#[derive(Debug, Default)]
pub(super) struct FrameCache {
    kept: HashMap<FrameKey, (Option<Frame>, Charge)>,
    /// In the order in which they were read.
    order: VecDeque<(Instant, FrameKey)>,
    /// Of those that are kept.
    bytes: usize,
    /// When a round was read, and its frame, which a client may still take.
    taken: HashMap<FrameKey, (Instant, WeakFrame)>,
}

impl FrameCache {
    /// The cached ones of these rounds, and the others.
    pub(super) fn find<'a>(
        &self,
        keys: impl IntoIterator<Item = &'a FrameKey>,
    ) -> (Frames, HashSet<FrameKey>) {
        let (mut found, mut missing) = (Frames::new(), HashSet::new());
        for key in keys {
            match self.get(key) {
                Some(frame) => drop(found.insert(key.clone(), frame)),
                None => drop(missing.insert(key.clone())),
            }
        }
        (found, missing)
    }

    fn get(&self, key: &FrameKey) -> Option<Option<Frame>> {
        if let Some((frame, _)) = self.kept.get(key) {
            return Some(frame.clone());
        }
        let (read_at, frame) = self.taken.get(key)?;
        if read_at.elapsed() < PAGE_TTL { frame.upgrade().map(Some) } else { None }
    }

    /// Adds a round that was read now.
    pub(super) fn insert(
        &mut self,
        key: &FrameKey,
        read: Option<&(Frame, WeakFrame)>,
        budget: &MemoryBudget,
    ) {
        if let Some((_, frame)) = read {
            self.note_taken(key, frame);
        }
        let frame = read.map(|(frame, _)| frame);
        let bytes = frame.map_or(ROUND_OVERHEAD, frame_bytes);
        let share = budget.share(MemoryUse::replays);
        if bytes > share / WIDE_PART || self.kept.contains_key(key) {
            return;
        }
        let most = (share / CACHE_PART).max(bytes);
        while self.bytes + bytes > most && self.remove_oldest() {}
        if let Ok(charge) = budget.take(MemoryUse::replays, None, bytes) {
            self.bytes += bytes;
            self.kept.insert(key.clone(), (frame.cloned(), charge));
            self.order.push_back((Instant::now(), key.clone()));
        }
    }

    /// Before the map grows, it forgets the frames that no client takes: so it has at most twice as many
    /// entries as there are such frames in memory.
    fn note_taken(&mut self, key: &FrameKey, frame: &WeakFrame) {
        if self.taken.len() == self.taken.capacity() {
            self.taken.retain(|_, (_, frame)| frame.is_held());
        }
        self.taken.insert(key.clone(), (Instant::now(), frame.clone()));
    }

    fn remove_oldest(&mut self) -> bool {
        let Some((_, key)) = self.order.pop_front() else { return false };
        if let Some((frame, _)) = self.kept.remove(&key) {
            self.bytes -= frame.as_ref().map_or(ROUND_OVERHEAD, frame_bytes);
        }
        true
    }

    /// Drops the rounds that were read too long ago.
    pub(super) fn remove_expired(&mut self) {
        while self.order.front().is_some_and(|(read_at, _)| read_at.elapsed() >= PAGE_TTL) {
            self.remove_oldest();
        }
        self.taken.retain(|_, (read_at, frame)| read_at.elapsed() < PAGE_TTL && frame.is_held());
    }

    /// Gives the memory of the rounds back. Those that a client still takes are found again.
    pub(super) fn free_memory(&mut self) {
        while self.remove_oldest() {}
    }
}
