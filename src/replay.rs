//! Resume points that memory does not reach: answered from the outbox, for many clients at once.
//!
//! A topic has one *lane*. Who asks while a query of the lane is under way waits, and the next
//! query serves all that wait; its answer, a *page*, is kept for a few seconds. So any number of
//! clients that come back at once cost a few queries per topic. Where the query fails, it has failed
//! for all that waited; where the database is away, for those of all topics.
//!
//! A page holds what is on the stream by some position, in the order of transactions; what memory
//! holds of the same rounds is put behind the others, in the order of the stream. So a client may
//! break off anywhere and name the last round it got (see [`Replay`]).

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use tokio::sync::Semaphore;

use crate::{
    frame::Frame,
    games::Games,
    history::{self, History, HistoryError, LastFailure},
    hub::{Captured, Finish, Hub, Position, Replay, Settled, Start, Xid},
    lock::lock,
    round::RoundId,
    topic::Topic,
};

/// How long a page serves; what comes after it is taken from memory.
const PAGE_KEPT: Duration = Duration::from_secs(5);
/// Replays that may run in the database at once, over all topics.
const QUERIES_AT_ONCE: usize = 2;
/// While the capture publishes the many rounds of an outage, memory may lose some that no page holds
/// yet. A client waits so long for the page that does before it is told of a gap.
pub const OUTRUN_FOR: Duration = Duration::from_secs(5);
/// How often it is looked whether the capture has finished a poll; it polls every 5 ms.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Answers resume points from the database. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Replays(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    hub: Hub,
    history: History,
    games: Games,
    /// Most rounds replayed to one connection.
    limit: usize,
    lanes: Mutex<HashMap<Topic, Arc<Lane>>>,
    queries: Semaphore,
    /// The last query that the database did not answer at all.
    unanswered: LastFailure,
}

#[derive(Debug, Default)]
struct Lane {
    waiting: Mutex<HashSet<RoundId>>,
    page: tokio::sync::Mutex<Option<Page>>,
    /// The last query of the lane that the database refused.
    refused: LastFailure,
}

/// The rounds of a topic from some transaction on, as one query saw them.
#[derive(Debug)]
struct Page {
    read_at: Instant,
    /// What the hub had published before the query: the page holds that, memory what came later.
    settled: Settled,
    /// For each round that was asked for or found: where its replay begins; `None` if unknown.
    points: HashMap<RoundId, Option<Xid>>,
    rounds: Vec<(Finish, Frame)>,
    /// Whether older rounds than these were left out.
    truncated: bool,
}

impl Replays {
    /// Replays of at most `limit` rounds each.
    pub fn new(hub: Hub, history: History, games: Games, limit: usize) -> Self {
        let (lanes, queries) = (Mutex::default(), Semaphore::new(QUERIES_AT_ONCE));
        let unanswered = LastFailure::default();
        Self(Arc::new(Shared { hub, history, games, limit, lanes, queries, unanswered }))
    }

    /// Every round of the topic after the named one, to be continued from memory; `None` when the
    /// outbox does not know it or too many rounds lie after it.
    pub async fn after(
        &self,
        topic: &Topic,
        named: RoundId,
    ) -> Result<Option<Start>, Arc<HistoryError>> {
        let (lane, asked) = (self.lane(topic), Instant::now());
        lock(&lane.waiting).insert(named);
        let mut page = lane.page.lock().await;
        let started = Instant::now();
        while started.elapsed() < OUTRUN_FOR {
            if !page.as_ref().is_some_and(|page| page.serves(named)) {
                *page = Some(self.attempt(topic, &lane, named, asked).await?);
            }
            let Some(current) = page.as_ref() else { continue };
            let Some(replay) = current.after(named, self.0.limit) else { return Ok(None) };
            if self.0.hub.continues(topic, replay.seen) {
                return Ok(Some(Start::Replayed(replay)));
            }
            let outrun = current.settled.position;
            *page = None;
            self.settled_after(outrun, started).await;
        }
        Ok(None)
    }

    /// Waits until the capture has come further than this, or for as long as a client waits.
    async fn settled_after(&self, position: Position, started: Instant) {
        while self.0.hub.settled().position <= position && started.elapsed() < OUTRUN_FOR {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Reads a page, unless that has failed while this client waited.
    async fn attempt(
        &self,
        topic: &Topic,
        lane: &Lane,
        named: RoundId,
        asked: Instant,
    ) -> Result<Page, Arc<HistoryError>> {
        // Only a closed semaphore refuses, and nobody closes it.
        let _permit = self.0.queries.acquire().await;
        let (unanswered, refused) = (&self.0.unanswered, &lane.refused);
        match unanswered.since(asked).or_else(|| refused.since(asked)) {
            Some(failed) => Err(failed),
            None => self.read(topic, lane, named).await.map_err(|error| {
                let of_this_lane = history::is_answer(&error);
                if of_this_lane { refused } else { unanswered }.note(error)
            }),
        }
    }

    async fn read(&self, topic: &Topic, lane: &Lane, named: RoundId) -> Result<Page, HistoryError> {
        let mut asked = std::mem::take(&mut *lock(&lane.waiting));
        asked.insert(named);
        let asked: Vec<RoundId> = asked.into_iter().collect();
        let known = self.0.history.resume_points(&asked).await?;
        let settled = self.0.hub.settled();
        let games = self.game_ids(topic);
        let from = known.values().min().copied().unwrap_or(Xid(u64::MAX >> 1));
        // One more than the limit tells "too far" from "just enough"; one for the named round.
        let most = self.0.limit.saturating_add(2);
        let (history, snapshot) = (&self.0.history, &settled.snapshot);
        let replay = history.replay(from, games.as_deref(), most, snapshot).await?;
        let mut points: HashMap<_, _> =
            asked.iter().map(|id| (*id, known.get(id).copied())).collect();
        // Of a round recorded beside an older transaction, the page may miss what came after.
        for captured in replay.rounds.iter().filter(|captured| captured.before >= from) {
            points.entry(captured.round.round_id).or_insert(Some(captured.before));
        }
        let finish = |found: &Captured| (found.xid, found.round.round_id);
        let rounds = replay.rounds.iter().map(|found| (finish(found), Frame::encode(&found.round)));
        let (rounds, truncated) = (rounds.collect(), replay.is_full);
        Ok(Page { read_at: Instant::now(), settled, points, rounds, truncated })
    }

    fn game_ids(&self, topic: &Topic) -> Option<Vec<i64>> {
        let games = self.0.games.all();
        let ids = games.iter().filter(|game| topic.covers(game)).map(|game| game.id.0);
        (*topic != Topic::Everything).then(|| ids.collect())
    }

    fn lane(&self, topic: &Topic) -> Arc<Lane> {
        let mut lanes = lock(&self.0.lanes);
        // A lane that is in use is held by those who wait; the others go when their page is old.
        lanes.retain(|_, lane| Arc::strong_count(lane) > 1 || lane.is_fresh());
        Arc::clone(lanes.entry(topic.clone()).or_default())
    }
}

impl Lane {
    fn is_fresh(&self) -> bool {
        let page = self.page.try_lock();
        page.is_ok_and(|page| page.as_ref().is_some_and(Page::is_fresh))
    }
}

impl Page {
    fn is_fresh(&self) -> bool {
        self.read_at.elapsed() < PAGE_KEPT
    }

    fn serves(&self, named: RoundId) -> bool {
        self.is_fresh() && self.points.contains_key(&named)
    }

    /// Every round of the page after the named one; `None` when they are not all there.
    fn after(&self, named: RoundId, limit: usize) -> Option<Replay> {
        let from = (*self.points.get(&named)?)?;
        let oldest = self.rounds.first().map_or(Xid(0), |((xid, _), _)| *xid);
        if self.truncated && from <= oldest {
            return None;
        }
        let later = self.rounds.iter().filter(|((xid, id), _)| *xid >= from && *id != named);
        let rounds: Vec<_> = later.cloned().collect();
        let known = self.rounds.iter().map(|(finish, _)| *finish).filter(|(_, id)| *id == named);
        let (seen, known) = (self.settled.position, known.collect());
        (rounds.len() <= limit).then_some(Replay { from, seen, rounds, known })
    }
}
