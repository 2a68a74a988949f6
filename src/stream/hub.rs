//! The hub: it gives every round its place in the stream, remembers the recent ones, and opens
//! subscriptions to them.
//!
//! One [`Publisher`] exists, owned by the capture; [`Hub`] handles are cheap to clone.
//!
//! * **I1** Positions rise by one per round; every subscriber on every transport sees rounds in
//!   the order of their positions.
//! * **I2** A round is encoded once, before the lock is taken.
//! * **I3** A subscription and its opening are made under the lock that publishing takes: a round
//!   is either in the opening, or before it, or follows; never two of these, never none.
//! * **I4** Who cannot follow is refilled from memory by position, or told that it is too slow.
//! * **I5** A resume point delivered live, by this process alone, is answered exactly, by position. One
//!   that another node may have delivered as well is answered with all that may have come later
//!   there, and one read from the outbox at start by transaction (`before`): both may repeat rounds of
//!   overlapping transactions, and lose none.

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
        round::{GameId, Round, RoundId},
        topic::Topic,
        transaction::{Finish, Xid},
    },
};

/// Batches a subscriber may fall behind before it is refilled from recent. A batch is one arrival
/// from the database, whatever the number of rounds in it.
const LAG_BATCHES: usize = 256;

/// A place in the stream of this process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u64);

/// A round with the transaction that finished it.
#[derive(Clone, Debug)]
pub struct Captured {
    /// The round.
    pub round: Round,
    /// The transaction that finished it.
    pub xid: Xid,
    /// The oldest transaction that was running when it was recorded.
    pub before: Xid,
    /// The number of the poll that found it, counted by this process; 0 for rounds from before its
    /// start. Two rounds with equal numbers may have committed in either order.
    pub poll: u64,
    /// When it was recorded, by this machine's clock; unknown for rounds from before the start.
    pub recorded: Option<Instant>,
}

/// A published round on its way to subscribers.
#[derive(Clone, Debug)]
pub struct Placed {
    /// Its place in the stream.
    pub position: Position,
    /// What names this finish of it.
    pub finish: Finish,
    /// Its game, and the type that had: they decide whose it is.
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
    /// Not resumed: the latest round of the topic, if there is one.
    Seed(Option<Frame>),
    /// Resumed: every round of the topic after the named one, in order.
    Resumed(Vec<Frame>),
    /// The resume point cannot be honored: the stream starts over with this seed.
    Gap(Option<Frame>),
}

/// Where a stream is to start; made by whoever knows what the client asked for.
#[derive(Debug)]
pub enum Start {
    /// With the latest round.
    Seed,
    /// After a round that memory knows.
    After(RoundId),
    /// After a round that only the database knows.
    Replayed(Replay),
    /// Over again, because the resume point cannot be honored.
    Gap,
}

/// What the database has after a round that a client named, to be continued from recent: what
/// memory holds without a hole, in the order of the stream, of rounds that were published after
/// `seen` or are of the transaction `from` or a later one, goes behind all the others.
///
/// A client may break off anywhere in a replay and name the last round it got. For a round that is
/// answered by position all rounds before it in the stream must have come before it in the replay
/// too, and the database does not know that order.
#[derive(Debug)]
pub struct Replay {
    /// Of these transactions.
    pub from: Xid,
    /// What the hub had published before the database was asked.
    pub seen: Position,
    /// What the database had, but for the named round.
    pub rounds: Vec<(Finish, Frame)>,
    /// The finishes of the named round that the database had: a later one is new to the client.
    pub known: Vec<Finish>,
}

/// How far the database has been read: what the snapshot sees are the rounds up to the position,
/// and those from before this process.
#[derive(Clone, Debug, Default)]
pub struct DurablePosition {
    /// The oldest transaction that may still bring rounds: all before it have been published.
    pub oldest_running: Xid,
    /// The snapshot, as PostgreSQL prints it.
    pub snapshot: Arc<str>,
    /// The last round that it sees.
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

/// Makes a hub that remembers `history` rounds of each game, and its only publisher.
pub fn new(history: NonZeroUsize, metrics: Metrics) -> (Hub, Publisher) {
    let hub = Hub(Arc::new(Shared {
        recent: Mutex::new(RecentRounds::new(history)),
        open: watch::Sender::new(false),
        metrics,
    }));
    (hub.clone(), Publisher(hub))
}

impl Hub {
    /// Whether the memory holds what the database held at start, so that streams may open.
    pub fn is_open(&self) -> bool {
        *self.0.open.borrow()
    }

    /// Waits until it does.
    pub async fn opened(&self) {
        // The sender lives as long as the hub, so there is no error to see.
        let _ = self.0.open.subscribe().wait_for(|open| *open).await;
    }

    /// Opens a stream: what it starts with, and a subscription to every later round. At most
    /// `limit` rounds are replayed. `None` when memory has lost a round that it should start with
    /// since the start was prepared.
    pub fn subscribe(
        &self,
        topic: &Topic,
        start: Start,
        limit: usize,
    ) -> Option<(Opening, Subscription)> {
        let mut recent = self.recent();
        let opening = self.begin(&recent, topic, start, limit)?;
        Some((opening, self.follow(&mut recent, topic)))
    }

    /// A subscription to every round that is published from now on.
    fn follow(&self, recent: &mut RecentRounds, topic: &Topic) -> Subscription {
        let receiver = recent.subscribe(topic);
        Subscription::new(self.clone(), topic.clone(), recent.head(), receiver)
    }

    /// The same as [`Self::subscribe`] for a subscriber of an [`Outlet`]: `join` is called with
    /// what the stream starts with before the next round is published, and must put both in one
    /// queue. It is given back when memory has lost a round.
    pub fn open<T, J: FnOnce(Joint) -> T>(
        &self,
        topic: &Topic,
        start: Start,
        limit: usize,
        join: J,
    ) -> Result<T, J> {
        let recent = self.recent();
        match self.begin(&recent, topic, start, limit) {
            Some(opening) => Ok(join(Joint { opening, position: recent.head() })),
            None => Err(join),
        }
    }

    fn begin(
        &self,
        recent: &RecentRounds,
        topic: &Topic,
        start: Start,
        limit: usize,
    ) -> Option<Opening> {
        let asked = match start {
            Start::Replayed(_) => Resume::database,
            _ => Resume::memory,
        };
        let opening = recent.begin(topic, start, limit)?;
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

    /// Whether memory has every round of the topic after the named one.
    pub fn knows(&self, topic: &Topic, named: RoundId) -> bool {
        self.recent().point(topic, named).is_some()
    }

    /// Whether memory has every round of the topic after this position, so that it can continue
    /// a [`Replay`] made now.
    pub fn continues(&self, topic: &Topic, seen: Position) -> bool {
        self.recent().complete_after(topic) <= seen
    }

    /// The first rounds, at most `most`, that a subscriber has missed since `position`; `None`
    /// when memory does not reach back.
    pub fn missed(&self, topic: &Topic, position: Position, most: usize) -> Option<Missed> {
        let recent = self.recent();
        let mut rounds = recent.since(topic, position, most.saturating_add(1))?;
        let complete = rounds.len() <= most;
        rounds.truncate(most);
        self.0.metrics.subscriber_refills_total.inc();
        Some(Missed { rounds, whole: complete.then(|| recent.head()) })
    }

    /// What a subscriber that fell behind has missed since `position`, if memory reaches back.
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

    /// How far the database has been read.
    pub fn durable_position(&self) -> DurablePosition {
        self.recent().durable_position()
    }

    fn recent(&self) -> MutexGuard<'_, RecentRounds> {
        self.0.recent.lock()
    }
}

impl Publisher {
    /// Fills the memory before anybody subscribes: the outbox's recent rounds in the order of
    /// their transactions, the latest round of every game, and up to which transaction the outbox
    /// has been trimmed.
    pub fn preload(&self, recent: Vec<Captured>, latest: Vec<Round>, trimmed: Xid) {
        let recent: Vec<_> = recent.into_iter().map(|captured| self.encode(captured)).collect();
        let latest = latest.into_iter().map(|round| self.encode(Captured::from_table(round)));
        let latest: Vec<_> = latest.collect();
        self.0.recent().preload(recent, latest, trimmed);
    }

    /// Opens the hub to subscribers.
    pub fn open(&self) {
        self.0.0.open.send_replace(true);
    }

    /// Gives rounds their places in the stream, in this order, and sends them to subscribers.
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

    /// Says how far the database has been read for good: a crash of it takes nothing of that back.
    pub fn set_durable_position(&self, durable: DurablePosition) {
        self.0.recent().set_durable_position(durable);
    }

    /// Says whether other nodes may stream the same database from now on (I5).
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
    /// A round that the outbox does not know (any longer).
    fn from_table(round: Round) -> Self {
        Self { round, xid: Xid(0), before: Xid(0), poll: 0, recorded: None }
    }
}

#[cfg(test)]
mod tests;
