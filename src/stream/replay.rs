//! Replays from the round store, for resume points older than the hub's recent rounds.
//!
//! * Many clients share few queries. One query finds the rounds after the oldest resume point that a
//!   client waits for, of all topics, without their content. Its result, a *page*, is kept for a few
//!   seconds. If it does not reach back far enough, a query of the topic alone may.
//! * The content is read as the client takes it ([`StoredReader`]), so that a replay of any size
//!   holds little memory. Clients that read the same rounds share these queries too.
//! * The resume points of all topics share the queries of [`ResumePoints`].
//! * A query that fails has failed for all clients that wait for it. If the database is unavailable,
//!   it has failed for the clients of all topics. If it takes too long, the resume is a gap: the next
//!   attempt would take as long.
//!
//! A page contains the rounds published up to some position, in the order of transactions. The hub
//! appends the recent rounds among them in the order of the stream. So a client may disconnect at
//! any point and resume after its last round (see [`Replay`](crate::stream::hub::Replay)).

mod contents;
mod page;
mod points;
mod reader;

use parking_lot::Mutex;
use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

pub(crate) use self::reader::{FirstSeeds, PageKind, ReplayPage, StoredReader};
use self::{
    contents::{Contents, FrameKey},
    page::{PAGE_TTL, Page, PageAnswer, Pages, Scope},
    points::ResumePoints,
};
use crate::{
    ops::{
        memory_budget::{BudgetExhausted, Charge, MemoryBudget},
        telemetry::metrics::MemoryUse,
        turns::{TooManyWaiting, Turns},
    },
    stream::{
        frame::Frame,
        games::Games,
        hub::{Hub, MissingSeed, Position, Start},
        last_failure::LastFailure,
        round::{GameId, RoundId},
        round_store::{SharedRoundStore, StoreError},
        stored_round::kept_bytes,
        topic::Topic,
        transaction::Xid,
    },
};

/// Queries of single topics that may run at once. One of them may read the whole outbox.
const TOPIC_QUERIES: usize = 1;
/// The page of all topics has so many times the rounds that one client may be sent.
const ALL_TOPICS: usize = 2;
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
    /// Replays have used up their memory.
    #[error(transparent)]
    NoMemory(#[from] BudgetExhausted),
    /// Too many requests of one address.
    #[error(transparent)]
    TooManyWaiting(#[from] TooManyWaiting),
    /// The database was dropped, and another one has its name.
    #[error("the database was replaced")]
    Replaced,
    /// The outbox has the named round, and the stream of this server has not: see [`Ahead::Refused`].
    #[error("the stream is behind the one of another server")]
    Ahead(Position),
}

/// What becomes of a resume point that this server has not read yet: another one has sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ahead {
    /// The replay repeats rounds that the client has.
    Repeats,
    /// It fails with the position up to which the stream is settled.
    Refused,
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
    budget: MemoryBudget,
    scopes: Mutex<HashMap<Scope, Arc<ScopeQueries>>>,
    pages: Mutex<Pages>,
    points: ResumePoints,
    contents: Contents,
    topic_queries: Turns,
    /// The last query to which the database did not respond.
    unanswered: LastFailure,
    /// Of the hub, when it was last looked at.
    generation: AtomicU64,
}

/// The queries of one scope.
#[derive(Debug, Default)]
struct ScopeQueries {
    /// Held during a query: one query per scope runs at a time. It is read with the oldest
    /// transaction that a client waits for.
    query: tokio::sync::Mutex<()>,
    /// The oldest transaction that a waiting client needs.
    wanted: Mutex<Option<Xid>>,
    /// The last query that the database refused.
    refused: LastFailure,
}

/// A client that resumes.
#[derive(Clone, Copy, Debug)]
struct Resuming<'a> {
    topic: &'a Topic,
    named: &'a RoundId,
    client: Option<IpAddr>,
    ahead: Ahead,
    requested_at: Instant,
}

impl Replays {
    /// Replays of at most `limit` rounds each.
    pub(crate) fn new(
        hub: Hub,
        store: SharedRoundStore,
        games: Games,
        limit: usize,
        budget: MemoryBudget,
    ) -> Self {
        Self(Arc::new(ReplayState {
            contents: Contents::new(hub.clone(), store.clone(), budget.clone()),
            hub,
            store,
            games,
            limit,
            budget,
            scopes: Mutex::default(),
            pages: Mutex::default(),
            points: ResumePoints::default(),
            topic_queries: Turns::new(TOPIC_QUERIES),
            unanswered: LastFailure::default(),
            generation: AtomicU64::new(0),
        }))
    }

    /// Removes expired pages, again and again.
    pub(crate) async fn remove_expired(self) {
        loop {
            tokio::time::sleep(PAGE_TTL).await;
            self.0.pages.lock().remove_expired();
            self.0.contents.remove_expired();
        }
    }

    fn contents(&self) -> &Contents {
        &self.0.contents
    }

    fn budget(&self) -> &MemoryBudget {
        &self.0.budget
    }

    /// The database that the stream comes from: it changes if that was replaced.
    pub(crate) fn generation(&self) -> u64 {
        self.0.hub.generation()
    }

    /// A latest round of which the hub has no bytes, or the one before it if that was deleted.
    pub(crate) async fn latest(
        &self,
        seed: &MissingSeed,
        client: Option<IpAddr>,
    ) -> Result<Option<Frame>, ReplayError> {
        self.forget_former_database().await;
        let mut read = self.contents().read_seeds(std::slice::from_ref(seed), client).await?;
        Ok(read.remove(&FrameKey::from(seed)).flatten())
    }

    /// Frees what later clients might share.
    fn free_caches(&self) {
        self.0.pages.lock().clear();
        self.0.contents.free_memory();
    }

    /// Every round of the topic after the named one; the hub continues with its recent rounds. `None`
    /// if the outbox does not contain the named round, if too many rounds follow it, if they cannot
    /// be read by one statement, or if new rounds arrive faster than the hub can hold them.
    pub(crate) async fn after(
        &self,
        topic: &Topic,
        named: &RoundId,
        client: Option<IpAddr>,
        ahead: Ahead,
    ) -> Result<Option<Start>, ReplayError> {
        let resuming = Resuming { topic, named, client, ahead, requested_at: Instant::now() };
        match self.find(resuming).await {
            Err(ReplayError::Database(error)) if matches!(*error, StoreError::TooMuch(_)) => {
                tracing::debug!(%error, "a resume point takes too long to answer");
                Ok(None)
            }
            answer => answer,
        }
    }

    async fn find(&self, resuming: Resuming<'_>) -> Result<Option<Start>, ReplayError> {
        let Resuming { topic, named, .. } = resuming;
        self.forget_former_database().await;
        let (mut scope, started) = (Scope::All, Instant::now());
        while started.elapsed() < GIVE_UP_AFTER {
            let Some(from) = self.point(resuming).await? else { return Ok(None) };
            let page = self.page(&scope, from, resuming).await?;
            let replay = match (page.after(topic, named, from, self.0.limit), &scope) {
                (PageAnswer::Replay(replay), _) => replay,
                (PageAnswer::Truncated, Scope::All) if *topic != Topic::Everything => {
                    scope = Scope::One(topic.clone());
                    continue;
                }
                (PageAnswer::Truncated | PageAnswer::Gap, _) => return Ok(None),
            };
            // A search of the page, for edges alone.
            let is_ahead =
                resuming.ahead == Ahead::Refused && scope == Scope::All && !page.has(named);
            if self.0.hub.continues(topic, replay.seen) {
                if is_ahead {
                    self.0.pages.lock().remove(&scope);
                    return Err(ReplayError::Ahead(page.settled.position));
                }
                return Ok(Some(Start::Replayed(replay)));
            }
            self.0.pages.lock().remove(&scope);
            self.settled_after(page.settled.position, started).await?;
        }
        Ok(None)
    }

    /// Drops what was read of a database that was dropped.
    async fn forget_former_database(&self) {
        let generation = self.0.hub.generation();
        if self.0.generation.swap(generation, Ordering::Relaxed) != generation {
            self.0.pages.lock().clear();
            self.0.contents.clear();
            self.0.points.clear().await;
        }
    }

    /// Waits until the capture has settled rounds after this position. If it does not within the time
    /// limit, its connection broke during a catch-up, or it publishes a transaction of hundreds of
    /// thousands of rounds. The client can resume from the same point afterwards.
    async fn settled_after(&self, position: Position, started: Instant) -> Result<(), ReplayError> {
        self.settled_beyond(position, GIVE_UP_AFTER.saturating_sub(started.elapsed())).await;
        let has_settled = self.0.hub.durable_position().position > position;
        if has_settled { Ok(()) } else { Err(ReplayError::Behind) }
    }

    /// Waits, at most for so long, until the capture has settled rounds after this position.
    pub(crate) async fn settled_beyond(&self, position: Position, within: Duration) {
        let begun = Instant::now();
        while self.0.hub.durable_position().position <= position && begun.elapsed() < within {
            tokio::time::sleep(CHECK_EVERY).await;
        }
    }

    /// The transaction at which the replay after the named round begins. `None` if the outbox does
    /// not contain the round.
    async fn point(&self, resuming: Resuming<'_>) -> Result<Option<Xid>, Arc<StoreError>> {
        let Resuming { named, requested_at, .. } = resuming;
        let page = self.0.pages.lock().get(&Scope::All);
        if let Some(from) = page.and_then(|page| page.point(named)) {
            return Ok(Some(from));
        }
        self.0.points.find(&*self.0.store, named, requested_at).await
    }

    /// The page of a scope that reaches back to a transaction, or as far as a page can.
    async fn page(
        &self,
        scope: &Scope,
        from: Xid,
        resuming: Resuming<'_>,
    ) -> Result<Arc<Page>, ReplayError> {
        let queries = self.queries_of(scope);
        let fresh = || self.0.pages.lock().get(scope).filter(|page| page.reaches(from));
        if let Some(page) = fresh() {
            return Ok(page);
        }
        widen(&mut queries.wanted.lock(), from);
        let _query = queries.query.lock().await;
        if let Some(page) = fresh() {
            return Ok(page);
        }
        let wanted = queries.wanted.lock().take();
        let from = wanted.map_or(from, |wanted| wanted.min(from));
        let _turn = match scope {
            Scope::All => None,
            Scope::One(_) => Some(self.0.topic_queries.take(resuming.client).await?),
        };
        let (unanswered, refused) = (&self.0.unanswered, &queries.refused);
        let failed = [unanswered, refused].map(|failure| failure.since(resuming.requested_at));
        if let Some(failed) = failed.into_iter().flatten().next() {
            return Err(failed.into());
        }
        let page = Arc::new(self.read(scope, from, &queries).await?);
        self.0.pages.lock().insert(scope, &page);
        Ok(page)
    }

    async fn read(
        &self,
        scope: &Scope,
        from: Xid,
        queries: &ScopeQueries,
    ) -> Result<Page, ReplayError> {
        let settled = self.0.hub.durable_position();
        // One more than the limit, to notice that too many rounds follow, and the named round.
        let (games, most) = match scope {
            Scope::All => (None, self.0.limit.saturating_mul(ALL_TOPICS).saturating_add(2)),
            Scope::One(topic) => (self.game_ids(topic), self.0.limit.saturating_add(2)),
        };
        let (most, charge) = self.charge_page(most)?;
        let (store, snapshot) = (&self.0.store, &settled.snapshot);
        let found = store.replay(from, games.as_deref(), most, snapshot).await;
        let found = found.map_err(|error| match error {
            StoreError::Unavailable(_) => self.0.unanswered.record(error),
            StoreError::Refused(_) | StoreError::Unreadable(_) | StoreError::TooMuch(_) => {
                queries.refused.record(error)
            }
        })?;
        Ok(Page::new(from, found, settled, charge))
    }

    /// Takes memory for a page of so many rounds, or as many as a quarter of the share can hold. Kept
    /// pages and rounds make room for it.
    fn charge_page(&self, most: usize) -> Result<(usize, Charge), BudgetExhausted> {
        let share = self.0.budget.share(MemoryUse::replays);
        let most = most.min(share / 4 / kept_bytes(1));
        Ok((most, self.take(kept_bytes(most), None)?))
    }

    /// Takes memory, or refuses at once. Kept pages and rounds make room for it.
    fn take(&self, bytes: usize, client: Option<IpAddr>) -> Result<Charge, BudgetExhausted> {
        let budget = &self.0.budget;
        let room = budget.try_take(MemoryUse::replays, client, bytes);
        room.map_or_else(
            || {
                self.free_caches();
                budget.take(MemoryUse::replays, client, bytes)
            },
            Ok,
        )
    }

    fn game_ids(&self, topic: &Topic) -> Option<Vec<GameId>> {
        let games = self.0.games.all();
        let ids = games.iter().filter(|game| topic.covers(game)).map(|game| game.id.clone());
        (*topic != Topic::Everything).then(|| ids.collect())
    }

    fn queries_of(&self, scope: &Scope) -> Arc<ScopeQueries> {
        let mut scopes = self.0.scopes.lock();
        // A client that waits holds a reference; entries without one are not in use.
        scopes.retain(|_, queries| Arc::strong_count(queries) > 1);
        Arc::clone(scopes.entry(scope.clone()).or_default())
    }
}

fn widen(wanted: &mut Option<Xid>, from: Xid) {
    *wanted = Some(wanted.map_or(from, |wanted| wanted.min(from)));
}
