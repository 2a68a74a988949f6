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
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{broadcast, watch};

use self::memory::Memory;
pub use self::subscription::{Delivery, Subscription};
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

/// How far the database has been read: what the snapshot sees are the rounds up to the position,
/// and those from before this process.
#[derive(Clone, Debug, Default)]
pub struct Settled {
    /// The oldest transaction that may still bring rounds: all before it have been published.
    pub oldest_running: Xid,
    /// The snapshot, as PostgreSQL prints it.
    pub snapshot: Arc<str>,
    /// The last round that it sees.
    pub position: Position,
}

#[derive(Debug)]
struct Shared {
    memory: Mutex<Memory>,
    warm: watch::Sender<bool>,
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
        warm: watch::Sender::new(false),
        metrics,
    }));
    (hub.clone(), Publisher(hub))
}

impl Hub {
    /// Whether the memory holds what the database held at start, so that streams may open.
    pub fn is_warm(&self) -> bool {
        *self.0.warm.borrow()
    }

    /// Waits until it does.
    pub async fn warmed(&self) {
        // The sender lives as long as the hub, so there is no error to see.
        let _ = self.0.warm.subscribe().wait_for(|warm| *warm).await;
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

    /// The end of a replay that was read from the database: what memory holds without a hole, in
    /// the order of the stream, of rounds that were published after `seen` or are of the
    /// transaction `from` or a later one; and every later round. `None` when memory does not reach
    /// back to `seen`.
    ///
    /// A client may break off anywhere in a replay and name the last round it got. For a round
    /// that is answered by position all rounds before it in the stream must have come before it
    /// in the replay too, and the database does not know that order.
    pub fn end_of_replay(
        &self,
        topic: &Topic,
        seen: Position,
        from: Xid,
    ) -> Option<(Vec<(Finish, Frame)>, Subscription)> {
        let mut memory = self.memory();
        let end = memory.end_of_replay(topic, seen, from)?;
        let end = end.into_iter().map(|placed| (placed.finish, placed.frame)).collect();
        Some((end, self.subscribe(&mut memory, topic)))
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

    /// How far the database has been read.
    pub fn settled(&self) -> Settled {
        self.memory().settled()
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
        self.0.0.warm.send_replace(true);
    }

    /// Gives rounds their places in the stream, in this order, and sends them to subscribers.
    pub fn publish(&self, rounds: Vec<Captured>) {
        if rounds.is_empty() {
            return;
        }
        let encoded: Vec<_> = rounds.into_iter().map(|captured| self.encode(captured)).collect();
        self.0.memory().publish(encoded);
    }

    /// Says that every round which this snapshot sees has been published, and none that it does
    /// not see.
    pub fn settle(&self, oldest_running: Xid, snapshot: &str) {
        self.0.memory().settle(oldest_running, snapshot);
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
