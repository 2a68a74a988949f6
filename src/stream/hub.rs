//! The hub: assigns each round its position in the stream, keeps recent rounds in ring buffers, and
//! opens subscriptions.
//!
//! One [`Publisher`] exists, owned by the capture; [`Hub`] handles are cheap to clone.
//!
//! * **I1** Positions rise by one per round. Every subscriber on every transport gets rounds in the
//!   order of their positions.
//! * **I2** A round is encoded once, before the lock is taken.
//! * **I3** A subscription and its opening are made under the lock that publishing takes. So each
//!   round is exactly one of these: in the opening, before it, or after it.
//! * **I4** A subscriber that falls behind is refilled from the ring buffers by position, or gets
//!   [`Delivery::TooSlow`].
//! * **I5** The hub answers a resume point that this process alone delivered live exactly, by
//!   position. If another node may have delivered it too, the answer has every round that may be
//!   later there. A resume point read from the outbox at start is answered by transaction
//!   (`before`). The last two may repeat rounds of overlapping transactions, and lose none.

mod channels;
mod outlet;
mod recent_rounds;
mod ring_buffer;
mod subscription;

use parking_lot::{Mutex, MutexGuard};
use std::{num::NonZeroUsize, sync::Arc, time::Instant};

use tokio::sync::{broadcast, watch};

use self::recent_rounds::RecentRounds;
pub use self::{
    outlet::{Joint, Missed, Outlet},
    subscription::{Delivery, Subscription},
};
use crate::{
    ops::telemetry::metrics::{ByResume, Metrics, Resume},
    stream::{
        frame::Frame,
        round::{Game, GameId, Round, RoundId},
        start_point::SeedMode,
        topic::Topic,
        transaction::{Attachment, Finish, Xid},
    },
};

/// Batches a subscriber may fall behind before it is refilled from the ring buffers. A batch holds
/// the rounds of one poll, however many.
const LAG_BATCHES: usize = 256;

/// A position in the stream of this process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u64);

/// A round with the transaction that finished it.
#[derive(Clone, Debug)]
pub struct Captured {
    /// The round.
    pub round: Round,
    /// The transaction that finished it.
    pub xid: Xid,
    /// The table of the round.
    pub attachment: Attachment,
    /// The oldest transaction that was running when the trigger recorded the round.
    pub before: Xid,
    /// The number of the poll that found it, counted by this process; 0 if the round is from before
    /// its start. Two rounds with equal numbers may have committed in either order.
    pub poll: u64,
    /// When it was recorded, by this machine's clock; `None` if the round is from before the start.
    pub recorded: Option<Instant>,
}

/// A published round on its way to subscribers.
#[derive(Clone, Debug)]
pub struct Placed {
    /// Its position in the stream.
    pub position: Position,
    /// The transaction and the round: a round that finishes twice has two.
    pub finish: Finish,
    /// Its game and the game's type at that time: they decide which topics include it.
    pub game: (GameId, Arc<str>),
    /// Its bytes.
    pub frame: Frame,
    /// When it was recorded; see [`Captured::recorded`].
    pub recorded: Option<Instant>,
}

/// Rounds that were published together, in order.
pub type Batch = Arc<[Placed]>;

/// How a stream starts.
#[derive(Debug)]
pub enum Opening {
    /// Not resumed: the rounds of the [`SeedMode`], oldest first.
    Seed(Vec<Frame>),
    /// Resumed: every round of the topic after the named one, in order.
    Resumed(Vec<Frame>),
    /// The resume point cannot be answered: the stream starts over with this seed.
    Gap(Vec<Frame>),
}

/// Where a stream starts, as the client requested.
#[derive(Debug)]
pub enum Start {
    /// With the seed.
    Seed,
    /// After a round in the ring buffers.
    After(RoundId),
    /// After a round that only the database has.
    Replayed(Replay),
    /// With the seed, because the resume point cannot be answered.
    Gap,
}

/// A start, and the seed if the stream does not resume.
#[derive(Debug)]
pub struct SeededStart {
    /// The start.
    pub start: Start,
    /// The seed.
    pub seed: SeedMode,
}

impl From<Start> for SeededStart {
    fn from(start: Start) -> Self {
        Self { start, seed: SeedMode::default() }
    }
}

/// The rounds that the database has after the one that a client named. The hub appends rounds from
/// the ring buffers, in the order of the stream: those published after `seen`, and those of the
/// transaction `from` or a later one.
///
/// A client may disconnect anywhere in a replay and name the last round it got. If that round is
/// answered by position, the replay must have sent all earlier rounds of the stream before it. The
/// database does not know that order, so the ring buffers' order wins.
#[derive(Debug)]
pub struct Replay {
    /// The oldest transaction whose rounds may be later than the named one.
    pub from: Xid,
    /// The durable position when the database was queried.
    pub seen: Position,
    /// The database's rounds, without the named one.
    pub rounds: Vec<(Finish, Frame)>,
    /// The named round's finishes in the database: the client has these, and lacks a later one.
    pub known: Vec<Finish>,
}

/// The position up to which published rounds survive a crash of the database. The snapshot sees
/// exactly the rounds up to it and those from before this process.
#[derive(Clone, Debug, Default)]
pub struct DurablePosition {
    /// The oldest transaction that may still commit rounds: all older ones are published.
    pub oldest_running: Xid,
    /// The snapshot, as PostgreSQL prints it.
    pub snapshot: Arc<str>,
    /// The last round that the snapshot sees.
    pub position: Position,
}

#[derive(Debug)]
struct Shared {
    recent: Mutex<RecentRounds>,
    open: watch::Sender<bool>,
    metrics: Metrics,
}

/// Opens subscriptions. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Hub(Arc<Shared>);

/// The one writer to the hub.
#[derive(Debug)]
pub struct Publisher(Hub);

/// Makes a hub that keeps `history` rounds of each game, and its only publisher.
pub fn new(history: NonZeroUsize, metrics: Metrics) -> (Hub, Publisher) {
    let hub = Hub(Arc::new(Shared {
        recent: Mutex::new(RecentRounds::new(history)),
        open: watch::Sender::new(false),
        metrics,
    }));
    (hub.clone(), Publisher(hub))
}

impl Hub {
    /// Whether streams may open: the ring buffers have been preloaded.
    pub fn is_open(&self) -> bool {
        *self.0.open.borrow()
    }

    /// Waits until streams may open.
    pub async fn opened(&self) {
        // The sender lives as long as the hub, so there is no error to see.
        let _ = self.0.open.subscribe().wait_for(|open| *open).await;
    }

    /// Opens a stream: its opening, and a subscription to every later round. Replays at most `limit`
    /// rounds. Returns `None` if a ring buffer has evicted a round of the opening since `start` was
    /// prepared.
    pub fn subscribe(
        &self,
        topic: &Topic,
        start: impl Into<SeededStart>,
        limit: usize,
    ) -> Option<(Opening, Subscription)> {
        let mut recent = self.recent();
        let opening = self.begin(&recent, topic, start.into(), limit)?;
        Some((opening, self.follow(&mut recent, topic)))
    }

    /// A subscription to every round that is published from now on.
    fn follow(&self, recent: &mut RecentRounds, topic: &Topic) -> Subscription {
        let receiver = recent.subscribe(topic);
        Subscription::new(self.clone(), topic.clone(), recent.head(), receiver)
    }

    /// The same as [`Self::subscribe`] for a subscriber of an [`Outlet`]. The hub calls `join` with
    /// the opening before it publishes the next round; `join` and the outlet must use one queue.
    /// Returns `join` unused if a ring buffer has evicted a round of the opening.
    pub fn open<T, J: FnOnce(Joint) -> T>(
        &self,
        topic: &Topic,
        start: impl Into<SeededStart>,
        limit: usize,
        join: J,
    ) -> Result<T, J> {
        let recent = self.recent();
        match self.begin(&recent, topic, start.into(), limit) {
            Some(opening) => Ok(join(Joint { opening, position: recent.head() })),
            None => Err(join),
        }
    }

    fn begin(
        &self,
        recent: &RecentRounds,
        topic: &Topic,
        SeededStart { start, seed }: SeededStart,
        limit: usize,
    ) -> Option<Opening> {
        let asked = match start {
            Start::Replayed(_) => Resume::database,
            _ => Resume::memory,
        };
        let opening = recent.begin(topic, start, seed, limit)?;
        let source = match opening {
            Opening::Seed(_) => return Some(opening),
            Opening::Resumed(_) => asked,
            Opening::Gap(_) => Resume::gap,
        };
        self.0.metrics.resumes_total.get_or_create(&ByResume { source }).inc();
        Some(opening)
    }

    /// Sends every round published from now on to this outlet.
    pub fn attach(&self, outlet: Arc<dyn Outlet>) {
        self.recent().attach(outlet);
    }

    /// The latest round of a topic.
    pub fn latest(&self, topic: &Topic) -> Option<Frame> {
        self.recent().latest(topic)
    }

    /// Whether the ring buffers have every round of the topic after the named one.
    pub fn knows(&self, topic: &Topic, named: &RoundId) -> bool {
        self.recent().point(topic, named).is_some()
    }

    /// Whether the ring buffers have every round of the topic after this position, so that they can
    /// complete a [`Replay`].
    pub fn continues(&self, topic: &Topic, seen: Position) -> bool {
        self.recent().complete_after(topic) <= seen
    }

    /// The first rounds, at most `most`, that a subscriber has missed since `position`; `None` if
    /// some have been evicted.
    pub fn missed(&self, topic: &Topic, position: Position, most: usize) -> Option<Missed> {
        let recent = self.recent();
        let mut rounds = recent.since(topic, position, most.saturating_add(1))?;
        let complete = rounds.len() <= most;
        rounds.truncate(most);
        self.0.metrics.subscriber_refills_total.inc();
        Some(Missed { rounds, whole: complete.then(|| recent.head()) })
    }

    /// All rounds that a slow subscriber has missed since `position`; `None` if some have been evicted.
    fn refill(
        &self,
        topic: &Topic,
        position: Position,
    ) -> Option<(Vec<Placed>, broadcast::Receiver<Batch>)> {
        let mut recent = self.recent();
        let missed = recent.since(topic, position, usize::MAX)?;
        self.0.metrics.subscriber_refills_total.inc();
        Some((missed, recent.subscribe(topic)))
    }

    /// The position up to which published rounds survive a crash of the database.
    pub fn durable_position(&self) -> DurablePosition {
        self.recent().durable_position()
    }

    fn recent(&self) -> MutexGuard<'_, RecentRounds> {
        self.0.recent.lock()
    }
}

impl Publisher {
    /// Fills the ring buffers before the first subscription: with the outbox's `recent` rounds in
    /// the order of their transactions, and the `latest` round of each game. Retention has deleted
    /// outbox rows up to the transaction `trimmed`.
    pub fn preload(&self, recent: Vec<Captured>, latest: Vec<Round>, trimmed: Xid) {
        let recent: Vec<_> = recent.into_iter().map(|captured| self.encode(captured)).collect();
        let latest = latest.into_iter().map(|round| self.encode(Captured::from_table(round)));
        let latest: Vec<_> = latest.collect();
        self.0.recent().preload(recent, latest, trimmed);
    }

    /// Moves games whose type has changed to their new type.
    pub fn classify(&self, games: &[Game]) {
        self.0.recent().classify(games);
    }

    /// Opens the hub to subscribers.
    pub fn open(&self) {
        self.0.0.open.send_replace(true);
    }

    /// Assigns the rounds positions, in this order, and sends them to subscribers.
    pub fn publish(&self, rounds: Vec<Captured>) {
        if rounds.is_empty() {
            return;
        }
        let encoded: Vec<_> = rounds.into_iter().map(|captured| self.encode(captured)).collect();
        self.0.recent().publish(encoded);
    }

    /// The position of the last published round.
    pub fn position(&self) -> Position {
        self.0.recent().head()
    }

    /// Sets the position up to which published rounds survive a crash of the database.
    pub fn set_durable_position(&self, durable: DurablePosition) {
        self.0.recent().set_durable_position(durable);
    }

    /// Sets whether other nodes may stream the same database from now on (I5).
    pub fn share(&self, shared: bool) {
        self.0.recent().share(shared);
    }

    fn encode(&self, captured: Captured) -> (Captured, Frame) {
        self.0.0.metrics.frames_encoded_total.inc();
        let frame = Frame::encode(&captured.round);
        (captured, frame)
    }
}

impl Captured {
    /// A round without an outbox row, which retention deletes.
    fn from_table(round: Round) -> Self {
        let (xid, attachment) = (Xid(0), Attachment::default());
        Self { round, xid, attachment, before: xid, poll: 0, recorded: None }
    }

    /// The key of the round's outbox row.
    pub(crate) fn finish(&self) -> Finish {
        let (xid, attachment) = (self.xid, self.attachment);
        Finish { xid, attachment, round: self.round.round_id.clone() }
    }
}

#[cfg(test)]
mod tests;
