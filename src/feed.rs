//! The one way to open a subscription: the hub's memory first, the outbox when older.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::Mutex;

use crate::{
    frame::Frame,
    games::{Games, UnknownName},
    history::{History, HistoryError},
    hub::{Hub, Joint, Opening, Start, Subscription},
    replay::Replays,
    round::{Game, GameId, Round, RoundId},
    telemetry::metrics::{ByResume, Metrics, Resume},
    topic::{Selection, Topic},
};

/// Unknown names, and `GET /games`, make the directory be read again, but not more often than this
/// for all clients.
const RELOAD_EVERY: Duration = Duration::from_millis(250);

/// Why a stream cannot be opened now.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    /// A slug or a type that no game has: 404.
    #[error(transparent)]
    Unknown(#[from] UnknownName),
    /// The listener has not caught up since the process started: 503.
    #[error("the stream has not caught up with the database yet")]
    NotReady,
    /// The database could not answer: 503.
    #[error("the database could not answer")]
    Database(#[from] HistoryError),
}

/// Opens subscriptions and answers reads. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Feed(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    hub: Hub,
    games: Games,
    history: History,
    replays: Replays,
    limit: usize,
    /// When the directory was last read for a client.
    reloaded: Mutex<Option<Instant>>,
    metrics: Metrics,
}

impl Feed {
    /// A feed that replays at most `limit` rounds to one connection.
    pub fn new(hub: Hub, games: Games, history: History, limit: usize, metrics: Metrics) -> Self {
        let replays = Replays::new(hub.clone(), history.clone(), games.clone(), limit);
        let reloaded = Mutex::new(None);
        Self(Arc::new(Parts { hub, games, history, replays, limit, reloaded, metrics }))
    }

    /// Looks the names up; asks the database when one is not known yet, so that a game added
    /// while running is found.
    pub async fn topic(&self, selection: &Selection) -> Result<Topic, FeedError> {
        self.look_up(|games| games.topic(selection)).await
    }

    /// One game by its slug, found like a topic.
    pub async fn game(&self, slug: &str) -> Result<Game, FeedError> {
        self.look_up(|games| games.by_slug(slug)).await
    }

    async fn look_up<T>(
        &self,
        find: impl Fn(&Games) -> Result<T, UnknownName> + Send,
    ) -> Result<T, FeedError> {
        self.ready()?;
        if let Ok(found) = find(&self.0.games) {
            return Ok(found);
        }
        self.reload().await?;
        Ok(find(&self.0.games)?)
    }

    /// Reads the directory again, once for all who ask meanwhile.
    async fn reload(&self) -> Result<(), FeedError> {
        let asked = Instant::now();
        let mut reloaded = self.0.reloaded.lock().await;
        if let Some(last) = *reloaded {
            if last > asked {
                return Ok(());
            }
            tokio::time::sleep(RELOAD_EVERY.saturating_sub(last.elapsed())).await;
        }
        let started = Instant::now();
        self.0.games.replace(self.0.history.games().await?);
        *reloaded = Some(started);
        Ok(())
    }

    /// Does all of an opening that can fail or wait: looks a resume point up that memory does not
    /// know.
    pub async fn prepare(
        &self,
        topic: Topic,
        after: Option<RoundId>,
    ) -> Result<Prepared, FeedError> {
        self.ready()?;
        let start = match after {
            None => Start::Seed,
            Some(named) if self.0.hub.knows(&topic, named) => Start::After(named),
            Some(named) => self.0.replays.after(&topic, named).await?.unwrap_or(Start::Gap),
        };
        Ok(Prepared { parts: Arc::clone(&self.0), topic, start })
    }

    /// All games, by id: as the database has them, or, while it is away, as it last had them.
    pub async fn games(&self) -> Result<Arc<[Game]>, FeedError> {
        self.ready()?;
        if let Err(error) = self.reload().await {
            tracing::debug!(%error, "the games are told from memory");
        }
        Ok(self.0.games.all())
    }

    /// The latest round of a topic, as a seed would show it.
    pub fn latest(&self, topic: &Topic) -> Result<Option<Frame>, FeedError> {
        self.ready()?;
        Ok(self.0.hub.latest(topic))
    }

    /// Rounds of a game, newest first, older than `before` (exclusive) if given.
    pub async fn rounds(
        &self,
        game: GameId,
        before: Option<RoundId>,
        limit: u16,
    ) -> Result<Vec<Round>, FeedError> {
        Ok(self.0.history.rounds_before(game, before, i64::from(limit)).await?)
    }

    fn ready(&self) -> Result<(), FeedError> {
        if self.0.hub.is_warm() { Ok(()) } else { Err(FeedError::NotReady) }
    }
}

/// A stream that only has to be opened: that cannot fail, and takes no time.
#[derive(Debug)]
pub struct Prepared {
    parts: Arc<Parts>,
    topic: Topic,
    start: Start,
}

impl Prepared {
    /// Subscribes: what the stream starts with, and what follows, with nothing between them.
    pub fn subscribe(self) -> (Opening, Subscription) {
        let Self { parts, topic, start } = self;
        let source = source(&start);
        let (opening, subscription) = parts.hub.subscribe(&topic, start, parts.limit);
        parts.count(source, &opening);
        (opening, subscription)
    }

    /// The same for a subscriber that gets its rounds from an outlet: see [`Hub::open`].
    pub fn open<T>(self, join: impl FnOnce(Topic, Joint) -> T) -> T {
        let Self { parts, topic, start } = self;
        let source = source(&start);
        parts.hub.open(&topic.clone(), start, parts.limit, |joint| {
            parts.count(source, &joint.opening);
            join(topic, joint)
        })
    }
}

impl Parts {
    fn count(&self, source: Resume, opening: &Opening) {
        let source = match opening {
            Opening::Seed(_) => return,
            Opening::Resumed(_) => source,
            Opening::Gap(_) => Resume::gap,
        };
        self.metrics.resumes_total.get_or_create(&ByResume { source }).inc();
    }
}

/// Where the answer comes from, if there is one.
fn source(start: &Start) -> Resume {
    match start {
        Start::Replayed(..) => Resume::database,
        _ => Resume::memory,
    }
}
