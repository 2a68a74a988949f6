//! A shared failure: all requests that wait for one attempt fail with it.
//!
//! If the database is unavailable, an attempt fails after five seconds: the pool waits that long for
//! a connection. Attempts run one at a time. If each request made its own attempt, the tenth client
//! would get its error after 50 seconds.

use parking_lot::Mutex;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::stream::round_store::StoreError;

/// The last failed attempt: the time of the failure and its error.
#[derive(Debug, Default)]
pub(crate) struct LastFailure(Mutex<Option<(Instant, Arc<StoreError>)>>);

impl LastFailure {
    /// Records that an attempt failed now.
    pub(crate) fn record(&self, error: StoreError) -> Arc<StoreError> {
        let error = Arc::new(error);
        *self.0.lock() = Some((Instant::now(), Arc::clone(&error)));
        error
    }

    /// The failure, if it happened after this request began.
    pub(crate) fn since(&self, requested_at: Instant) -> Option<Arc<StoreError>> {
        let (_, error) = self.last().filter(|(at, _)| *at >= requested_at)?;
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
    fn requests_made_before_a_failure_share_it_and_later_requests_do_not() {
        let (failure, before) = (LastFailure::default(), Instant::now());
        assert!(failure.since(before).is_none() && !failure.is_recent(Duration::MAX));
        failure.record(StoreError::Unavailable("no connection".to_owned()));
        assert!(failure.since(before).is_some() && failure.is_recent(Duration::MAX));
        assert!(failure.since(Instant::now() + Duration::from_nanos(1)).is_none());
        assert!(!failure.is_recent(Duration::ZERO));
    }
}
