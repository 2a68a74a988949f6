//! Why a request for a stream or a list fails.

use std::sync::Arc;

use crate::{
    ops::{memory_budget::BudgetExhausted, turns::TooManyWaiting},
    stream::{games::UnknownName, replay::ReplayError, round_store::StoreError},
};

/// The reason for which a request fails.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FeedError {
    /// No game has this slug or this type: 404.
    #[error(transparent)]
    Unknown(#[from] UnknownName),
    /// The capture has not caught up since the process started, or is publishing the rounds of an
    /// outage. The server cannot answer a resume until it has published all of them: 503.
    #[error("the stream has not caught up with the database yet")]
    NotReady,
    /// No finished round has this id: 404.
    #[error("there is no finished round {0:?}")]
    NoRound(String),
    /// The database did not answer: 503.
    #[error("the database could not answer")]
    Database(#[from] Arc<StoreError>),
    /// The memory for such requests is used up: 503.
    #[error(transparent)]
    NoMemory(#[from] BudgetExhausted),
    /// Too many requests of one address wait for the database: 503.
    #[error(transparent)]
    TooManyWaiting(#[from] TooManyWaiting),
}

impl From<StoreError> for FeedError {
    fn from(error: StoreError) -> Self {
        Arc::new(error).into()
    }
}

impl From<ReplayError> for FeedError {
    fn from(error: ReplayError) -> Self {
        match error {
            ReplayError::Behind | ReplayError::Replaced | ReplayError::Ahead(_) => Self::NotReady,
            ReplayError::Database(error) => Self::Database(error),
            ReplayError::NoMemory(error) => Self::NoMemory(error),
            ReplayError::TooManyWaiting(error) => Self::TooManyWaiting(error),
        }
    }
}
