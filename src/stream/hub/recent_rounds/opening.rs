//! The opening of a stream, and the rounds of the ring buffers that follow it.

use std::{collections::HashSet, sync::Arc};

use itertools::Itertools;

use super::{
    Latest, RecentRounds,
    resume_point::{Later, Wanted},
};
use crate::stream::{
    frame::Frame,
    hub::{
        Opening, Placed, Position, Replay, Resumed, SeedRound, Seeds, Start, ring_buffer::Entry,
    },
    round::GameId,
    start_point::SeedMode,
    stored_round::StoredPart,
    topic::Topic,
    transaction::Finish,
};

/// The most bytes of rounds that an opening holds. The ring buffers' other rounds are read as the
/// client takes them.
const FIRST_PAGE: usize = 64 * 1024;

/// The rounds of the ring buffers that a resume must send.
struct Found {
    first: Vec<Frame>,
    /// Where the rounds after the first ones begin; `None` if there are no more.
    rest: Option<Later>,
    rounds: usize,
    bytes: usize,
}

impl RecentRounds {
    /// The opening of a stream, and where to read the rounds that follow it in the ring buffers if
    /// it does not hold all of them. `None` if a round of it was dropped, unless the seed may be read.
    pub(in crate::stream::hub) fn begin(
        &self,
        topic: &Topic,
        start: Start,
        (seed, reads_seeds): (SeedMode, bool),
        limit: usize,
    ) -> Option<(Opening, Option<Later>)> {
        let seeds = |mode| self.seeds(topic, mode, reads_seeds);
        let gap = || Some((Opening::Gap(seeds(seed.after_gap())?), None));
        let (stored, found) = match start {
            Start::Seed => return Some((Opening::Seed(seeds(seed)?), None)),
            Start::Gap => return gap(),
            Start::After(named) => {
                let later = self.point(topic, &named)?.later();
                (StoredPart::default(), self.find(topic, later, limit, |_| {}))
            }
            Start::Replayed(replay) => self.finish_replay(topic, replay, limit)?,
        };
        let rounds = stored.len() + found.rounds;
        let bytes = stored.json_bytes() + found.bytes;
        if rounds > limit || bytes > self.replay_bytes {
            return gap();
        }
        Some((Opening::Resumed(Resumed { stored, frames: found.first }), found.rest))
    }

    /// The seed of a stream. `None` if bytes of it are not here, and may not be read.
    fn seeds(&self, topic: &Topic, mode: SeedMode, reads_seeds: bool) -> Option<Seeds> {
        let rounds = self.seed_list(topic, mode);
        if rounds.iter().all(Result::is_ok) {
            let frames = rounds.into_iter().flatten().collect();
            return Some(Seeds { frames, stored: Vec::new() });
        }
        reads_seeds.then(|| Seeds { frames: Vec::new(), stored: rounds })
    }

    /// The rounds of a seed, or what to read for those of which there are no bytes.
    pub(in crate::stream::hub) fn seed_list(
        &self,
        topic: &Topic,
        mode: SeedMode,
    ) -> Vec<SeedRound> {
        let latest = self.seed_rounds(topic, mode).into_iter();
        latest.map(|(game, latest)| latest.held(game)).collect()
    }

    fn seed_rounds<'a>(
        &'a self,
        topic: &'a Topic,
        mode: SeedMode,
    ) -> Vec<(&'a GameId, &'a Latest)> {
        match mode {
            SeedMode::Nothing => Vec::new(),
            SeedMode::Latest => self.latest_of(topic).into_iter().collect(),
            SeedMode::Each => {
                let latest = self.games_of(topic).map(|(id, game)| (id, &game.latest));
                latest.sorted_by_cached_key(|(_, latest)| latest.age.clone()).collect()
            }
        }
    }

    /// The rounds that only the database has, and those in the ring buffers, which follow them.
    fn finish_replay(
        &self,
        topic: &Topic,
        replay: Replay,
        limit: usize,
    ) -> Option<(StoredPart, Found)> {
        let Replay { from, seen, rounds: mut stored, known } = replay;
        let complete = self.complete_after(topic);
        if complete > seen {
            return None;
        }
        let later = Later { after: complete, wanted: Wanted::AfterStored { from, seen, known } };
        let mut buffered = HashSet::new();
        let found = self.find(topic, later, limit, |entry| {
            buffered.insert(entry.finish());
        });
        // Neither part has the finishes of the named round.
        stored.remove(&buffered);
        Some((stored, found))
    }

    /// Counts the wanted rounds, up to more than the limit, and takes the first of them.
    fn find(
        &self,
        topic: &Topic,
        later: Later,
        limit: usize,
        mut each: impl FnMut(&Entry),
    ) -> Found {
        let (mut first, mut rounds, mut bytes) = (Vec::new(), 0, 0);
        let mut last = later.after;
        for (_, entry) in self.entries(topic, &later).take(limit.saturating_add(1)) {
            each(entry);
            rounds += 1;
            bytes += entry.frame.json_size();
            if bytes <= FIRST_PAGE {
                first.push(entry.frame.clone());
                last = entry.position;
            }
        }
        let is_whole = first.len() == rounds;
        let rest = (!is_whole).then_some(Later { after: last, wanted: later.wanted });
        Found { first, rest, rounds, bytes }
    }

    /// Whether the ring buffers have every round of the topic after this position.
    pub(super) fn reaches(&self, topic: &Topic, position: Position) -> bool {
        position >= self.forgotten
            && self.games_ever_of(topic).all(|(_, game)| game.buffer.reaches(position))
    }

    /// The first wanted rounds of the topic, at most `most`; `None` if some have been evicted.
    pub(in crate::stream::hub) fn since(
        &self,
        topic: &Topic,
        later: &Later,
        most: usize,
    ) -> Option<Vec<Placed>> {
        let placed = |(game, entry): (&GameId, &Entry)| entry.placed(game);
        self.reaches(topic, later.after)
            .then(|| self.entries(topic, later).take(most).map(placed).collect())
    }

    /// After this position every round of the topic was delivered live and is not evicted.
    pub(in crate::stream::hub) fn complete_after(&self, topic: &Topic) -> Position {
        let preloaded = Position(self.first_live.0 - 1);
        let lost = self.games_ever_of(topic).map(|(_, game)| game.buffer.evicted_position()).max();
        lost.unwrap_or_default().max(preloaded)
    }

    /// The wanted rounds, in order. This is used under the lock, and full ring buffers hold a hundred
    /// times the rounds that one reader takes at once.
    fn entries<'a>(
        &'a self,
        topic: &'a Topic,
        later: &'a Later,
    ) -> impl Iterator<Item = (&'a GameId, &'a Entry)> {
        let runs = self.games_ever_of(topic);
        let runs =
            runs.map(|(id, game)| game.buffer.after(later.after).map(move |entry| (id, entry)));
        // Each game's rounds are in order: a merge reads only the first ones.
        runs.kmerge_by(|(_, a), (_, b)| a.position < b.position)
            // Older rounds may have a former type of their game.
            .filter(|(id, entry)| topic.includes(id, &entry.kind) && later.wanted.includes(entry))
    }
}

impl Entry {
    pub(super) fn finish(&self) -> Finish {
        let (xid, attachment) = (self.xid, self.attachment);
        Finish { xid, attachment, round: self.frame.round_id().clone() }
    }

    fn placed(&self, game: &GameId) -> Placed {
        Placed {
            position: self.position,
            finish: self.finish(),
            game: (game.clone(), Arc::clone(&self.kind)),
            frame: self.frame.clone(),
            recorded: None,
        }
    }
}
