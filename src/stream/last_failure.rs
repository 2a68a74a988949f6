//! A failure that is shared: who waited for an attempt that failed has failed with it.
//!
//! A database that is away costs an attempt five seconds, the time the pool waits for a connection.
//! Where attempts are made one after the other, each that waits would make one of its own, and the
//! tenth client be told after 50 seconds what the first was told after five.

use parking_lot::Mutex;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::stream::round_store::StoreError;

/// The last attempt that failed: when that was known, and why.
#[derive(Debug, Default)]
pub(crate) struct LastFailure(Mutex<Option<(Instant, Arc<StoreError>)>>);

impl LastFailure {
    /// Notes that an attempt has failed now.
    pub(crate) fn note(&self, error: StoreError) -> Arc<StoreError> {
        let error = Arc::new(error);
        *self.0.lock() = Some((Instant::now(), Arc::clone(&error)));
        error
    }

    /// The failure, for somebody who asked before it was known.
    pub(crate) fn since(&self, asked: Instant) -> Option<Arc<StoreError>> {
        let (_, error) = self.last().filter(|(at, _)| *at >= asked)?;
        Some(error)
    }

    /// Whether an attempt failed within this time.
    pub(crate) fn is_recent(&self, within: Duration) -> bool {
        self.last().is_some_and(|(at, _)| at.elapsed() < within)
    }

    fn last(&self) -> Option<(Instant, Arc<StoreError>)> {
        self.0.lock().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asked_before_a_failure_shares_it_and_who_asks_after_it_does_not() {
        let (failure, before) = (LastFailure::default(), Instant::now());
        assert!(failure.since(before).is_none() && !failure.is_recent(Duration::MAX));
        failure.note(StoreError::Unavailable("away".to_owned()));
        assert!(failure.since(before).is_some() && failure.is_recent(Duration::MAX));
        assert!(failure.since(Instant::now() + Duration::from_nanos(1)).is_none());
        assert!(!failure.is_recent(Duration::ZERO));
    }
}
