//! Where resume points lie in the outbox: one look for all who ask, of whatever topic.

use parking_lot::Mutex;
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use super::page::PAGE_KEPT;
use crate::stream::{
    last_failure::LastFailure,
    round::RoundId,
    round_store::{RoundStore, StoreError},
    transaction::Xid,
};

/// The outbox has no index by round, since the game's writes would pay for it: a look reads all of
/// it, 0.2 s for a million rows, whether for one round or for thousands.
#[derive(Debug, Default)]
pub(super) struct Points {
    waiting: Mutex<HashSet<RoundId>>,
    seen: tokio::sync::Mutex<Seen>,
    failed: LastFailure,
}

#[derive(Debug, Default)]
struct Seen {
    /// When the look for a round began, and where it lies.
    points: HashMap<RoundId, (Instant, Option<Xid>)>,
    /// When the last look ended, and what it took.
    last: Option<(Instant, Duration)>,
}

impl Points {
    /// Where the replays of these rounds begin, of those that the outbox knows; of one of them for
    /// sure, since `asked`.
    pub(super) async fn of(
        &self,
        store: &dyn RoundStore,
        rounds: &HashSet<RoundId>,
        named: RoundId,
        asked: Instant,
    ) -> Result<HashMap<RoundId, Xid>, Arc<StoreError>> {
        self.waiting.lock().extend(rounds);
        let mut seen = self.seen.lock().await;
        if !seen.tells(named, asked) {
            if let Some(failed) = self.failed.since(asked) {
                return Err(failed);
            }
            seen.rest().await;
            let waiting: Vec<RoundId> =
                std::mem::take(&mut *self.waiting.lock()).into_iter().collect();
            let began = Instant::now();
            let known = store.resume_points(&waiting).await;
            seen.note(&waiting, &known.map_err(|error| self.failed.note(error))?, began);
        }
        let point = |id: &RoundId| Some((*id, seen.points.get(id)?.1?));
        Ok(rounds.iter().filter_map(point).collect())
    }
}

impl Seen {
    /// A round that was not there may have come since; one that was there stays where it is.
    fn tells(&self, named: RoundId, asked: Instant) -> bool {
        let point = self.points.get(&named);
        point.is_some_and(|(began, point)| {
            *began >= asked || (point.is_some() && began.elapsed() < PAGE_KEPT)
        })
    }

    /// Waits as long as the last look took: whoever asks for rounds that nobody knows has the
    /// database read the outbox for half of the time at most.
    async fn rest(&self) {
        if let Some((ended, took)) = self.last {
            tokio::time::sleep(took.saturating_sub(ended.elapsed())).await;
        }
    }

    fn note(&mut self, asked: &[RoundId], known: &HashMap<RoundId, Xid>, began: Instant) {
        self.points.retain(|_, (began, _)| began.elapsed() < PAGE_KEPT);
        self.points.extend(asked.iter().map(|id| (*id, (began, known.get(id).copied()))));
        self.last = Some((Instant::now(), began.elapsed()));
    }
}
