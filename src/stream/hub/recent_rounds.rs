//! The hub's store: the latest round and a ring buffer for each game, and the subscribers.

mod resume_point;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, btree_map, hash_map::Entry as Slot},
    num::NonZeroUsize,
    sync::Arc,
};

use itertools::Itertools;
use tokio::sync::broadcast::Receiver;

use super::{
    Batch, Captured, DurablePosition, Opening, Outlet, Placed, Position, Replay, Start,
    channels::Channels,
    ring_buffer::{Entry, RingBuffer},
};
use crate::stream::{
    frame::Frame,
    round::{FinishedAt, Game, GameId, RoundId},
    start_point::SeedMode,
    topic::Topic,
    transaction::{Finish, Xid},
};

/// A round and its encoded bytes.
type Encoded = (Captured, Frame);

/// The key by which the latest round is found.
type Age = (FinishedAt, RoundId);

#[derive(Debug)]
struct GameRounds {
    /// The type the game had in its newest round.
    kind: Arc<str>,
    /// The round with the greatest (`finished_at`, `round_id`).
    latest: (Age, Frame),
    buffer: RingBuffer,
}

#[derive(Debug)]
pub(super) struct RecentRounds {
    history: NonZeroUsize,
    head: Position,
    /// The position of the first round that this process delivers live.
    first_live: Position,
    /// Up to this position another node may have delivered the same rounds in another order.
    shared_until: Position,
    /// Up to this transaction retention had deleted outbox rows when the ring buffers were preloaded.
    trimmed: Xid,
    durable: DurablePosition,
    games: BTreeMap<GameId, GameRounds>,
    /// The games that have, or had, each type.
    types: HashMap<Arc<str>, BTreeSet<GameId>>,
    /// All games, by the age of their latest round.
    ages: BTreeSet<(Age, GameId)>,
    /// Resume points: the oldest position of each round that a ring buffer holds.
    points: HashMap<RoundId, (GameId, Position)>,
    channels: Channels,
    outlets: Vec<Arc<dyn Outlet>>,
}

impl RecentRounds {
    pub(super) fn new(history: NonZeroUsize) -> Self {
        Self {
            history,
            head: Position(0),
            first_live: Position(1),
            shared_until: Position(0),
            trimmed: Xid(0),
            durable: DurablePosition::default(),
            games: BTreeMap::new(),
            types: HashMap::new(),
            ages: BTreeSet::new(),
            points: HashMap::new(),
            channels: Channels::default(),
            outlets: Vec::new(),
        }
    }

    /// The position of the last published round.
    pub(super) fn head(&self) -> Position {
        self.head
    }

    pub(super) fn durable_position(&self) -> DurablePosition {
        self.durable.clone()
    }

    pub(super) fn set_durable_position(&mut self, durable: DurablePosition) {
        self.durable = durable;
    }

    /// Sets whether other nodes may deliver the same rounds from now on.
    pub(super) fn share(&mut self, shared: bool) {
        match shared {
            true => self.shared_until = Position(u64::MAX),
            false => self.shared_until = self.shared_until.min(self.head),
        }
    }

    pub(super) fn preload(&mut self, recent: Vec<Encoded>, latest: Vec<Encoded>, trimmed: Xid) {
        // A round without an outbox row is older than every round with one, so it goes first.
        let known: HashSet<_> =
            recent.iter().map(|(captured, _)| captured.round.round_id.clone()).collect();
        let (known, table_only): (Vec<_>, Vec<_>) =
            latest.into_iter().partition(|(captured, _)| known.contains(&captured.round.round_id));
        for encoded in table_only.into_iter().chain(recent) {
            self.place(encoded);
        }
        for (captured, frame) in known {
            self.keep_latest(&captured, &frame);
        }
        for game in self.games.values_mut().filter(|game| game.buffer.is_full()) {
            // The query returns at most as many rounds as the ring buffer holds: older ones may exist.
            let oldest = game.buffer.after(Position(0)).next().map_or(Xid(0), |entry| entry.xid);
            game.buffer.mark_truncated(oldest);
        }
        self.trimmed = trimmed;
        self.first_live = Position(self.head.0 + 1);
    }

    pub(super) fn attach(&mut self, outlet: Arc<dyn Outlet>) {
        self.outlets.push(outlet);
    }

    pub(super) fn publish(&mut self, rounds: Vec<Encoded>) {
        let batch: Batch = rounds.into_iter().map(|encoded| self.place_live(encoded)).collect();
        self.outlets.iter().for_each(|outlet| outlet.publish(&batch));
        self.channels.send(&batch);
    }

    fn place_live(&mut self, (captured, frame): Encoded) -> Placed {
        let finish = captured.finish();
        let game = (captured.round.game_id.clone(), Arc::clone(&captured.round.game_type));
        let recorded = captured.recorded;
        let position = self.place((captured, frame.clone()));
        Placed { position, finish, game, frame, recorded }
    }

    fn place(&mut self, (captured, frame): Encoded) -> Position {
        self.head.0 += 1;
        self.keep_latest(&captured, &frame);
        self.keep_recent(&captured, frame);
        self.head
    }

    fn keep_latest(&mut self, captured: &Captured, frame: &Frame) {
        let round = &captured.round;
        let (id, age, kind) = (round.game_id.clone(), round.age(), Arc::clone(&round.game_type));
        let games = self.types.entry(Arc::clone(&kind)).or_default();
        games.insert(id.clone());
        let latest = (age.clone(), frame.clone());
        match self.games.entry(id.clone()) {
            btree_map::Entry::Vacant(slot) => {
                self.ages.insert((age, id));
                slot.insert(GameRounds { kind, latest, buffer: RingBuffer::new(self.history) });
            }
            btree_map::Entry::Occupied(mut slot) => {
                let game = slot.get_mut();
                game.kind = kind;
                if age >= game.latest.0 {
                    let former = std::mem::replace(&mut game.latest, latest).0;
                    self.ages.remove(&(former, id.clone()));
                    self.ages.insert((age, id));
                }
            }
        }
    }

    fn keep_recent(&mut self, captured: &Captured, frame: Frame) {
        let Captured { round, xid, attachment, before, poll, .. } = captured;
        let Some(game) = self.games.get_mut(&round.game_id) else { return };
        let kind = Arc::clone(&round.game_type);
        // The preload read this round from the table, and a poll finds its outbox row only now: the
        // preloaded entry would repeat the round.
        if let Slot::Occupied(point) = self.points.entry(round.round_id.clone())
            && point.get().1 < self.first_live
            && game.buffer.find(point.get().1).is_some_and(|entry| entry.xid == Xid(0))
        {
            let (_, seeded) = point.remove();
            game.buffer.retain(|entry| entry.position != seeded);
        }
        let (xid, before, poll, position) = (*xid, *before, *poll, self.head);
        let entry = Entry { position, xid, attachment: *attachment, before, poll, kind, frame };
        let point = || (round.game_id.clone(), position);
        self.points.entry(round.round_id.clone()).or_insert_with(point);
        if let Some(evicted) = game.buffer.push(entry)
            && let Slot::Occupied(point) = self.points.entry(evicted.frame.round_id().clone())
            && point.get().1 == evicted.position
        {
            point.remove();
        }
    }

    /// Moves games whose type has changed to their new type, for seeds.
    pub(super) fn classify(&mut self, games: &[Game]) {
        for game in games {
            let Some(known) = self.games.get_mut(&game.id) else { continue };
            if known.kind != game.kind {
                known.kind = Arc::clone(&game.kind);
                self.types.entry(Arc::clone(&game.kind)).or_default().insert(game.id.clone());
            }
        }
    }

    /// The latest round of a topic: the one with the greatest (`finished_at`, `round_id`).
    pub(super) fn latest(&self, topic: &Topic) -> Option<Frame> {
        let latest = match topic {
            Topic::Everything => self.ages.last().and_then(|(_, id)| self.games.get(id)),
            Topic::AnyOf { .. } => {
                self.games_of(topic).map(|(_, game)| game).max_by_key(|game| &game.latest.0)
            }
        };
        latest.map(|game| game.latest.1.clone())
    }

    /// The seeds of a stream, oldest first.
    fn seeds(&self, topic: &Topic, mode: SeedMode) -> Vec<Frame> {
        let by_age = |game: &GameRounds| game.latest.0.clone();
        let games = match mode {
            SeedMode::Nothing => return Vec::new(),
            SeedMode::Latest => return self.latest(topic).into_iter().collect(),
            SeedMode::Each => self.games_of(topic).map(|(_, game)| game),
        };
        games.sorted_by_cached_key(|game| by_age(game)).map(|game| game.latest.1.clone()).collect()
    }

    /// The opening of a stream; `None` if a ring buffer has evicted a round of it.
    pub(super) fn begin(
        &self,
        topic: &Topic,
        start: Start,
        seed: SeedMode,
        limit: usize,
    ) -> Option<Opening> {
        // One more than the limit shows that there are too many.
        let most = limit.saturating_add(1);
        let frames = match start {
            Start::Seed => return Some(Opening::Seed(self.seeds(topic, seed))),
            Start::Gap => return Some(Opening::Gap(self.seeds(topic, seed.after_gap()))),
            Start::After(named) => self.after(topic, &named, most)?,
            Start::Replayed(replay) => self.finish_replay(topic, replay, most)?,
        };
        let fits = frames.len() <= limit;
        Some(if fits {
            Opening::Resumed(frames)
        } else {
            Opening::Gap(self.seeds(topic, seed.after_gap()))
        })
    }

    /// The rounds that only the database has, followed by those in the ring buffers.
    fn finish_replay(&self, topic: &Topic, replay: Replay, most: usize) -> Option<Vec<Frame>> {
        // Neither part has the finishes of the named round.
        let end = self.live_end_of_replay(topic, &replay, most)?;
        let buffered: HashSet<&Finish> = end.iter().map(|placed| &placed.finish).collect();
        let older = replay.rounds.into_iter().filter(|(finish, _)| !buffered.contains(finish));
        let mut frames: Vec<_> = older.map(|(_, frame)| frame).collect();
        frames.extend(end.into_iter().map(|placed| placed.frame));
        Some(frames)
    }

    /// Whether the ring buffers have every round of the topic after this position.
    fn reaches(&self, topic: &Topic, position: Position) -> bool {
        self.games_ever_of(topic).all(|(_, game)| game.buffer.reaches(position))
    }

    /// The first rounds of the topic, at most `most`, after a position; `None` if some have been
    /// evicted.
    pub(super) fn since(
        &self,
        topic: &Topic,
        position: Position,
        most: usize,
    ) -> Option<Vec<Placed>> {
        self.reaches(topic, position).then(|| self.collect(topic, position, most, |_| true))
    }

    /// The live rounds after the last eviction in the topic. Of these, the rounds after `seen` and
    /// the rounds of the transaction `from` or a later one, without the round that the client named.
    /// `None` if some after `seen` have been evicted.
    fn live_end_of_replay(
        &self,
        topic: &Topic,
        replay: &Replay,
        most: usize,
    ) -> Option<Vec<Placed>> {
        let complete = self.complete_after(topic);
        let wanted = |entry: &Entry| {
            (entry.position > replay.seen || entry.xid >= replay.from)
                && !replay.known.contains(&entry.finish())
        };
        (complete <= replay.seen).then(|| self.collect(topic, complete, most, wanted))
    }

    /// After this position every round of the topic was delivered live and is not evicted.
    pub(super) fn complete_after(&self, topic: &Topic) -> Position {
        let preloaded = Position(self.first_live.0 - 1);
        let lost = self.games_ever_of(topic).map(|(_, game)| game.buffer.evicted_position()).max();
        lost.unwrap_or_default().max(preloaded)
    }

    /// The first wanted rounds, at most `most`, after a position. This runs under the lock, and full
    /// ring buffers hold a hundred times the rounds that one reader takes at once.
    fn collect(
        &self,
        topic: &Topic,
        position: Position,
        most: usize,
        wanted: impl Fn(&Entry) -> bool,
    ) -> Vec<Placed> {
        let runs = self.games_ever_of(topic);
        let runs = runs.map(|(id, game)| game.buffer.after(position).map(move |entry| (id, entry)));
        // Each game's rounds are in order: a merge reads only the first ones.
        runs.kmerge_by(|(_, a), (_, b)| a.position < b.position)
            // Older rounds may have a former type of their game.
            .filter(|(id, entry)| topic.includes(id, &entry.kind) && wanted(entry))
            .take(most)
            .map(|(game, entry)| entry.placed(game))
            .collect()
    }

    /// The games that have the topic's type now, or are named by it.
    fn games_of<'a>(
        &'a self,
        topic: &'a Topic,
    ) -> impl Iterator<Item = (&'a GameId, &'a GameRounds)> {
        let games = self.games_ever_of(topic);
        games.filter(|(id, game)| topic.includes(id, &game.kind))
    }

    /// The games of a topic, and those that left it by a change of their type. It visits no others:
    /// this runs for every connection, under the lock.
    fn games_ever_of<'a>(
        &'a self,
        topic: &'a Topic,
    ) -> impl Iterator<Item = (&'a GameId, &'a GameRounds)> {
        let (all, some) = match topic {
            Topic::Everything => (Some(self.games.iter()), None),
            Topic::AnyOf { games, types } => {
                let by_type = types.iter().filter_map(|kind| self.types.get(kind)).flatten();
                let ids: BTreeSet<&GameId> = games.iter().chain(by_type).collect();
                (None, Some(ids))
            }
        };
        let some = some.into_iter().flatten();
        let some = some.filter_map(|id| self.games.get_key_value(id));
        all.into_iter().flatten().chain(some)
    }

    pub(super) fn subscribe(&mut self, topic: &Topic) -> Receiver<Batch> {
        self.channels.of(topic).subscribe()
    }
}

impl Entry {
    fn finish(&self) -> Finish {
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
