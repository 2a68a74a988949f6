//! The hub's store: the latest round and a ring buffer for each game, and the subscribers.

mod former_types;
mod opening;
mod preload;
mod resume_point;

use std::{
    collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, btree_map, hash_map::Entry as Slot},
    num::NonZeroUsize,
    sync::Arc,
};

use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::broadcast::Receiver;

pub use self::resume_point::Later;
use super::{
    Batch, Captured, DurablePosition, MissingSeed, Outlet, Placed, Position, SeedRound,
    channels::Channels,
    exact_lease::ExactLease,
    history_hold::HistoryHold,
    ring_buffer::{Entry, RingBuffer},
    start::Age,
};
use crate::{
    ops::{
        memory_budget::MemoryBudget,
        telemetry::metrics::{MemoryUse, Metrics},
    },
    stream::{
        frame::Frame,
        round::{Game, GameId, RoundId},
        topic::Topic,
        transaction::Xid,
    },
};

/// Once the history has its share, it shrinks by this part of it more: the next rounds then need no
/// search for the largest game.
const SLACK: usize = 64;

/// A round and its encoded bytes.
#[derive(Debug)]
pub(super) struct Encoded {
    pub(super) captured: Captured,
    pub(super) frame: Frame,
    pub(super) hold: Arc<HistoryHold>,
}

#[derive(Debug)]
struct GameRounds {
    /// The type the game had in its newest round.
    kind: Arc<str>,
    /// The round with the greatest (`finished_at`, `round_id`).
    latest: Latest,
    buffer: RingBuffer,
}

#[derive(Debug)]
struct Latest {
    age: Age,
    /// The bytes of its frame.
    bytes: usize,
    /// `None` once the latest rounds alone had more than the memory for history.
    frame: Option<Frame>,
    /// Counts the round's bytes as history.
    hold: Option<Arc<HistoryHold>>,
}

impl Latest {
    /// Its frame, or what to read if it was dropped.
    fn held(&self, game: &GameId) -> SeedRound {
        let missing =
            || MissingSeed { game: game.clone(), age: self.age.clone(), bytes: self.bytes };
        self.frame.clone().ok_or_else(missing)
    }
}

#[derive(Debug)]
pub(super) struct RecentRounds {
    history: NonZeroUsize,
    /// The most bytes of one replay.
    replay_bytes: usize,
    budget: MemoryBudget,
    head: Position,
    /// The position of the first round that this process delivers live.
    first_live: Position,
    /// Rounds up to this position were forgotten.
    forgotten: Position,
    /// Up to this position another node may have delivered the same rounds in another order.
    shared_until: Position,
    /// How long the answers are exact.
    pub(super) lease: ExactLease,
    /// Up to this transaction retention had deleted outbox rows when the ring buffers were preloaded.
    trimmed: Xid,
    durable: DurablePosition,
    games: BTreeMap<GameId, GameRounds>,
    /// The games that have, or had, each type.
    types: HashMap<Arc<str>, BTreeSet<GameId>>,
    /// With more types, those that are not used are searched for.
    types_most: usize,
    /// All games, by the age of their latest round.
    ages: BTreeSet<(Age, GameId)>,
    /// Resume points: the oldest position of each round that a ring buffer holds.
    points: HashMap<RoundId, (GameId, Position)>,
    channels: Channels,
    /// How many latest rounds have no bytes here.
    dropped: Gauge,
    outlets: Vec<Arc<dyn Outlet>>,
}

impl RecentRounds {
    pub(super) fn new(
        history: NonZeroUsize,
        replay_bytes: usize,
        budget: MemoryBudget,
        metrics: &Metrics,
    ) -> Self {
        Self {
            channels: Channels::new(budget.clone(), metrics),
            dropped: metrics.latest_rounds_dropped.clone(),
            history,
            replay_bytes,
            budget,
            head: Position(0),
            first_live: Position(1),
            forgotten: Position(0),
            shared_until: Position(0),
            lease: ExactLease::default(),
            trimmed: Xid(0),
            durable: DurablePosition::default(),
            games: BTreeMap::new(),
            types: HashMap::new(),
            types_most: former_types::FEW,
            ages: BTreeSet::new(),
            points: HashMap::new(),
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

    /// Forgets all rounds. Who lacks one of them can get no more of them.
    pub(super) fn forget_all(&mut self) {
        self.games.clear();
        self.types.clear();
        self.ages.clear();
        self.points.clear();
        self.dropped.set(0);
        (self.forgotten, self.first_live) = (self.head, Position(self.head.0 + 1));
        (self.trimmed, self.durable) = (Xid(0), DurablePosition::default());
    }

    pub(super) fn attach(&mut self, outlet: Arc<dyn Outlet>) {
        self.outlets.push(outlet);
    }

    /// Ends every stream.
    pub(super) fn end_streams(&mut self) {
        self.outlets.iter().for_each(|outlet| outlet.end_streams());
        self.channels.clear();
    }

    pub(super) fn has_outlet_behind(&mut self) -> bool {
        self.outlets.iter().any(|outlet| outlet.is_behind()) || self.channels.is_behind()
    }

    pub(super) fn append(&mut self, rounds: Vec<Encoded>) {
        let batch: Batch = rounds.into_iter().map(|encoded| self.place_live(encoded)).collect();
        self.outlets.iter().for_each(|outlet| outlet.publish(&batch));
        self.channels.send(&batch);
        self.shrink();
    }

    /// Evicts the oldest rounds of the largest games while the history has more than its share of
    /// the memory.
    fn shrink(&mut self) {
        if !self.budget.must_shrink(MemoryUse::history) {
            return;
        }
        let goal = self.budget.share(MemoryUse::history) / SLACK * (SLACK - 1);
        let is_done = |budget: &MemoryBudget| {
            budget.used(MemoryUse::history) <= goal && !budget.must_shrink(MemoryUse::history)
        };
        let games = self.games.iter().map(|(id, game)| (game.buffer.bytes(), id.clone()));
        let mut largest: BinaryHeap<(usize, GameId)> = games.collect();
        while !is_done(&self.budget)
            && let Some((_, id)) = largest.pop()
        {
            let Some(game) = self.games.get_mut(&id) else { continue };
            let Some(evicted) = game.buffer.evict() else { continue };
            let bytes = game.buffer.bytes();
            self.forget_point(&evicted);
            largest.push((bytes, id));
        }
        if !is_done(&self.budget) {
            self.drop_latest(is_done);
        }
    }

    /// Drops the bytes of the largest latest rounds: openings then read them from the database.
    fn drop_latest(&mut self, is_done: impl Fn(&MemoryBudget) -> bool) {
        let held = self.games.iter().filter(|(_, game)| game.latest.frame.is_some());
        let mut largest: BinaryHeap<(usize, GameId)> =
            held.map(|(id, game)| (game.latest.bytes, id.clone())).collect();
        while !is_done(&self.budget)
            && let Some((_, id)) = largest.pop()
        {
            let Some(game) = self.games.get_mut(&id) else { continue };
            (game.latest.frame, game.latest.hold) = (None, None);
            self.dropped.inc();
        }
    }

    /// Forgets the resume point of a round that no ring buffer holds any more.
    fn forget_point(&mut self, evicted: &Entry) {
        if let Slot::Occupied(point) = self.points.entry(evicted.frame.round_id().clone())
            && point.get().1 == evicted.position
        {
            point.remove();
        }
    }

    fn place_live(&mut self, encoded: Encoded) -> Placed {
        let Encoded { captured, frame, .. } = &encoded;
        let finish = captured.finish();
        let game = (captured.round.game_id.clone(), Arc::clone(&captured.round.game_type));
        let (recorded, frame) = (captured.recorded, frame.clone());
        let position = self.place(encoded);
        Placed { position, finish, game, frame, recorded }
    }

    fn place(&mut self, encoded: Encoded) -> Position {
        self.head.0 += 1;
        self.keep_latest(&encoded);
        self.keep_recent(encoded);
        self.head
    }

    fn keep_latest(&mut self, Encoded { captured, frame, hold }: &Encoded) {
        let round = &captured.round;
        let (id, age, kind) = (round.game_id.clone(), round.age(), Arc::clone(&round.game_type));
        let games = self.types.entry(Arc::clone(&kind)).or_default();
        games.insert(id.clone());
        let (bytes, frame, hold) = (frame.size(), Some(frame.clone()), Some(Arc::clone(hold)));
        let latest = Latest { age: age.clone(), bytes, frame, hold };
        match self.games.entry(id.clone()) {
            btree_map::Entry::Vacant(slot) => {
                self.ages.insert((age, id));
                slot.insert(GameRounds { kind, latest, buffer: RingBuffer::new(self.history) });
            }
            btree_map::Entry::Occupied(mut slot) => {
                let game = slot.get_mut();
                game.kind = kind;
                if age >= game.latest.age {
                    let former = std::mem::replace(&mut game.latest, latest);
                    self.dropped.dec_by(i64::from(former.frame.is_none()));
                    self.ages.remove(&(former.age, id.clone()));
                    self.ages.insert((age, id));
                }
            }
        }
    }

    fn keep_recent(&mut self, Encoded { captured, frame, hold }: Encoded) {
        let Captured { round, xid, attachment, before, poll, .. } = captured;
        let Some(game) = self.games.get_mut(&round.game_id) else { return };
        // The preload read this round from the table, and a poll finds its outbox row only now: the
        // preloaded entry would repeat the round.
        if let Slot::Occupied(point) = self.points.entry(round.round_id.clone())
            && point.get().1 < self.first_live
            && game.buffer.find(point.get().1).is_some_and(|entry| entry.xid == Xid(0))
        {
            let (_, seeded) = point.remove();
            game.buffer.retain(|entry| entry.position != seeded);
        }
        let (kind, position) = (round.game_type, self.head);
        let entry = Entry { position, xid, attachment, before, poll, kind, frame, _hold: hold };
        let point = || (round.game_id.clone(), position);
        self.points.entry(round.round_id.clone()).or_insert_with(point);
        if let Some(evicted) = game.buffer.push(entry) {
            self.forget_point(&evicted);
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
        self.forget_former_types();
    }

    /// The latest round of a topic, or what to read if its bytes were dropped.
    pub(super) fn latest(&self, topic: &Topic) -> Option<SeedRound> {
        self.latest_of(topic).map(|(game, latest)| latest.held(game))
    }

    /// The game of a topic that has the greatest (`finished_at`, `round_id`).
    fn latest_of<'a>(&'a self, topic: &'a Topic) -> Option<(&'a GameId, &'a Latest)> {
        let (id, game) = match topic {
            Topic::Everything => self.games.get_key_value(&self.ages.last()?.1)?,
            Topic::AnyOf { .. } => self.games_of(topic).max_by_key(|(_, game)| &game.latest.age)?,
        };
        Some((id, &game.latest))
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
