//! The one way to open a subscription: the hub's memory first, history when older.
//! (Interface; being filled in.)

use std::sync::Arc;

use crate::{
    frame::Frame,
    hub::{Opening, Subscription},
    round::{Game, GameId, Round, RoundId},
    topic::{Selection, Topic},
};

/// Why a stream cannot be opened now.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    /// A slug or a type that no game has.
    #[error("there is no {0}")]
    Unknown(String),
    /// The listener has not caught up since the process started: 503.
    #[error("the stream has not caught up with the database yet")]
    NotReady,
    /// The database could not answer: 503.
    #[error("the database could not answer")]
    Database(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Opens subscriptions and answers reads. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Feed {}

#[allow(clippy::unused_async, missing_docs)]
impl Feed {
    /// Looks the names up; asks the database (at most a few times a second for everyone) when one
    /// is not known yet, so that a game added while running is found.
    pub async fn topic(&self, _selection: &Selection) -> Result<Topic, FeedError> {
        Err(FeedError::NotReady)
    }

    /// Subscribes: what the stream starts with, and what follows, with nothing between them.
    pub async fn open(
        &self,
        _topic: &Topic,
        _after: Option<RoundId>,
    ) -> Result<(Opening, Subscription), FeedError> {
        Err(FeedError::NotReady)
    }

    /// All games, by id.
    pub async fn games(&self) -> Result<Arc<[Game]>, FeedError> {
        Err(FeedError::NotReady)
    }

    /// The latest round of a topic, as a seed would show it.
    pub fn latest(&self, _topic: &Topic) -> Result<Option<Frame>, FeedError> {
        Err(FeedError::NotReady)
    }

    /// One game's id by its slug (for the /rounds routes).
    pub async fn game(&self, _slug: &str) -> Result<Game, FeedError> {
        Err(FeedError::NotReady)
    }

    /// Rounds of a game, newest first, older than `before` (exclusive) if given.
    pub async fn rounds(
        &self,
        _game: GameId,
        _before: Option<RoundId>,
        _limit: u16,
    ) -> Result<Vec<Round>, FeedError> {
        Err(FeedError::NotReady)
    }
}
