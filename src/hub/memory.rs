//! What the hub remembers: per game the latest round and the recent ones, and who listens.

use std::{
    collections::{BTreeMap, HashMap, hash_map::Entry as Slot},
    num::NonZeroUsize,
    sync::Arc,
};

use tokio::sync::broadcast;

use super::{
    Batch, Captured, LAG_BATCHES, Placed, Position, Settled, Xid,
    ring::{Entry, Ring},
};
use crate::{
    frame::Frame,
    round::{FinishedAt, GameId, RoundId},
    topic::Topic,
};

/// A round and the bytes it became.
type Encoded = (Captured, Frame);

#[derive(Debug)]
struct GameMemory {
    /// The type the game had in its newest round.
    kind: Arc<str>,
    /// The round with the greatest (`finished_at`, `round_id`).
    latest: ((FinishedAt, RoundId), Frame),
    recent: Ring,
}

#[derive(Debug)]
pub(super) struct Memory {
    history: NonZeroUsize,
    head: Position,
    /// The position of the first round that this process delivered live.
    first_live: Position,
    /// What the outbox had already forgotten when the memory was filled.
    trimmed: Xid,
    settled: Settled,
    games: BTreeMap<GameId, GameMemory>,
    /// Resume points: the oldest kept position of each round.
    points: HashMap<RoundId, (GameId, Position)>,
    topics: HashMap<Topic, broadcast::Sender<Batch>>,
}

impl Memory {
    pub(super) fn new(history: NonZeroUsize) -> Self {
        Self {
            history,
            head: Position(0),
            first_live: Position(1),
            trimmed: Xid(0),
            settled: Settled::default(),
            games: BTreeMap::new(),
            points: HashMap::new(),
            topics: HashMap::new(),
        }
    }

    /// The position of the last published round.
    pub(super) fn head(&self) -> Position {
        self.head
    }

    pub(super) fn settled(&self) -> Settled {
        self.settled.clone()
    }

    pub(super) fn settle(&mut self, oldest_running: Xid, snapshot: &str) {
        self.settled = Settled { oldest_running, snapshot: snapshot.into(), position: self.head };
    }

    pub(super) fn preload(&mut self, recent: Vec<Encoded>, latest: Vec<Encoded>, trimmed: Xid) {
        // A round that only the table knows is older than all the outbox holds, so it goes first.
        let known: std::collections::HashSet<_> =
            recent.iter().map(|(captured, _)| captured.round.round_id).collect();
        let (known, table_only): (Vec<_>, Vec<_>) =
            latest.into_iter().partition(|(captured, _)| known.contains(&captured.round.round_id));
        for encoded in table_only.into_iter().chain(recent) {
            self.place(encoded);
        }
        for (captured, frame) in known {
            self.keep_latest(&captured, &frame);
        }
        for game in self.games.values_mut().filter(|game| game.recent.is_full()) {
            // The query gives no more than the ring takes: older rounds are likely to exist.
            let oldest = game.recent.after(Position(0)).next().map_or(Xid(0), |entry| entry.xid);
            game.recent.truncated_at(oldest);
        }
        self.trimmed = trimmed;
        self.first_live = Position(self.head.0 + 1);
    }

    pub(super) fn publish(&mut self, rounds: Vec<Encoded>) {
        let mut placed = Vec::with_capacity(rounds.len());
        for (captured, frame) in rounds {
            let finish = (captured.xid, captured.round.round_id);
            let game = (captured.round.game_id, Arc::clone(&captured.round.game_type));
            let position = self.place((captured, frame.clone()));
            placed.push((game, Placed { position, finish, frame }));
        }
        self.topics.retain(|topic, channel| {
            send(topic, channel, &placed);
            channel.receiver_count() > 0
        });
    }

    fn place(&mut self, (captured, frame): Encoded) -> Position {
        self.head.0 += 1;
        self.keep_latest(&captured, &frame);
        self.keep_recent(&captured, frame);
        self.head
    }

    fn keep_latest(&mut self, captured: &Captured, frame: &Frame) {
        let round = &captured.round;
        let latest = (round.age(), frame.clone());
        match self.games.entry(round.game_id) {
            std::collections::btree_map::Entry::Vacant(slot) => {
                let kind = Arc::clone(&round.game_type);
                slot.insert(GameMemory { kind, latest, recent: Ring::new(self.history) });
            }
            std::collections::btree_map::Entry::Occupied(mut slot) => {
                let game = slot.get_mut();
                game.kind = Arc::clone(&round.game_type);
                if latest.0 >= game.latest.0 {
                    game.latest = latest;
                }
            }
        }
    }

    fn keep_recent(&mut self, captured: &Captured, frame: Frame) {
        let Captured { round, xid, before } = captured;
        let Some(game) = self.games.get_mut(&round.game_id) else { return };
        let kind = Arc::clone(&round.game_type);
        let entry = Entry { position: self.head, xid: *xid, before: *before, kind, frame };
        self.points.entry(round.round_id).or_insert((round.game_id, self.head));
        if let Some(evicted) = game.recent.push(entry)
            && let Slot::Occupied(point) = self.points.entry(evicted.frame.round_id())
            && point.get().1 == evicted.position
        {
            point.remove();
        }
    }

    /// The latest round of a topic: the one with the greatest (`finished_at`, `round_id`).
    pub(super) fn latest(&self, topic: &Topic) -> Option<Frame> {
        let games = self.games_of(topic);
        games.map(|(_, game)| &game.latest).max_by_key(|(age, _)| *age).map(|(_, f)| f.clone())
    }

    /// Every kept round of the topic after the named one; `None` when memory cannot tell.
    pub(super) fn after(&self, topic: &Topic, named: RoundId) -> Option<Vec<Frame>> {
        let (game, position) = *self.points.get(&named)?;
        let point = self.games.get(&game)?.recent.find(position)?;
        let found = if position >= self.first_live {
            self.since(topic, position)?
        } else if point.before > Xid(0) {
            self.since_transaction(topic, point)?
        } else {
            self.since_table(topic, game, position)?
        };
        Some(found.into_iter().map(|placed| placed.frame).collect())
    }

    /// Every round of the topic after a position; `None` when some have fallen out.
    pub(super) fn since(&self, topic: &Topic, position: Position) -> Option<Vec<Placed>> {
        let whole = self.games_of(topic).all(|(_, game)| game.recent.reaches(position));
        whole.then(|| self.collect(topic, position, |_| true))
    }

    /// Every live round from where no game of the topic has lost one, if its position is after
    /// `seen` or its transaction not before `from`; `None` when some after `seen` have fallen out.
    pub(super) fn end_of_replay(
        &self,
        topic: &Topic,
        seen: Position,
        from: Xid,
    ) -> Option<Vec<Placed>> {
        let preloaded = Position(self.first_live.0 - 1);
        let lost = self.games_of(topic).map(|(_, game)| game.recent.evicted_position()).max();
        let whole = lost.unwrap_or_default().max(preloaded);
        let wanted = |entry: &Entry| entry.position > seen || entry.xid >= from;
        (whole <= seen).then(|| self.collect(topic, whole, wanted))
    }

    /// Every round whose transaction may have committed after that of the point (I5).
    fn since_transaction(&self, topic: &Topic, point: &Entry) -> Option<Vec<Placed>> {
        let (before, named) = (point.before, point.position);
        let preloaded = Position(self.first_live.0 - 1);
        let whole = |(_, game): (&GameId, &GameMemory)| {
            game.recent.reaches(preloaded) && game.recent.reaches_xid(before)
        };
        let later = |entry: &Entry| {
            entry.position > preloaded || (entry.xid >= before && entry.position != named)
        };
        let whole = before > self.trimmed && self.games_of(topic).all(whole);
        whole.then(|| self.collect(topic, Position(0), later))
    }

    /// The point was never in the outbox, or has been trimmed: all that the outbox holds of its
    /// game came later. Of other games nothing is known.
    fn since_table(&self, topic: &Topic, game: GameId, point: Position) -> Option<Vec<Placed>> {
        let alone =
            self.games_of(topic).all(|(&id, memory)| id == game && memory.recent.is_whole());
        alone.then(|| self.collect(topic, Position(0), |entry| entry.position != point))
    }

    fn collect(
        &self,
        topic: &Topic,
        position: Position,
        wanted: impl Fn(&Entry) -> bool,
    ) -> Vec<Placed> {
        let mut found: Vec<_> = self
            .games
            .iter()
            .flat_map(|(id, game)| game.recent.after(position).map(move |entry| (*id, entry)))
            .filter(|(id, entry)| topic.includes(*id, &entry.kind) && wanted(entry))
            .map(|(_, entry)| Placed::from(entry))
            .collect();
        found.sort_unstable_by_key(|placed| placed.position);
        found
    }

    fn games_of(&self, topic: &Topic) -> impl Iterator<Item = (&GameId, &GameMemory)> {
        self.games.iter().filter(|(id, game)| topic.includes(**id, &game.kind))
    }

    pub(super) fn channel(&mut self, topic: &Topic) -> &broadcast::Sender<Batch> {
        let new = || broadcast::Sender::new(LAG_BATCHES);
        self.topics.entry(topic.clone()).or_insert_with(new)
    }
}

/// Sends a topic its share of a batch.
fn send(
    topic: &Topic,
    channel: &broadcast::Sender<Batch>,
    placed: &[((GameId, Arc<str>), Placed)],
) {
    let wanted = placed.iter().filter(|((id, kind), _)| topic.includes(*id, kind));
    let batch: Batch = wanted.map(|(_, placed)| placed.clone()).collect();
    if !batch.is_empty() {
        // An error only says that nobody listens any longer; the channel is then removed.
        let _ = channel.send(batch);
    }
}

impl From<&Entry> for Placed {
    fn from(entry: &Entry) -> Self {
        let finish = (entry.xid, entry.frame.round_id());
        Self { position: entry.position, finish, frame: entry.frame.clone() }
    }
}
