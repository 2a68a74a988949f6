//! Replays from the outbox, for resume points older than the hub's recent rounds.
//!
//! Many clients share few queries. One query per topic runs at a time; clients that arrive during it
//! wait for the next one, which serves all of them. Its result, a *page*, is kept for a few seconds.
//! The resume points of all topics share the queries of [`ResumePoints`]. A query that fails has
//! failed for all clients that wait for it. If the database is unavailable, it has failed for the
//! clients of all topics.
//!
//! A page contains the rounds published up to some position, in the order of transactions. The hub
//! appends the recent rounds among them in the order of the stream. So a client may disconnect at
//! any point and resume after its last round (see [`Replay`](crate::stream::hub::Replay)).

mod page;
mod points;

use parking_lot::Mutex;
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::Semaphore;

use self::{
    page::{PAGE_TTL, Page, Pages},
    points::ResumePoints,
};
use crate::{
    ops::shutdown::Shutdown,
    stream::{
        games::Games,
        hub::{Hub, Position, Start},
        last_failure::LastFailure,
        round::{GameId, RoundId},
        round_store::{SharedRoundStore, StoreError},
        topic::Topic,
        transaction::Xid,
    },
};

/// Replay queries that may run at once, over all topics.
const QUERIES_AT_ONCE: usize = 2;
/// While the capture publishes the rounds of an outage, the hub may drop rounds that no page contains
/// yet. A client waits this long for a page that contains them. After that it gets 503, or a gap if
/// the hub drops rounds faster than pages are read.
pub(crate) const GIVE_UP_AFTER: Duration = Duration::from_secs(5);
/// Time between two checks whether the capture has finished a poll; it polls every 5 ms.
const CHECK_EVERY: Duration = Duration::from_millis(10);

/// The reason for which a resume fails.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReplayError {
    /// The capture has not published all rounds that it is reading.
    #[error("the stream has not caught up with the database")]
    Behind,
    /// The database did not answer.
    #[error("the database could not answer")]
    Database(#[from] Arc<StoreError>),
}

/// Reads replays from the database. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Replays(Arc<ReplayState>);

#[derive(Debug)]
struct ReplayState {
    hub: Hub,
    store: SharedRoundStore,
    games: Games,
    /// Most rounds replayed to one connection.
    limit: usize,
    topics: Mutex<HashMap<Topic, Arc<TopicReplays>>>,
    pages: Mutex<Pages>,
    points: ResumePoints,
    queries: Semaphore,
    /// The last query to which the database did not respond.
    unanswered: LastFailure,
}

/// The clients of one topic that wait for a replay.
#[derive(Debug, Default)]
struct TopicReplays {
    /// The resume points for which the next query reads.
    waiting: Mutex<HashSet<RoundId>>,
    /// Held during a query: one query per topic runs at a time.
    query: tokio::sync::Mutex<()>,
    /// The last query of the topic that the database refused.
    refused: LastFailure,
}

impl Replays {
    /// Replays of at most `limit` rounds each.
    pub(crate) fn new(hub: Hub, store: SharedRoundStore, games: Games, limit: usize) -> Self {
        Self(Arc::new(ReplayState {
            hub,
            store,
            games,
            limit,
            topics: Mutex::default(),
            pages: Mutex::default(),
            points: ResumePoints::default(),
            queries: Semaphore::new(QUERIES_AT_ONCE),
            unanswered: LastFailure::default(),
        }))
    }

    /// Removes expired pages until the shutdown.
    pub(crate) async fn remove_expired(self, shutdown: Shutdown) {
        loop {
            tokio::select! {
                () = shutdown.requested() => return,
                () = tokio::time::sleep(PAGE_TTL) => self.0.pages.lock().remove_expired(),
            }
        }
    }

    /// Every round of the topic after the named one; the hub continues with its recent rounds. `None`
    /// if the outbox does not contain the named round, if too many rounds follow it, or if new rounds
    /// arrive faster than the hub can hold them.
    pub(crate) async fn after(
        &self,
        topic: &Topic,
        named: &RoundId,
    ) -> Result<Option<Start>, ReplayError> {
        let (replays, requested_at) = (self.of_topic(topic), Instant::now());
        replays.waiting.lock().insert(named.clone());
        let _query = replays.query.lock().await;
        let started = Instant::now();
        while started.elapsed() < GIVE_UP_AFTER {
            let kept = self.0.pages.lock().containing(topic, named);
            let page = match kept {
                Some(page) => Some(page),
                None => self.query(topic, &replays, named, requested_at).await?,
            };
            let Some(page) = page else { return Ok(None) };
            let Some(replay) = page.after(named, self.0.limit) else { return Ok(None) };
            if self.0.hub.continues(topic, replay.seen) {
                return Ok(Some(Start::Replayed(replay)));
            }
            self.0.pages.lock().remove(topic);
            self.settled_after(page.settled.position, started).await?;
        }
        Ok(None)
    }

    /// Waits until the capture has settled rounds after this position. If it does not within the time
    /// limit, its connection broke during a catch-up, or it publishes a transaction of hundreds of
    /// thousands of rounds. The client can resume from the same point afterwards.
    async fn settled_after(&self, position: Position, started: Instant) -> Result<(), ReplayError> {
        while self.0.hub.durable_position().position <= position {
            if started.elapsed() >= GIVE_UP_AFTER {
                return Err(ReplayError::Behind);
            }
            tokio::time::sleep(CHECK_EVERY).await;
        }
        Ok(())
    }

    /// Reads a page, unless such a query has failed while this client waited. `None` if the outbox
    /// does not contain the named round.
    async fn query(
        &self,
        topic: &Topic,
        replays: &TopicReplays,
        named: &RoundId,
        requested_at: Instant,
    ) -> Result<Option<Arc<Page>>, Arc<StoreError>> {
        let mut waiting = std::mem::take(&mut *replays.waiting.lock());
        waiting.insert(named.clone());
        let known = self.0.points.find(&*self.0.store, &waiting, named, requested_at).await?;
        if !known.contains_key(named) {
            replays.waiting.lock().extend(known.into_keys());
            return Ok(None);
        }
        // Fails only if the semaphore is closed, and it never is.
        let _permit = self.0.queries.acquire().await;
        let (unanswered, refused) = (&self.0.unanswered, &replays.refused);
        let failed = unanswered.since(requested_at).or_else(|| refused.since(requested_at));
        if let Some(failed) = failed {
            return Err(failed);
        }
        let page = Arc::new(self.read(topic, known).await.map_err(|error| {
            let is_refused = matches!(error, StoreError::Refused(_));
            if is_refused { refused } else { unanswered }.record(error)
        })?);
        self.0.pages.lock().insert(topic, &page);
        Ok(Some(page))
    }

    async fn read(&self, topic: &Topic, points: HashMap<RoundId, Xid>) -> Result<Page, StoreError> {
        let settled = self.0.hub.durable_position();
        let games = self.game_ids(topic);
        let from = points.values().min().copied().unwrap_or_default();
        // One more than the limit, to notice that too many rounds follow, and the named round.
        let most = self.0.limit.saturating_add(2);
        let (store, snapshot) = (&self.0.store, &settled.snapshot);
        let found = store.replay(from, games.as_deref(), most, snapshot).await?;
        Ok(Page::new(points, &found, settled))
    }

    fn game_ids(&self, topic: &Topic) -> Option<Vec<GameId>> {
        let games = self.0.games.all();
        let ids = games.iter().filter(|game| topic.covers(game)).map(|game| game.id.clone());
        (*topic != Topic::Everything).then(|| ids.collect())
    }

    fn of_topic(&self, topic: &Topic) -> Arc<TopicReplays> {
        let mut topics = self.0.topics.lock();
        // A client that waits holds a reference; entries without one are not in use.
        topics.retain(|_, replays| Arc::strong_count(replays) > 1);
        Arc::clone(topics.entry(topic.clone()).or_default())
    }
}
