//! Finds resume points in the outbox: one query for the waiting clients of all topics.

use parking_lot::Mutex;
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use super::page::PAGE_TTL;
use crate::stream::{
    last_failure::LastFailure,
    round::RoundId,
    round_store::{RoundStore, StoreError},
    transaction::Xid,
};

/// The most resume points that are kept, of clients that name ever different rounds.
const POINTS_MAX: usize = 10_000;

/// The outbox has no index by round, because the game's writes would have to maintain it. A query
/// reads the whole outbox: 0.2 s for a million rows, for one round or for thousands.
#[derive(Debug, Default)]
pub(super) struct ResumePoints {
    waiting: Mutex<HashSet<RoundId>>,
    cache: tokio::sync::Mutex<PointCache>,
    failed: LastFailure,
}

#[derive(Debug, Default)]
struct PointCache {
    /// For each round: the start of its query, and the transaction at which its replay begins.
    points: HashMap<RoundId, (Instant, Option<Xid>)>,
    /// The end of the last query and its duration.
    last: Option<(Instant, Duration)>,
}

impl ResumePoints {
    /// Forgets all resume points.
    pub(super) async fn clear(&self) {
        self.cache.lock().await.points.clear();
    }

    /// The transaction at which the replay after this round begins, if the outbox contains the round.
    /// The answer is not older than the request.
    pub(super) async fn find(
        &self,
        store: &dyn RoundStore,
        named: &RoundId,
        requested_at: Instant,
    ) -> Result<Option<Xid>, Arc<StoreError>> {
        self.waiting.lock().insert(named.clone());
        let mut cache = self.cache.lock().await;
        if !cache.answers(named, requested_at) {
            if let Some(failed) = self.failed.since(requested_at) {
                return Err(failed);
            }
            cache.throttle().await;
            let mut waiting = std::mem::take(&mut *self.waiting.lock());
            waiting.insert(named.clone());
            let waiting: Vec<RoundId> = waiting.into_iter().collect();
            let started = Instant::now();
            let known = store.resume_points(&waiting).await;
            cache.record(&waiting, &known.map_err(|error| self.failed.record(error))?, started);
        }
        Ok(cache.points.get(named).and_then(|(_, point)| *point))
    }
}

impl PointCache {
    /// A missing round may have been recorded since its query; a known resume point does not change.
    fn answers(&self, named: &RoundId, requested_at: Instant) -> bool {
        let point = self.points.get(named);
        point.is_some_and(|(started, point)| {
            *started >= requested_at || (point.is_some() && started.elapsed() < PAGE_TTL)
        })
    }

    /// Waits as long as the last query took. Clients that name unknown rounds can so keep the database
    /// busy with these queries for at most half of the time.
    async fn throttle(&self) {
        if let Some((ended, took)) = self.last {
            tokio::time::sleep(took.saturating_sub(ended.elapsed())).await;
        }
    }

    fn record(&mut self, rounds: &[RoundId], known: &HashMap<RoundId, Xid>, started: Instant) {
        self.points.retain(|_, (started, _)| started.elapsed() < PAGE_TTL);
        if self.points.len() > POINTS_MAX {
            self.points.clear();
        }
        self.points.extend(rounds.iter().map(|id| (id.clone(), (started, known.get(id).copied()))));
        self.last = Some((Instant::now(), started.elapsed()));
    }
}
