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
//! * **I4** Who cannot follow is refilled from memory by position, or told [`Delivery::TooSlow`].
//! * **I5** A resume point delivered live by this process is answered exactly, by position. One
//!   read from the outbox at start is answered by transaction (`before`), which may repeat rounds
//!   of overlapping transactions and loses none.

mod memory;
mod ring;
mod subscription;

use std::{
    num::NonZeroUsize,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use tokio::sync::broadcast;

use self::memory::Memory;
pub use self::subscription::{Delivery, Replayed, Subscription};
use crate::{
    frame::Frame,
    round::{Round, RoundId},
    telemetry::metrics::Metrics,
    topic::Topic,
};

/// Batches a subscriber may fall behind before it is refilled from memory. A batch is one arrival
/// from the database, whatever the number of rounds in it.
const LAG_BATCHES: usize = 256;

/// A place in the stream of this process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u64);

/// A PostgreSQL transaction id of 64 bits (`xid8`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Xid(pub u64);

/// What names one finish of a round: the primary key of the outbox.
pub type Finish = (Xid, RoundId);

/// A round with the transaction that finished it.
#[derive(Clone, Debug)]
pub struct Captured {
    /// The round.
    pub round: Round,
    /// The transaction that finished it.
    pub xid: Xid,
    /// The oldest transaction that was running when it was recorded.
    pub before: Xid,
}

/// A published round on its way to subscribers.
#[derive(Clone, Debug)]
struct Placed {
    position: Position,
    finish: Finish,
    frame: Frame,
}

/// Rounds that were published together.
type Batch = Arc<[Placed]>;

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

/// What memory knows of a resume point.
#[derive(Debug)]
pub enum Resumption {
    /// Everything after it, and the subscription that follows.
    Answered(Vec<Frame>, Subscription),
    /// More rounds than the limit lie after it.
    TooFar,
    /// Memory does not reach back to it.
    Unknown,
}

#[derive(Debug)]
struct Shared {
    memory: Mutex<Memory>,
    warm: AtomicBool,
    settled: AtomicU64,
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
        memory: Mutex::new(Memory::new(history)),
        warm: AtomicBool::new(false),
        settled: AtomicU64::new(0),
        metrics,
    }));
    (hub.clone(), Publisher(hub))
}

impl Hub {
    /// Whether the memory holds what the database held at start, so that streams may open.
    pub fn is_warm(&self) -> bool {
        self.0.warm.load(Ordering::Acquire)
    }

    /// The latest round of a topic, and every later one.
    pub fn seed(&self, topic: &Topic) -> (Option<Frame>, Subscription) {
        let mut memory = self.memory();
        let latest = memory.latest(topic);
        (latest, self.subscribe(&mut memory, topic))
    }

    /// The latest round of a topic.
    pub fn latest(&self, topic: &Topic) -> Option<Frame> {
        self.memory().latest(topic)
    }

    /// Every round of the topic after the named one, at most `limit`, and every later one.
    pub fn resume(&self, topic: &Topic, after: RoundId, limit: usize) -> Resumption {
        let mut memory = self.memory();
        match memory.after(topic, after) {
            None => Resumption::Unknown,
            Some(frames) if frames.len() > limit => Resumption::TooFar,
            Some(frames) => Resumption::Answered(frames, self.subscribe(&mut memory, topic)),
        }
    }

    /// The place in the stream of the last published round.
    pub fn head(&self) -> Position {
        self.memory().head()
    }

    /// Every round of the topic published after `position`, but for those in `given`, and every
    /// later one; `None` when memory does not reach back.
    pub fn resume_from(
        &self,
        topic: &Topic,
        position: Position,
        given: Replayed,
    ) -> Option<(Vec<Frame>, Subscription)> {
        let mut memory = self.memory();
        let missed = memory.since(topic, position)?;
        let missed = missed.into_iter().filter(|placed| !given.finishes.contains(&placed.finish));
        let missed = missed.map(|placed| placed.frame).collect();
        let mut subscription = self.subscribe(&mut memory, topic);
        subscription.leave_out(given);
        Some((missed, subscription))
    }

    fn subscribe(&self, memory: &mut Memory, topic: &Topic) -> Subscription {
        let receiver = memory.channel(topic).subscribe();
        Subscription::new(self.clone(), topic.clone(), memory.head(), receiver)
    }

    /// What a subscriber that fell behind has missed since `position`, if memory reaches back.
    fn refill(
        &self,
        topic: &Topic,
        position: Position,
    ) -> Option<(Vec<Placed>, broadcast::Receiver<Batch>)> {
        let mut memory = self.memory();
        let missed = memory.since(topic, position)?;
        self.0.metrics.subscriber_refills_total.inc();
        Some((missed, memory.channel(topic).subscribe()))
    }

    /// The oldest transaction that may still bring rounds: all before it have been published.
    pub fn settled(&self) -> Xid {
        Xid(self.0.settled.load(Ordering::Acquire))
    }

    /// No code that can panic runs under the lock; should it ever, the memory is still whole.
    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.0.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Publisher {
    /// A handle for readers.
    pub fn hub(&self) -> Hub {
        self.0.clone()
    }

    /// Fills the memory before anybody subscribes: the outbox's recent rounds in the order of
    /// their transactions, the latest round of every game, and up to which transaction the outbox
    /// has been trimmed.
    pub fn preload(&self, recent: Vec<Captured>, latest: Vec<Round>, trimmed: Xid) {
        let recent: Vec<_> = recent.into_iter().map(|captured| self.encode(captured)).collect();
        let latest = latest.into_iter().map(|round| self.encode(Captured::from_table(round)));
        let latest: Vec<_> = latest.collect();
        self.0.memory().preload(recent, latest, trimmed);
    }

    /// Opens the hub to subscribers.
    pub fn open(&self) {
        self.0.0.warm.store(true, Ordering::Release);
    }

    /// Gives rounds their places in the stream, in this order, and sends them to subscribers.
    pub fn publish(&self, rounds: Vec<Captured>) {
        if rounds.is_empty() {
            return;
        }
        let encoded: Vec<_> = rounds.into_iter().map(|captured| self.encode(captured)).collect();
        self.0.memory().publish(encoded);
    }

    /// Says that every round of a transaction before this one has been published.
    pub fn settle(&self, oldest_running: Xid) {
        self.0.0.settled.store(oldest_running.0, Ordering::Release);
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
        Self { round, xid: Xid(0), before: Xid(0) }
    }
}

#[cfg(test)]
mod tests;
