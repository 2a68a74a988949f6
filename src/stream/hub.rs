//! The hub: positions of rounds, ring buffers of recent ones, subscriptions. One [`Publisher`] exists,
//! owned by the capture, or by an edge; [`Hub`] handles are cheap to clone.
//!
//! * **I1** Positions rise by one per round. Every subscriber on every transport gets rounds in the
//!   order of their positions.
//! * **I2** A round is encoded once, before the lock is taken.
//! * **I3** A subscription and its opening are made under the lock that publishing takes. So each
//!   round is exactly one of these: in the opening, before it, or after it.
//! * **I4** A subscriber that falls behind is refilled from the ring buffers by position. If they lack
//!   its rounds, a subscription gets [`Delivery::TooSlow`], and an outlet `None` from [`Hub::missed`].
//! * **I5** A resume point that this process alone delivered live is answered exactly, by position.
//!   If another node may have delivered it too, or may have started unseen, the answer has every
//!   round that may be later there. A resume point read from the outbox at start is answered by
//!   transaction (`before`). The last two may repeat rounds, and lose none.

mod captured;
mod channels;
mod exact_lease;
mod history_hold;
mod outlet;
mod publisher;
mod recent_rounds;
mod ring_buffer;
mod start;
mod subscription;

use parking_lot::{Mutex, MutexGuard};
use std::{
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use tokio::sync::{broadcast, watch};

use self::recent_rounds::RecentRounds;
pub(crate) use self::start::{Age, MissingSeed, SeedRound, Stored};
pub use self::{
    captured::Captured,
    outlet::{Joint, Missed, Outlet},
    publisher::Publisher,
    recent_rounds::Later,
    start::{Opening, Replay, Resumed, SeededStart, Seeds, Start},
    subscription::{Delivery, Subscription},
};
use crate::{
    ops::{
        memory_budget::MemoryBudget,
        telemetry::metrics::{ByResume, Metrics, Resume},
    },
    stream::{
        frame::Frame,
        round::{Game, GameId, RoundId},
        start_point::SeedMode,
        topic::Topic,
        transaction::{Finish, Xid},
    },
};

/// Batches a subscriber may fall behind before it is refilled from the ring buffers. A batch holds
/// the rounds of one poll, however many.
const LAG_BATCHES: usize = 256;

/// The most rounds that a subscriber is refilled with at once: about as many as the send queue of a
/// connection may hold.
pub(crate) const REFILL_ROUNDS: usize = 1024;

/// A position in the stream of this process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u64);

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
    generation: AtomicU64,
    budget: MemoryBudget,
    metrics: Metrics,
}

/// Opens subscriptions. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Hub(Arc<Shared>);

/// What a hub keeps.
#[derive(Clone, Debug)]
pub(crate) struct HubSettings {
    /// The most rounds of each game.
    pub history: NonZeroUsize,
    /// The most bytes of one replay.
    pub replay_bytes: usize,
    /// The memory for rounds.
    pub budget: MemoryBudget,
}

/// Makes a hub that keeps `history` rounds of each game, whatever their size, and its only
/// publisher.
pub fn new(history: NonZeroUsize, metrics: Metrics) -> (Hub, Publisher) {
    let (replay_bytes, budget) = (usize::MAX, MemoryBudget::unlimited());
    with_settings(HubSettings { history, replay_bytes, budget }, metrics)
}

/// Makes a hub, and its only publisher.
pub(crate) fn with_settings(settings: HubSettings, metrics: Metrics) -> (Hub, Publisher) {
    let HubSettings { history, replay_bytes, budget } = settings;
    let hub = Hub(Arc::new(Shared {
        recent: Mutex::new(RecentRounds::new(history, replay_bytes, budget.clone(), &metrics)),
        open: watch::Sender::new(false),
        generation: AtomicU64::new(0),
        budget,
        metrics,
    }));
    (hub.clone(), Publisher::new(hub))
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
    /// rounds. `None` if the hub has dropped a round of the opening since `start` was prepared.
    pub fn subscribe(
        &self,
        topic: &Topic,
        start: impl Into<SeededStart>,
        limit: usize,
    ) -> Option<(Opening, Subscription)> {
        let mut recent = self.recent();
        let (opening, rest) = self.begin(&recent, topic, start.into(), limit)?;
        let subscription = self.follow(&mut recent, topic);
        Some((opening, subscription.with_rest(rest)))
    }

    /// A subscription to every round that is published from now on.
    fn follow(&self, recent: &mut RecentRounds, topic: &Topic) -> Subscription {
        let receiver = recent.subscribe(topic);
        Subscription::new(self.clone(), topic.clone(), recent.head(), receiver)
    }

    /// The same as [`Self::subscribe`] for a subscriber of an [`Outlet`]. The hub calls `join` with
    /// the opening before it publishes the next round; `join` and the outlet must use one queue.
    /// Returns `join` unused if the hub has dropped a round of the opening.
    pub fn subscribe_by_outlet<T, J: FnOnce(Joint) -> T>(
        &self,
        topic: &Topic,
        start: impl Into<SeededStart>,
        limit: usize,
        join: J,
    ) -> Result<T, J> {
        let recent = self.recent();
        match self.begin(&recent, topic, start.into(), limit) {
            Some((opening, rest)) => Ok(join(Joint { opening, rest, position: recent.head() })),
            None => Err(join),
        }
    }

    fn begin(
        &self,
        recent: &RecentRounds,
        topic: &Topic,
        SeededStart { start, seed, reads_seeds }: SeededStart,
        limit: usize,
    ) -> Option<(Opening, Option<Later>)> {
        let asked = match start {
            Start::Replayed(_) => Resume::database,
            _ => Resume::memory,
        };
        let (opening, rest) = recent.begin(topic, start, (seed, reads_seeds), limit)?;
        let source = match opening {
            Opening::Seed(_) => return Some((opening, rest)),
            Opening::Resumed(_) => asked,
            Opening::Gap(_) => Resume::gap,
        };
        self.0.metrics.resumes_total.get_or_create(&ByResume { source }).inc();
        Some((opening, rest))
    }

    /// Sends every round published from now on to this outlet.
    pub fn attach(&self, outlet: Arc<dyn Outlet>) {
        self.recent().attach(outlet);
    }

    /// Moves games whose type has changed to their new type.
    pub fn classify(&self, games: &[Game]) {
        self.recent().classify(games);
    }

    /// The latest round of a topic, or what to read if the hub has no bytes of it.
    pub(crate) fn latest(&self, topic: &Topic) -> Option<SeedRound> {
        self.recent().latest(topic)
    }

    /// The rounds of a seed, or what to read for those of which the hub has no bytes.
    pub(crate) fn seed_list(&self, topic: &Topic, mode: SeedMode) -> Vec<SeedRound> {
        self.recent().seed_list(topic, mode)
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

    /// The first rounds, at most `most`, that a subscriber still has to get; `None` if some have been
    /// evicted.
    pub fn missed(&self, topic: &Topic, later: &Later, most: usize) -> Option<Missed> {
        let recent = self.recent();
        let mut rounds = recent.since(topic, later, most.saturating_add(1))?;
        let complete = rounds.len() <= most;
        rounds.truncate(most);
        self.0.metrics.subscriber_refills_total.inc();
        Some(Missed { rounds, whole: complete.then(|| recent.head()) })
    }

    /// The same for a subscription. Once nothing is missed, it comes with the channel of what
    /// follows.
    fn refill(
        &self,
        topic: &Topic,
        later: &Later,
    ) -> Option<(Vec<Placed>, Option<broadcast::Receiver<Batch>>)> {
        let mut recent = self.recent();
        let mut missed = recent.since(topic, later, REFILL_ROUNDS + 1)?;
        self.0.metrics.subscriber_refills_total.inc();
        let complete = missed.len() <= REFILL_ROUNDS;
        missed.truncate(REFILL_ROUNDS);
        Some((missed, complete.then(|| recent.subscribe(topic))))
    }

    /// Changes whenever all rounds are forgotten.
    pub(crate) fn generation(&self) -> u64 {
        self.0.generation.load(Ordering::Relaxed)
    }

    /// The position up to which published rounds survive a crash of the database.
    pub fn durable_position(&self) -> DurablePosition {
        self.recent().durable_position()
    }

    fn recent(&self) -> MutexGuard<'_, RecentRounds> {
        self.0.recent.lock()
    }
}

#[cfg(test)]
mod tests;
