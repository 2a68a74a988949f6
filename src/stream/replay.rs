//! Resume points that memory does not reach: answered from the outbox, for many clients at once.
//!
//! A topic has one *lane*. Who asks while a query of the lane is under way waits, and the next
//! query serves all that wait; its answer, a *page*, is kept for a few seconds. So any number of
//! clients that come back at once cost a few queries per topic, and all topics together a few looks
//! for where their points lie. Where the query fails, it has failed for all that waited; where the
//! database is away, for those of all topics.
//!
//! A page holds what is on the stream by some position, in the order of transactions; what memory
//! holds of the same rounds is put behind the others, in the order of the stream. So a client may
//! break off anywhere and name the last round it got (see [`Replay`](crate::stream::hub::Replay)).

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
    page::{PAGE_KEPT, Page, Pages},
    points::Points,
};
use crate::{
    ops::shutdown::Shutdown,
    stream::{
        games::Games,
        hub::{Hub, Position, Start},
        last_failure::LastFailure,
        round::RoundId,
        round_store::{SharedRoundStore, StoreError},
        topic::Topic,
        transaction::Xid,
    },
};

/// Replays that may run in the database at once, over all topics.
const QUERIES_AT_ONCE: usize = 2;
/// While the capture publishes the many rounds of an outage, memory may lose some that no page holds
/// yet. A client waits so long for the page that does before it is told to come again, or, where memory
/// loses rounds faster than pages are read, of a gap.
pub(crate) const OUTRUN_FOR: Duration = Duration::from_secs(5);
/// How often it is looked whether the capture has finished a poll; it polls every 5 ms.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Why a resume point cannot be answered now.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReplayError {
    /// The capture is in the middle of what it reads.
    #[error("the stream has not caught up with the database")]
    Behind,
    /// The database did not answer.
    #[error("the database could not answer")]
    Database(#[from] Arc<StoreError>),
}

/// Answers resume points from the database. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Replays(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    hub: Hub,
    store: SharedRoundStore,
    games: Games,
    /// Most rounds replayed to one connection.
    limit: usize,
    lanes: Mutex<HashMap<Topic, Arc<Lane>>>,
    pages: Mutex<Pages>,
    points: Points,
    queries: Semaphore,
    /// The last query that the database did not answer at all.
    unanswered: LastFailure,
}

#[derive(Debug, Default)]
struct Lane {
    waiting: Mutex<HashSet<RoundId>>,
    turn: tokio::sync::Mutex<()>,
    /// The last query of the lane that the database refused.
    refused: LastFailure,
}

impl Replays {
    /// Replays of at most `limit` rounds each.
    pub(crate) fn new(hub: Hub, store: SharedRoundStore, games: Games, limit: usize) -> Self {
        let (lanes, pages, points) = (Mutex::default(), Mutex::default(), Points::default());
        let (queries, unanswered) = (Semaphore::new(QUERIES_AT_ONCE), LastFailure::default());
        let shared = Shared { hub, store, games, limit, lanes, pages, points, queries, unanswered };
        Self(Arc::new(shared))
    }

    /// Lets pages go that are old, until the shutdown.
    pub(crate) async fn tidy_up(self, shutdown: Shutdown) {
        loop {
            tokio::select! {
                () = shutdown.requested() => return,
                () = tokio::time::sleep(PAGE_KEPT) => self.0.pages.lock().tidy_up(),
            }
        }
    }

    /// Every round of the topic after the named one, to be continued from memory; `None` when the
    /// outbox does not know it, too many rounds lie after it, or more come than memory holds.
    pub(crate) async fn after(
        &self,
        topic: &Topic,
        named: RoundId,
    ) -> Result<Option<Start>, ReplayError> {
        let (lane, asked) = (self.lane(topic), Instant::now());
        lane.waiting.lock().insert(named);
        let _turn = lane.turn.lock().await;
        let started = Instant::now();
        while started.elapsed() < OUTRUN_FOR {
            let kept = self.0.pages.lock().with(topic, named);
            let page = match kept {
                Some(page) => Some(page),
                None => self.attempt(topic, &lane, named, asked).await?,
            };
            let Some(page) = page else { return Ok(None) };
            let Some(replay) = page.after(named, self.0.limit) else { return Ok(None) };
            if self.0.hub.continues(topic, replay.seen) {
                return Ok(Some(Start::Replayed(replay)));
            }
            self.0.pages.lock().forget(topic);
            self.settled_after(page.settled.position, started).await?;
        }
        Ok(None)
    }

    /// Waits until the capture has come further than this. Where it has not for as long as a client
    /// waits, it stands still in a catch-up, its link broken, or publishes a transaction of hundreds of
    /// thousands of rounds: the point is as good as ever after that.
    async fn settled_after(&self, position: Position, started: Instant) -> Result<(), ReplayError> {
        while self.0.hub.durable_position().position <= position {
            if started.elapsed() >= OUTRUN_FOR {
                return Err(ReplayError::Behind);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    /// Reads a page, unless that has failed while this client waited; `None` where the outbox does
    /// not know the named round.
    async fn attempt(
        &self,
        topic: &Topic,
        lane: &Lane,
        named: RoundId,
        asked: Instant,
    ) -> Result<Option<Arc<Page>>, Arc<StoreError>> {
        let mut waiting = std::mem::take(&mut *lane.waiting.lock());
        waiting.insert(named);
        let known = self.0.points.of(&*self.0.store, &waiting, named, asked).await?;
        if !known.contains_key(&named) {
            lane.waiting.lock().extend(known.into_keys());
            return Ok(None);
        }
        // Only a closed semaphore refuses, and nobody closes it.
        let _permit = self.0.queries.acquire().await;
        let (unanswered, refused) = (&self.0.unanswered, &lane.refused);
        if let Some(failed) = unanswered.since(asked).or_else(|| refused.since(asked)) {
            return Err(failed);
        }
        let page = Arc::new(self.read(topic, known).await.map_err(|error| {
            let of_this_lane = matches!(error, StoreError::Refused(_));
            if of_this_lane { refused } else { unanswered }.note(error)
        })?);
        self.0.pages.lock().keep(topic, &page);
        Ok(Some(page))
    }

    async fn read(&self, topic: &Topic, points: HashMap<RoundId, Xid>) -> Result<Page, StoreError> {
        let settled = self.0.hub.durable_position();
        let games = self.game_ids(topic);
        let from = points.values().min().copied().unwrap_or_default();
        // One more than the limit tells "too far" from "just enough"; one for the named round.
        let most = self.0.limit.saturating_add(2);
        let (store, snapshot) = (&self.0.store, &settled.snapshot);
        let found = store.replay(from, games.as_deref(), most, snapshot).await?;
        Ok(Page::new(points, &found, settled))
    }

    fn game_ids(&self, topic: &Topic) -> Option<Vec<i64>> {
        let games = self.0.games.all();
        let ids = games.iter().filter(|game| topic.covers(game)).map(|game| game.id.0);
        (*topic != Topic::Everything).then(|| ids.collect())
    }

    fn lane(&self, topic: &Topic) -> Arc<Lane> {
        let mut lanes = self.0.lanes.lock();
        // A lane that is in use is held by those who wait.
        lanes.retain(|_, lane| Arc::strong_count(lane) > 1);
        Arc::clone(lanes.entry(topic.clone()).or_default())
    }
}
