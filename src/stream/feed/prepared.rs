//! A stream between its request and its opening.

use std::{net::IpAddr, sync::Arc, time::Instant};

use super::{FeedError, FeedState};
use crate::{
    ops::{memory_budget::Charge, telemetry::metrics::MemoryUse},
    stream::{
        hub::{Joint, MissingSeed, Opening, ReadSeeds, SeededStart, Start, Subscription},
        replay::{GIVE_UP_AFTER, Replays, StoredReader},
        round::NamedRound,
        seeds,
        start_point::{SeedMode, StartPoint},
        stored_round::StoredPart,
        topic::Topic,
    },
};

/// A stream that is ready to open. Opening does not wait, with one exception: if the hub has dropped
/// a round since the preparation, the database is read again, and that read may fail.
#[derive(Debug)]
pub(crate) struct Prepared {
    feed: Arc<FeedState>,
    topic: Topic,
    after: Option<NamedRound>,
    seed: SeedMode,
    client: Option<IpAddr>,
    start: Start,
    /// The rounds of the seed of which the hub has no bytes.
    seeds: PreparedSeeds,
    /// The memory that a replay from the database keeps between its pages.
    charge: Option<Charge>,
    /// Of the hub, before the start was prepared.
    generation: u64,
    since: Instant,
    has_given_up: bool,
}

/// Rounds of a seed that were read from the database.
#[derive(Debug, Default)]
pub(super) struct PreparedSeeds {
    read: ReadSeeds,
    /// Their bytes, until the stream is open.
    _memory: Vec<Charge>,
}

impl Prepared {
    /// Does all steps of an opening that can fail or wait: see [`Feed::prepare`](super::Feed::prepare).
    pub(super) async fn new(
        feed: Arc<FeedState>,
        topic: Topic,
        StartPoint { after, seed }: StartPoint,
        client: Option<IpAddr>,
    ) -> Result<Self, FeedError> {
        let generation = feed.hub.generation();
        let (start, charge) = feed.start(&topic, after.as_ref(), client).await?;
        let (seeds, since, has_given_up) = (PreparedSeeds::default(), Instant::now(), false);
        let mut prepared = Self {
            feed,
            topic,
            after,
            seed,
            client,
            start,
            seeds,
            charge,
            generation,
            since,
            has_given_up,
        };
        match prepared.start {
            Start::Seed | Start::Gap => prepared.read_seeds().await?,
            // A gap is noticed when the stream opens, and prepares it again.
            _ => {}
        }
        Ok(prepared)
    }

    /// Subscribes: returns the start of the stream, the reader of its stored rounds, which come
    /// first, and the subscription that continues it. No round is lost between them.
    pub(crate) async fn subscribe(
        mut self,
    ) -> Result<(Opening, Option<StoredReader>, Subscription), FeedError> {
        loop {
            let start = self.take_start();
            let FeedState { hub, limit, .. } = &*self.feed;
            if let Some((mut opening, subscription)) = hub.subscribe(&self.topic, start, *limit) {
                let stored = opening.take_stored();
                return Ok((opening, self.into_source().reader(stored), subscription));
            }
            self.prepare_again().await?;
        }
    }

    /// The same for a subscriber that reads its rounds from an outlet: see
    /// [`Hub::subscribe_by_outlet`]. The source reads the stored rounds of the opening.
    pub(crate) async fn subscribe_by_outlet<T>(
        mut self,
        mut join: impl FnOnce(Joint) -> T + Send,
    ) -> Result<(T, StoredSource), FeedError> {
        loop {
            let start = self.take_start();
            let FeedState { hub, limit, .. } = &*self.feed;
            join = match hub.subscribe_by_outlet(&self.topic, start, *limit, join) {
                Ok(opened) => return Ok((opened, self.into_source())),
                Err(join) => join,
            };
            self.prepare_again().await?;
        }
    }

    /// The topic of the subscription.
    pub(crate) fn topic(&self) -> &Topic {
        &self.topic
    }

    /// Takes the prepared start and leaves a gap, the start to use if no other can be prepared.
    fn take_start(&mut self) -> SeededStart {
        let start = std::mem::replace(&mut self.start, Start::Gap);
        let read = std::mem::take(&mut self.seeds.read);
        SeededStart { start, seed: self.seed, read }
    }

    fn into_source(self) -> StoredSource {
        let Self { feed, client, charge, generation, .. } = self;
        StoredSource { replays: feed.replays.clone(), client, charge, generation }
    }

    /// Reads the rounds after the resume point again, and those of the seed, because the hub has
    /// dropped some of them since. Gives up if the hub keeps dropping rounds faster than this client
    /// can be opened.
    async fn prepare_again(&mut self) -> Result<(), FeedError> {
        if self.since.elapsed() < GIVE_UP_AFTER {
            let after = self.after.as_ref();
            self.generation = self.feed.hub.generation();
            (self.start, self.charge) = self.feed.start(&self.topic, after, self.client).await?;
        } else if std::mem::replace(&mut self.has_given_up, true) {
            return Err(FeedError::NotReady);
        }
        self.read_seeds().await
    }

    /// Reads the rounds of the seed of which the hub has no bytes.
    async fn read_seeds(&mut self) -> Result<(), FeedError> {
        let FeedState { hub, budget, store, lists, .. } = &*self.feed;
        let mode = match self.start {
            Start::Seed => self.seed,
            _ => self.seed.after_gap(),
        };
        let missing = hub.missing_seeds(&self.topic, mode);
        if missing.is_empty() {
            return Ok(());
        }
        let take = |seed: &MissingSeed| budget.take(MemoryUse::replays, self.client, seed.bytes);
        let memory = missing.iter().map(take).collect::<Result<_, _>>()?;
        let _turn = lists.take(self.client).await?;
        let read = seeds::read(&**store, missing, budget).await?;
        self.seeds = PreparedSeeds { read, _memory: memory };
        Ok(())
    }
}

/// Reads the stored rounds of one opening.
#[derive(Debug)]
pub(crate) struct StoredSource {
    replays: Replays,
    client: Option<IpAddr>,
    charge: Option<Charge>,
    generation: u64,
}

impl StoredSource {
    /// The reader of these rounds; `None` if there are none.
    pub(crate) fn reader(self, stored: StoredPart) -> Option<StoredReader> {
        let Self { replays, client, charge, generation } = self;
        let charge = charge.filter(|_| !stored.is_empty())?;
        Some(StoredReader::new(replays, stored, client, (generation, charge)))
    }
}
