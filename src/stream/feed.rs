//! The one way to open a subscription: the hub's memory first, the outbox when older.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::Mutex;

use crate::{
    ops::shutdown::Shutdown,
    stream::{
        frame::Frame,
        games::{Games, UnknownName},
        hub::{Hub, Joint, Opening, Start, Subscription},
        last_failure::LastFailure,
        replay::{OUTRUN_FOR, ReplayError, Replays},
        round::{Game, GameId, Round, RoundId},
        round_store::{SharedRoundStore, StoreError},
        topic::{Selection, Topic},
    },
};

/// Unknown names, and `GET /games`, make the directory be read again, but not more often than this
/// for all clients.
const RELOAD_EVERY: Duration = Duration::from_millis(250);

/// The directory is a few rows: a database that does not tell them in this time is away.
const RELOAD_WITHIN: Duration = Duration::from_secs(2);

/// How long a database that did not answer is taken to be away by `GET /games`, which has an answer
/// without it.
const AWAY_FOR: Duration = Duration::from_secs(5);

/// How long a stream's request waits for a server that has not caught up yet: a restart takes
/// 0.5 s, a database that is away may take for ever.
const CAUGHT_UP_WITHIN: Duration = Duration::from_secs(5);

/// Why a stream cannot be opened now.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FeedError {
    /// A slug or a type that no game has: 404.
    #[error(transparent)]
    Unknown(#[from] UnknownName),
    /// The listener has not caught up since the process started, or has published half of what an
    /// outage has left, which no resume can be answered beside: 503.
    #[error("the stream has not caught up with the database yet")]
    NotReady,
    /// The database could not answer: 503.
    #[error("the database could not answer")]
    Database(#[from] Arc<StoreError>),
}

impl From<StoreError> for FeedError {
    fn from(error: StoreError) -> Self {
        Arc::new(error).into()
    }
}

impl From<ReplayError> for FeedError {
    fn from(error: ReplayError) -> Self {
        match error {
            ReplayError::Behind => Self::NotReady,
            ReplayError::Database(error) => Self::Database(error),
        }
    }
}

/// Opens subscriptions and answers reads. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Feed(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    hub: Hub,
    games: Games,
    store: SharedRoundStore,
    replays: Replays,
    limit: usize,
    /// When the directory was last read for a client.
    reloaded: Mutex<Option<Instant>>,
    not_reloaded: LastFailure,
}

impl Feed {
    /// A feed that replays at most `limit` rounds to one connection.
    pub(crate) fn new(hub: Hub, games: Games, store: SharedRoundStore, limit: usize) -> Self {
        let replays = Replays::new(hub.clone(), store.clone(), games.clone(), limit);
        let (reloaded, not_reloaded) = (Mutex::new(None), LastFailure::default());
        Self(Arc::new(Parts { hub, games, store, replays, limit, reloaded, not_reloaded }))
    }

    /// Lets go, until the shutdown, of what was read for clients that came back.
    pub(crate) async fn tidy_up(self, shutdown: Shutdown) {
        self.0.replays.clone().tidy_up(shutdown).await;
    }

    /// Looks the names up; asks the database when one is not known yet, so that a game added
    /// while running is found.
    pub(crate) async fn topic(&self, selection: &Selection) -> Result<Topic, FeedError> {
        self.look_up(|games| games.topic(selection)).await
    }

    /// One game by its slug, found like a topic.
    pub(crate) async fn game(&self, slug: &str) -> Result<Game, FeedError> {
        self.look_up(|games| games.by_slug(slug)).await
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

    /// Reads the directory again, once for all who ask meanwhile; they share a failure as well.
    async fn reload(&self) -> Result<(), FeedError> {
        let asked = Instant::now();
        let mut reloaded = self.0.reloaded.lock().await;
        if let Some(error) = self.0.not_reloaded.since(asked) {
            return Err(error.into());
        }
        if let Some(last) = *reloaded {
            if last > asked {
                return Ok(());
            }
            tokio::time::sleep(RELOAD_EVERY.saturating_sub(last.elapsed())).await;
        }
        let started = Instant::now();
        let read = tokio::time::timeout(RELOAD_WITHIN, self.0.store.games()).await;
        let games = read.unwrap_or(Err(StoreError::Unavailable("no answer in time".to_owned())));
        self.0.games.replace(games.map_err(|error| self.0.not_reloaded.note(error))?);
        *reloaded = Some(started);
        Ok(())
    }

    /// Does all of an opening that can fail or wait: looks a resume point up that memory does not
    /// know.
    pub(crate) async fn prepare(
        &self,
        topic: Topic,
        after: Option<RoundId>,
    ) -> Result<Prepared, FeedError> {
        self.ready()?;
        let start = self.0.start(&topic, after).await?;
        Ok(Prepared { parts: Arc::clone(&self.0), topic, after, start, since: Instant::now() })
    }

    /// All games, by id: as the database has them, or, while it is away, as it last had them.
    pub(crate) async fn games(&self) -> Result<Arc<[Game]>, FeedError> {
        self.ready()?;
        if !self.0.not_reloaded.is_recent(AWAY_FOR)
            && let Err(error) = self.reload().await
        {
            tracing::debug!(%error, "the games are told from memory");
        }
        Ok(self.0.games.all())
    }

    /// The latest round of a topic, as a seed would show it.
    pub(crate) fn latest(&self, topic: &Topic) -> Result<Option<Frame>, FeedError> {
        self.ready()?;
        Ok(self.0.hub.latest(topic))
    }

    /// Rounds of a game, newest first, older than `before` (exclusive) if given.
    pub(crate) async fn rounds(
        &self,
        game: GameId,
        before: Option<RoundId>,
        limit: u16,
    ) -> Result<Vec<Round>, FeedError> {
        Ok(self.0.store.rounds_before(game, before, i64::from(limit)).await?)
    }

    /// Waits for a server that has just started. An `EventSource` gives up for good on any answer
    /// but 200 (WHATWG HTML, "server-sent events"), so a restart must not answer it with 503.
    async fn caught_up(&self) -> Result<(), FeedError> {
        let opened = tokio::time::timeout(CAUGHT_UP_WITHIN, self.0.hub.opened()).await;
        opened.map_err(|_| FeedError::NotReady)
    }

    fn ready(&self) -> Result<(), FeedError> {
        if self.0.hub.is_open() { Ok(()) } else { Err(FeedError::NotReady) }
    }
}

/// A stream that only has to be opened. That takes no time, and fails in one case alone: memory
/// has lost a round meanwhile, and the database, asked for it, does not answer.
#[derive(Debug)]
pub(crate) struct Prepared {
    parts: Arc<Parts>,
    topic: Topic,
    after: Option<RoundId>,
    start: Start,
    since: Instant,
}

impl Prepared {
    /// Subscribes: what the stream starts with, and what follows, with nothing between them.
    pub(crate) async fn subscribe(mut self) -> Result<(Opening, Subscription), FeedError> {
        loop {
            let start = self.take_start();
            let Parts { hub, limit, .. } = &*self.parts;
            if let Some(opened) = hub.subscribe(&self.topic, start, *limit) {
                return Ok(opened);
            }
            self.prepare_again().await?;
        }
    }

    /// The same for a subscriber that gets its rounds from an outlet: see [`Hub::open`].
    pub(crate) async fn open<T>(
        mut self,
        mut join: impl FnOnce(Joint) -> T + Send,
    ) -> Result<T, FeedError> {
        loop {
            let start = self.take_start();
            let Parts { hub, limit, .. } = &*self.parts;
            join = match hub.open(&self.topic, start, *limit, join) {
                Ok(opened) => return Ok(opened),
                Err(join) => join,
            };
            self.prepare_again().await?;
        }
    }

    /// What is subscribed to.
    pub(crate) fn topic(&self) -> &Topic {
        &self.topic
    }

    /// How to start; what is left is a gap.
    fn take_start(&mut self) -> Start {
        std::mem::replace(&mut self.start, Start::Gap)
    }

    /// Looks the resume point up again, where memory has lost rounds since that was done; but not
    /// for ever where it loses them faster than clients are opened.
    async fn prepare_again(&mut self) -> Result<(), FeedError> {
        if self.since.elapsed() < OUTRUN_FOR {
            self.start = self.parts.start(&self.topic, self.after).await?;
        }
        Ok(())
    }
}

impl Parts {
    async fn start(&self, topic: &Topic, after: Option<RoundId>) -> Result<Start, FeedError> {
        Ok(match after {
            None => Start::Seed,
            Some(named) if self.hub.knows(topic, named) => Start::After(named),
            Some(named) => self.replays.after(topic, named).await?.unwrap_or(Start::Gap),
        })
    }
}

#[cfg(test)]
mod tests;
