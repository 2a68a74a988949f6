//! Reads the stored rounds of one replay, page by page, as its client takes them.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use super::{ReplayError, Replays};
use crate::{
    ops::{
        memory_budget::{BudgetExhausted, Charge},
        telemetry::metrics::MemoryUse,
    },
    stream::{
        frame::{Frame, encoded_bytes},
        stored_round::StoredPart,
    },
};

/// The bytes of JSON in a page: half of what a socket's buffer takes.
const PAGE_BYTES: usize = 64 * 1024;
/// How long a replay waits for memory that other replays hold.
const MEMORY_WITHIN: Duration = Duration::from_secs(30);
/// The time between two attempts to get memory.
const RETRY_EVERY: Duration = Duration::from_millis(50);

/// Encoded rounds of a replay, charged until this is dropped.
#[derive(Debug)]
pub(crate) struct ReplayPage {
    /// In order.
    pub frames: Vec<Frame>,
    /// Their bytes.
    pub charge: Charge,
}

/// The stored rounds of one replay. At most one page of them is in memory.
#[derive(Debug)]
pub(crate) struct StoredReader {
    replays: Replays,
    part: StoredPart,
    /// The row at which the next page begins.
    next: usize,
    client: Option<IpAddr>,
    /// Of the hub, before the rows were read.
    generation: u64,
    /// The bytes of the row numbers.
    _charge: Charge,
}

impl StoredReader {
    pub(crate) fn new(
        replays: Replays,
        part: StoredPart,
        client: Option<IpAddr>,
        (generation, charge): (u64, Charge),
    ) -> Self {
        Self { replays, part, next: 0, client, generation, _charge: charge }
    }

    /// The next page; `None` after the last one.
    pub(crate) async fn next(&mut self) -> Result<Option<ReplayPage>, ReplayError> {
        let names = self.part.page(self.next, PAGE_BYTES);
        if names.is_empty() {
            return Ok(None);
        }
        let charge = self.charge(names.len()).await?;
        let contents = self.replays.contents().read(&names, self.client).await?;
        // The rows name rounds of a database that was dropped: another one may use their ids again.
        if self.replays.generation() != self.generation {
            return Err(ReplayError::Replaced);
        }
        self.next += names.len();
        // A round that was deleted meanwhile is missing.
        let frames = names.iter().filter_map(|name| contents.get(name).cloned().flatten());
        let frames = frames.collect();
        Ok(Some(ReplayPage { frames, charge }))
    }

    /// Whether more than half of the memory for replays is used: clients must read faster then.
    pub(crate) fn is_memory_scarce(&self) -> bool {
        self.replays.budget().is_half_used(MemoryUse::replays)
    }

    /// Waits until there is memory for so many rounds.
    async fn charge(&self, rounds: usize) -> Result<Charge, BudgetExhausted> {
        let rounds = self.part.iter().skip(self.next).take(rounds);
        let bytes = rounds.map(|round| encoded_bytes(round.json_bytes())).sum();
        let (budget, begun) = (self.replays.budget(), Instant::now());
        if let Some(charge) = budget.try_take(MemoryUse::replays, self.client, bytes) {
            return Ok(charge);
        }
        self.replays.clear_caches();
        while begun.elapsed() < MEMORY_WITHIN {
            if let Some(charge) = budget.try_take(MemoryUse::replays, self.client, bytes) {
                return Ok(charge);
            }
            tokio::time::sleep(RETRY_EVERY).await;
        }
        budget.take(MemoryUse::replays, self.client, bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::{num::NonZeroUsize, sync::Arc};

    use super::{super::contents::tests::EvenRounds, *};
    use crate::{
        ops::{
            memory_budget::MemoryBudget,
            telemetry::metrics::{ByMemoryUse, Metrics},
        },
        stream::{
            games::Games,
            hub::{self, Publisher},
            round::{GameId, RoundId},
            stored_round::StoredRound,
            transaction::{Attachment, Finish, RoundName, Xid},
        },
    };

    const LIMIT: usize = 64 << 20;
    const KIND: MemoryUse = MemoryUse::replays;

    fn stored(id: i64) -> StoredRound {
        let (attachment, round) = (Attachment(1), RoundId::number(id));
        let finish = Finish { xid: Xid(1), attachment, round };
        let game = (GameId::number(1), Arc::from("multiplier"));
        StoredRound { finish, before: Xid(1), game, extras_bytes: 2 }
    }

    /// The reader of one round.
    fn reader(metrics: &Metrics) -> (Publisher, StoredReader) {
        let (hub, publisher) = hub::new(NonZeroUsize::MIN, metrics.clone());
        let (store, budget) = (Arc::new(EvenRounds::default()), MemoryBudget::new(LIMIT, metrics));
        let charge = budget.take(KIND, None, 0).expect("room");
        let replays = Replays::new(hub, store, Games::default(), 10, budget);
        let part = StoredPart::new(&Arc::from([stored(2)]), |_| true);
        let start = (replays.generation(), charge);
        (publisher, StoredReader::new(replays, part, None, start))
    }

    #[tokio::test]
    async fn the_rest_of_a_replay_ends_with_the_database_that_it_is_of() {
        let (_publisher, mut kept) = reader(&Metrics::default());
        let page = kept.next().await.expect("a page").expect("the round");
        assert_eq!(page.frames.len(), 1);
        let (publisher, mut replaced) = reader(&Metrics::default());
        publisher.forget_all();
        let ended = replaced.next().await;
        assert!(matches!(ended, Err(ReplayError::Replaced)), "{ended:?}");
    }

    #[tokio::test]
    async fn what_later_clients_might_share_makes_room_for_a_page_that_a_client_waits_for() {
        let metrics = Metrics::default();
        let (_publisher, mut reader) = reader(&metrics);
        let replays = reader.replays.clone();
        let others: Vec<RoundName> = (3..200).map(|id| stored(id * 2).finish.name()).collect();
        replays.contents().read(&others, None).await.expect("contents");
        let budget = replays.budget();
        let free = budget.share(KIND) - budget.used(KIND);
        let _held = budget.take(KIND, None, free).expect("the rest");
        let page = reader.next().await.expect("a page").expect("the round");
        assert_eq!(page.frames.len(), 1);
        let refused = metrics.memory_refused_total.get_or_create(&ByMemoryUse { kind: KIND }).get();
        assert_eq!(refused, 0, "a client that waits is not refused");
    }
}
