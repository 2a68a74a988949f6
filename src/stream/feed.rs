//! Opens subscriptions: from the hub's recent rounds if they reach back far enough, otherwise from
//! the round store.

mod error;
mod prepared;

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::Mutex;

pub(crate) use self::{error::FeedError, prepared::Prepared};
use crate::{
    ops::{
        memory_budget::{BudgetExhausted, Charge, MemoryBudget},
        telemetry::metrics::MemoryUse,
        turns::Turns,
    },
    stream::{
        frame::Frame,
        games::{Games, UnknownName},
        hub::{Hub, Start},
        last_failure::LastFailure,
        list::{self, List, ListStart},
        replay::{Ahead, ReplayError, Replays},
        round::{Game, NamedRound},
        round_store::{Reach, SharedRoundStore, StoreError},
        start_point::StartPoint,
        topic::{Selection, Topic},
    },
};

/// Shortest time between two reloads of the directory of games. Unknown names and `GET /games` cause
/// a reload, and all clients share it.
const RELOAD_EVERY: Duration = Duration::from_millis(250);

/// The directory has few rows: a database that does not return them in this time is unavailable.
const RELOAD_WITHIN: Duration = Duration::from_secs(2);

/// After a failed reload, `GET /games` answers from the last directory for this long. It does not
/// wait for the database again.
const SKIP_RELOAD_FOR: Duration = Duration::from_secs(5);

/// How long a request for a stream waits until the server has caught up. A restart takes 0.5 s; an
/// outage of the database has no limit. Clients get an answer within 2 s: some give up after 4 s.
const CAUGHT_UP_WITHIN: Duration = Duration::from_millis(1_500);

/// How long a resume waits for a round that another server has sent, after this one has read the log up
/// to what it takes to be its end: a node of NATS that was paused names an old one. A server without a
/// bus may be ahead for longer.
const AHEAD_WITHIN: Duration = Duration::from_secs(2);

/// What a replay keeps between its pages besides its row numbers: its task and its reader.
const READER_BYTES: usize = 4096;
/// What it keeps of a latest round that is to be read.
const SEED_BYTES: usize = 256;

/// Lists that are read from the database at once.
const LISTS_AT_ONCE: usize = 2;

/// Opens subscriptions and answers reads. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Feed(Arc<FeedState>);

#[derive(Debug)]
struct FeedState {
    hub: Hub,
    games: Games,
    store: SharedRoundStore,
    replays: Replays,
    limit: usize,
    budget: MemoryBudget,
    lists: Turns,
    /// The time of the last reload of the directory for a client.
    reloaded: Mutex<Option<Instant>>,
    failed_reload: LastFailure,
}

impl Feed {
    /// A feed that replays at most `limit` rounds to one connection.
    pub(crate) fn new(
        hub: Hub,
        games: Games,
        store: SharedRoundStore,
        limit: usize,
        budget: MemoryBudget,
    ) -> Self {
        Self(Arc::new(FeedState {
            replays: Replays::new(hub.clone(), store.clone(), games.clone(), limit, budget.clone()),
            hub,
            games,
            store,
            limit,
            budget,
            lists: Turns::new(LISTS_AT_ONCE),
            reloaded: Mutex::new(None),
            failed_reload: LastFailure::default(),
        }))
    }

    /// Removes expired pages of replays, again and again.
    pub(crate) async fn remove_expired(self) {
        self.0.replays.clone().remove_expired().await;
    }

    /// Resolves the names. An unknown name causes a reload, so that games added while the server
    /// runs are found.
    pub(crate) async fn topic(&self, selection: &Selection) -> Result<Topic, FeedError> {
        self.look_up(|games| games.topic(selection)).await
    }

    /// One game by its slug, found like a topic.
    pub(crate) async fn game(&self, slug: &str) -> Result<Game, FeedError> {
        self.look_up(|games| games.by_slug(slug)).await
    }

    /// One game by its slug if it satisfies the condition, found like a topic: a game of another
    /// type may have been given one since the directory was read.
    pub(crate) async fn game_if(
        &self,
        slug: &str,
        is_meant: impl Fn(&Game) -> bool + Send + Sync,
    ) -> Result<Game, FeedError> {
        self.look_up(|games| {
            let game = games.by_slug(slug)?;
            if is_meant(&game) { Ok(game) } else { Err(UnknownName::Game(slug.to_owned())) }
        })
        .await
    }

    async fn look_up<T>(
        &self,
        find: impl Fn(&Games) -> Result<T, UnknownName> + Send,
    ) -> Result<T, FeedError> {
        self.caught_up().await?;
        if let Ok(found) = find(&self.0.games) {
            return Ok(found);
        }
        self.reload().await?;
        Ok(find(&self.0.games)?)
    }

    /// Reads the directory again. Requests that arrive during the read share its result or failure.
    async fn reload(&self) -> Result<(), FeedError> {
        let requested_at = Instant::now();
        let mut reloaded = self.0.reloaded.lock().await;
        if let Some(error) = self.0.failed_reload.since(requested_at) {
            return Err(error.into());
        }
        if let Some(last) = *reloaded {
            if last > requested_at {
                return Ok(());
            }
            tokio::time::sleep(RELOAD_EVERY.saturating_sub(last.elapsed())).await;
        }
        let started = Instant::now();
        let read = tokio::time::timeout(RELOAD_WITHIN, self.0.store.games()).await;
        let games = read.unwrap_or(Err(StoreError::Unavailable("no answer in time".to_owned())));
        let games = games.map_err(|error| self.0.failed_reload.record(error))?;
        // A stream of a game's new type begins with a round of it.
        self.0.hub.classify(&games);
        self.0.games.replace(games);
        *reloaded = Some(started);
        Ok(())
    }

    /// Does all steps of an opening that can fail or wait: reads the rounds after a resume point that
    /// the hub does not hold.
    pub(crate) async fn prepare(
        &self,
        topic: Topic,
        at: impl Into<StartPoint> + Send,
        client: Option<IpAddr>,
    ) -> Result<Prepared, FeedError> {
        self.ready()?;
        Prepared::new(Arc::clone(&self.0), topic, at.into(), client).await
    }

    /// All games, by id. While the database is unavailable, these are the games of the last reload.
    pub(crate) async fn games(&self) -> Result<Arc<[Game]>, FeedError> {
        self.ready()?;
        if !self.0.failed_reload.is_recent(SKIP_RELOAD_FOR)
            && let Err(error) = self.reload().await
        {
            tracing::debug!(%error, "cannot reload the games; answering with the last known ones");
        }
        Ok(self.0.games.all())
    }

    /// The latest round of a topic: the seed of a new stream.
    pub(crate) async fn latest(
        &self,
        topic: &Topic,
        client: Option<IpAddr>,
    ) -> Result<Option<Frame>, FeedError> {
        self.ready()?;
        let missing = match self.0.hub.latest(topic) {
            None => return Ok(None),
            Some(Ok(frame)) => return Ok(Some(frame)),
            Some(Err(missing)) => missing,
        };
        let _memory = self.0.budget.take(MemoryUse::lists, client, missing.bytes)?;
        let _turn = self.0.lists.take(client).await?;
        Ok(self.0.replays.latest(&missing, client).await?)
    }

    /// The memory of the process.
    pub(crate) fn budget(&self) -> &MemoryBudget {
        &self.0.budget
    }

    /// Takes the memory of a list of at most so many bytes for a client.
    pub(crate) fn charge_list(
        &self,
        client: Option<IpAddr>,
        bytes: usize,
    ) -> Result<Charge, FeedError> {
        Ok(self.0.budget.take(MemoryUse::lists, client, bytes)?)
    }

    /// A page of the topic's finished rounds, newest first.
    pub(crate) async fn list(
        &self,
        topic: &Topic,
        start: ListStart,
        limit: usize,
        client: Option<IpAddr>,
    ) -> Result<List, FeedError> {
        let _turn = self.0.lists.take(client).await?;
        let store = &*self.0.store;
        let after = match start {
            ListStart::Newest => None,
            ListStart::After(place) => Some(place),
            ListStart::Before(named) => {
                let place = list::place_of(store, &named).await?;
                Some(place.ok_or_else(|| FeedError::NoRound(named.to_string()))?)
            }
        };
        let games = self.0.games.all();
        let games = games.iter().filter(|game| topic.covers(game)).map(|game| game.id.clone());
        Ok(list::read(store, &games.collect::<Vec<_>>(), after.as_ref(), limit).await?)
    }

    /// Waits until a server that has just started has caught up. An `EventSource` does not reconnect
    /// after any status but 200 (WHATWG HTML, "server-sent events"), so a restart must not cause 503.
    async fn caught_up(&self) -> Result<(), FeedError> {
        let opened = tokio::time::timeout(CAUGHT_UP_WITHIN, self.0.hub.opened()).await;
        opened.map_err(|_| FeedError::NotReady)
    }

    fn ready(&self) -> Result<(), FeedError> {
        if self.0.hub.is_open() { Ok(()) } else { Err(FeedError::NotReady) }
    }
}

impl FeedState {
    async fn start(
        &self,
        topic: &Topic,
        after: Option<&NamedRound>,
        client: Option<IpAddr>,
    ) -> Result<(Start, Option<Charge>), FeedError> {
        let Some(named) = after else { return Ok((Start::Seed, None)) };
        let begun = Instant::now();
        loop {
            if let Some(known) = self.known(topic, named) {
                return Ok((known, None));
            }
            let reach = self.store.caught_up().await;
            if let Some(known) = self.known(topic, named) {
                return Ok((known, None));
            }
            let ahead = match reach {
                Reach::NoLog => Ahead::Repeats,
                Reach::End if begun.elapsed() > AHEAD_WITHIN => Ahead::Repeats,
                Reach::End | Reach::Behind => Ahead::Refused,
            };
            match self.stored(topic, named, client, ahead).await {
                Err(ReplayError::Ahead(settled)) if reach == Reach::End => {
                    self.replays.settled_beyond(settled, AHEAD_WITHIN).await;
                }
                stored => return Ok(stored?),
            }
        }
    }

    /// The start after a round in the hub's recent ones.
    fn known(&self, topic: &Topic, named: &NamedRound) -> Option<Start> {
        let known = named.candidates().find(|id| self.hub.knows(topic, id));
        known.map(|id| Start::After(id.clone()))
    }

    /// The start after a round that the hub does not hold.
    async fn stored(
        &self,
        topic: &Topic,
        named: &NamedRound,
        client: Option<IpAddr>,
        ahead: Ahead,
    ) -> Result<(Start, Option<Charge>), ReplayError> {
        for id in named.candidates() {
            if let Some(start) = self.replays.after(topic, id, client, ahead).await? {
                let charge = self.charge_reader(&start, client)?;
                return Ok((start, Some(charge)));
            }
        }
        Ok((Start::Gap, None))
    }

    /// Takes the memory that the reader of so many latest rounds keeps between its pages.
    fn charge_seeds(
        &self,
        seeds: usize,
        client: Option<IpAddr>,
    ) -> Result<Charge, BudgetExhausted> {
        self.budget.take(MemoryUse::replays, client, READER_BYTES + seeds * SEED_BYTES)
    }

    /// Takes the memory that a replay keeps between its pages.
    fn charge_reader(
        &self,
        start: &Start,
        client: Option<IpAddr>,
    ) -> Result<Charge, BudgetExhausted> {
        let rows = match start {
            Start::Replayed(replay) => replay.rounds.len(),
            _ => 0,
        };
        let bytes = READER_BYTES + rows * size_of::<u32>();
        self.budget.take(MemoryUse::replays, client, bytes)
    }
}

#[cfg(test)]
mod tests;
