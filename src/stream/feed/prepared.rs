//! A stream between its request and its opening.

use std::{net::IpAddr, sync::Arc, time::Instant};

use super::{FeedError, FeedState};
use crate::{
    ops::memory_budget::Charge,
    stream::{
        hub::{Joint, MissingSeed, Opening, SeededStart, Start, Stored, Subscription},
        replay::{FirstSeeds, GIVE_UP_AFTER, Replays, StoredReader},
        round::NamedRound,
        start_point::{SeedMode, StartPoint},
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
    start: Start,
    source: StoredSource,
    since: Instant,
    has_given_up: bool,
}

impl Prepared {
    /// Does all steps of an opening that can fail or wait: see [`Feed::prepare`](super::Feed::prepare).
    pub(super) async fn new(
        feed: Arc<FeedState>,
        topic: Topic,
        StartPoint { after, seed }: StartPoint,
        client: Option<IpAddr>,
    ) -> Result<Self, FeedError> {
        let mut source = StoredSource::new(&feed, client);
        let (start, charge) = feed.start(&topic, after.as_ref(), client).await?;
        source.charge = charge;
        let (since, has_given_up) = (Instant::now(), false);
        let mut prepared = Self { feed, topic, after, seed, start, source, since, has_given_up };
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
                return Ok((opening, self.source.reader(stored), subscription));
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
                Ok(opened) => return Ok((opened, self.source)),
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
        SeededStart { start, seed: self.seed, reads_seeds: self.source.seeds.is_some() }
    }

    /// Reads the rounds after the resume point again, because the hub has dropped some of them since.
    /// Gives up if the hub keeps dropping rounds faster than this client can be opened. A resume that
    /// ends as a gap may need seeds: it gets the memory for them, and no query.
    async fn prepare_again(&mut self) -> Result<(), FeedError> {
        if self.since.elapsed() < GIVE_UP_AFTER {
            let (after, client) = (self.after.as_ref(), self.source.client);
            self.source.generation = self.feed.hub.generation();
            (self.start, self.source.charge) = self.feed.start(&self.topic, after, client).await?;
        } else if std::mem::replace(&mut self.has_given_up, true) {
            return Err(FeedError::NotReady);
        }
        match self.start {
            Start::Seed | Start::Gap => self.read_seeds().await,
            _ => self.charge_seeds().map(drop),
        }
    }

    /// Reads the first rounds of the seed of which the hub has no bytes: the others are read as the
    /// client takes them.
    async fn read_seeds(&mut self) -> Result<(), FeedError> {
        let missing = self.charge_seeds()?;
        if !missing.is_empty() {
            let first = self.feed.replays.first_seeds(&missing, self.source.client).await?;
            self.source.first_seeds = Some(first);
        }
        Ok(())
    }

    /// Takes the memory that the reader of the seed keeps between its pages, if one is needed. Returns
    /// the rounds of which the hub has no bytes.
    fn charge_seeds(&mut self) -> Result<Vec<MissingSeed>, FeedError> {
        let mode = match self.start {
            Start::Seed => self.seed,
            _ => self.seed.after_gap(),
        };
        let seeds = self.feed.hub.seed_list(&self.topic, mode);
        let all = seeds.len();
        let missing: Vec<_> = seeds.into_iter().filter_map(Result::err).collect();
        (self.source.seeds, self.source.first_seeds) = (None, None);
        if !missing.is_empty() {
            // The reader keeps those too of which the hub has the bytes: they go between the others.
            let charge = self.feed.charge_seeds(all, self.source.client)?;
            self.source.seeds = Some(charge);
        }
        Ok(missing)
    }
}

/// Reads the stored rounds of one opening.
#[derive(Debug)]
pub(crate) struct StoredSource {
    replays: Replays,
    client: Option<IpAddr>,
    /// The memory that a replay from the database keeps between its pages.
    charge: Option<Charge>,
    /// The same of a seed of which the hub has not all bytes.
    seeds: Option<Charge>,
    first_seeds: Option<FirstSeeds>,
    /// Of the hub, before the start was prepared.
    generation: u64,
}

impl StoredSource {
    fn new(feed: &FeedState, client: Option<IpAddr>) -> Self {
        let (replays, generation) = (feed.replays.clone(), feed.hub.generation());
        Self { replays, client, charge: None, seeds: None, first_seeds: None, generation }
    }

    /// The reader of these rounds; `None` if there are none.
    pub(crate) fn reader(self, stored: Stored) -> Option<StoredReader> {
        let Self { replays, client, charge, seeds, first_seeds, generation } = self;
        let charge = match &stored {
            _ if stored.is_empty() => None,
            Stored::Rounds(_) => charge,
            Stored::Seeds(_) => seeds,
        };
        let reader = StoredReader::new(replays, stored, client, (generation, charge?));
        Some(reader.with_seeds(first_seeds))
    }
}
