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
    /// The transactions at which the replays of these rounds begin, if the outbox contains the
    /// rounds. For the named round, the answer is not older than the request.
    pub(super) async fn find(
        &self,
        store: &dyn RoundStore,
        rounds: &HashSet<RoundId>,
        named: &RoundId,
        requested_at: Instant,
    ) -> Result<HashMap<RoundId, Xid>, Arc<StoreError>> {
        self.waiting.lock().extend(rounds.iter().cloned());
        let mut cache = self.cache.lock().await;
        if !cache.answers(named, requested_at) {
            if let Some(failed) = self.failed.since(requested_at) {
                return Err(failed);
            }
            cache.throttle().await;
            let waiting: Vec<RoundId> =
                std::mem::take(&mut *self.waiting.lock()).into_iter().collect();
            let started = Instant::now();
            let known = store.resume_points(&waiting).await;
            cache.record(&waiting, &known.map_err(|error| self.failed.record(error))?, started);
        }
        let point = |id: &RoundId| Some((id.clone(), cache.points.get(id)?.1?));
        Ok(rounds.iter().filter_map(point).collect())
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
        self.points.extend(rounds.iter().map(|id| (id.clone(), (started, known.get(id).copied()))));
        self.last = Some((Instant::now(), started.elapsed()));
    }
}
