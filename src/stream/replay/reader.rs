//! Reads the stored rounds of one replay, page by page, as its client takes them.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use super::{
    ReplayError, Replays,
    contents::{FrameKey, Frames},
};
use crate::{
    ops::{
        memory_budget::{BudgetExhausted, Charge},
        telemetry::metrics::MemoryUse,
    },
    stream::{
        frame::{Frame, encoded_bytes},
        hub::{MissingSeed, SeedRound, Stored},
        stored_round::StoredPart,
    },
};

/// The bytes of JSON in a page: half of what a socket's buffer takes.
const PAGE_BYTES: usize = 64 * 1024;
/// How long a replay waits for memory that other replays hold.
const MEMORY_WITHIN: Duration = Duration::from_secs(30);
/// The time between two attempts to get memory.
const RETRY_EVERY: Duration = Duration::from_millis(50);

/// Encoded rounds, charged until this is dropped.
#[derive(Debug)]
pub(crate) struct ReplayPage {
    /// In order.
    pub frames: Vec<Frame>,
    /// What they are.
    pub kind: PageKind,
    /// Their bytes.
    pub charge: Charge,
}

/// What the rounds of a page are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PageKind {
    /// Rounds of a replay.
    Rounds,
    /// Latest rounds of games.
    Seeds {
        /// Whether no other ones follow.
        are_last: bool,
    },
}

/// Latest rounds of games that were read before their stream opened.
#[derive(Debug)]
pub(crate) struct FirstSeeds {
    frames: Frames,
    _charge: Charge,
}

/// The stored rounds of one opening. At most one page of them is in memory.
#[derive(Debug)]
pub(crate) struct StoredReader {
    replays: Replays,
    stored: Stored,
    /// The round at which the next page begins.
    next: usize,
    /// Rounds of the first page that were read already.
    first_seeds: Option<FirstSeeds>,
    client: Option<IpAddr>,
    /// Of the hub, before the rows were read.
    generation: u64,
    /// The bytes of the row numbers.
    _charge: Charge,
}

impl Replays {
    /// Reads those of these seeds that fit a page, before their stream opens: it is refused if they
    /// cannot be read.
    pub(crate) async fn first_seeds(
        &self,
        seeds: &[MissingSeed],
        client: Option<IpAddr>,
    ) -> Result<FirstSeeds, ReplayError> {
        self.forget_former_database().await;
        let seeds = page_of(seeds, |seed| seed.bytes);
        let bytes = seeds.iter().map(|seed| seed.bytes).sum();
        // The client still waits for its answer.
        let _charge = self.take(bytes, client)?;
        Ok(FirstSeeds { frames: self.contents().read_seeds(seeds, client).await?, _charge })
    }

    /// Waits until there is memory for a page.
    async fn charge(
        &self,
        bytes: usize,
        client: Option<IpAddr>,
    ) -> Result<Charge, BudgetExhausted> {
        let (budget, begun) = (self.budget(), Instant::now());
        if let Some(charge) = budget.try_take(MemoryUse::replays, client, bytes) {
            return Ok(charge);
        }
        self.free_caches();
        while begun.elapsed() < MEMORY_WITHIN {
            if let Some(charge) = budget.try_take(MemoryUse::replays, client, bytes) {
                return Ok(charge);
            }
            tokio::time::sleep(RETRY_EVERY).await;
        }
        budget.take(MemoryUse::replays, client, bytes)
    }
}

/// The first of these that together have about the bytes of a page; at least one.
fn page_of<T>(rounds: &[T], bytes: impl Fn(&T) -> usize) -> &[T] {
    let mut total = 0;
    let fits = |round: &&T| {
        total += bytes(round);
        total <= PAGE_BYTES
    };
    &rounds[..rounds.iter().take_while(fits).count().max(1).min(rounds.len())]
}

impl StoredReader {
    pub(crate) fn new(
        replays: Replays,
        stored: Stored,
        client: Option<IpAddr>,
        (generation, charge): (u64, Charge),
    ) -> Self {
        let (next, first_seeds) = (0, None);
        Self { replays, stored, next, first_seeds, client, generation, _charge: charge }
    }

    /// The same with seeds that were read already.
    pub(crate) fn with_seeds(self, first_seeds: Option<FirstSeeds>) -> Self {
        Self { first_seeds, ..self }
    }

    /// The next page; `None` after the last one.
    pub(crate) async fn next(&mut self) -> Result<Option<ReplayPage>, ReplayError> {
        let first_seeds = self.first_seeds.take();
        let (taken, page) = match &self.stored {
            Stored::Rounds(part) => self.next_rounds(part).await?,
            Stored::Seeds(seeds) => self.next_seeds(seeds, first_seeds).await?,
        };
        // The rows name rounds of a database that was dropped: another one may use their ids again.
        if self.replays.generation() != self.generation {
            return Err(ReplayError::Replaced);
        }
        self.next += taken;
        Ok(page)
    }

    /// How many rounds are read, and those that were not deleted meanwhile.
    async fn next_rounds(
        &self,
        part: &StoredPart,
    ) -> Result<(usize, Option<ReplayPage>), ReplayError> {
        let names = part.page(self.next, PAGE_BYTES);
        if names.is_empty() {
            return Ok((0, None));
        }
        let rounds = part.iter().skip(self.next).take(names.len());
        let bytes = rounds.map(|round| encoded_bytes(round.json_bytes())).sum();
        let charge = self.replays.charge(bytes, self.client).await?;
        let contents = self.replays.contents().read(&names, self.client).await?;
        let frames = names.iter().map(FrameKey::from);
        let frames = frames.filter_map(|key| contents.get(&key).cloned().flatten());
        let (frames, kind) = (frames.collect(), PageKind::Rounds);
        Ok((names.len(), Some(ReplayPage { frames, kind, charge })))
    }

    /// The same for seeds. Those that the hub has come between those that are read.
    async fn next_seeds(
        &self,
        seeds: &[SeedRound],
        first: Option<FirstSeeds>,
    ) -> Result<(usize, Option<ReplayPage>), ReplayError> {
        let rest = seeds.get(self.next..).unwrap_or_default();
        let bytes = |seed: &SeedRound| seed.as_ref().map_or_else(|seed| seed.bytes, Frame::size);
        let page = page_of(rest, bytes);
        if page.is_empty() {
            return Ok((0, None));
        }
        let missing = || page.iter().filter_map(|seed| seed.as_ref().err());
        let bytes = missing().map(|seed| seed.bytes).sum();
        let mut read = first.map(|first| first.frames).unwrap_or_default();
        let charge = self.replays.charge(bytes, self.client).await?;
        let unread = missing().filter(|seed| !read.contains_key(&FrameKey::from(*seed))).cloned();
        let unread: Vec<_> = unread.collect();
        read.extend(self.replays.contents().read_seeds(&unread, self.client).await?);
        let frames = page.iter().filter_map(|seed| match seed {
            Ok(frame) => Some(frame.clone()),
            Err(missing) => read.get(&FrameKey::from(missing)).cloned().flatten(),
        });
        let kind = PageKind::Seeds { are_last: page.len() == rest.len() };
        Ok((page.len(), Some(ReplayPage { frames: frames.collect(), kind, charge })))
    }

    /// Whether more than half of the memory for replays is used: clients must read faster then.
    pub(crate) fn is_memory_scarce(&self) -> bool {
        self.replays.budget().is_half_used(MemoryUse::replays)
    }
}

#[cfg(test)]
mod tests {
    use std::{num::NonZeroUsize, sync::Arc};

    use super::{
        super::contents::tests::{EvenRounds, seed},
        *,
    };
    use crate::{
        ops::{
            memory_budget::MemoryBudget,
            telemetry::metrics::{ByMemoryUse, Metrics},
        },
        stream::{
            games::Games,
            hub::{self, Publisher},
            round::{FinishedAt, GameId, Round, RoundId, UnixMillis},
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

    /// The reader of these rounds.
    fn reader_of(stored: Stored, metrics: &Metrics) -> (Publisher, Arc<EvenRounds>, StoredReader) {
        let (hub, publisher) = hub::new(NonZeroUsize::MIN, metrics.clone());
        let (store, budget) = (Arc::new(EvenRounds::default()), MemoryBudget::new(LIMIT, metrics));
        let charge = budget.take(KIND, None, 0).expect("room");
        let replays = Replays::new(hub, store.clone(), Games::default(), 10, budget);
        let start = (replays.generation(), charge);
        (publisher, store, StoredReader::new(replays, stored, None, start))
    }

    /// The reader of one round.
    fn reader(metrics: &Metrics) -> (Publisher, StoredReader) {
        let part = StoredPart::new(&Arc::from([stored(2)]), |_| true);
        let (publisher, _, reader) = reader_of(Stored::Rounds(part), metrics);
        (publisher, reader)
    }

    fn held(id: i64) -> SeedRound {
        Ok(Frame::encode(&Round {
            round_id: RoundId::number(id),
            game_id: GameId::number(id),
            game_slug: "crash".into(),
            game_type: "multiplier".into(),
            finished_at: FinishedAt::from_micros(id).expect("in range"),
            extras: "{}".into(),
            timestamp: UnixMillis(0),
        }))
    }

    /// The ids of the rounds of each page, and whether it is the last.
    async fn pages(reader: &mut StoredReader) -> Vec<(Vec<i64>, bool)> {
        let mut pages = Vec::new();
        while let Some(page) = reader.next().await.expect("a page") {
            let ids = page.frames.iter().map(|frame| frame.round_id().columns().0).collect();
            pages.push((ids, page.kind == PageKind::Seeds { are_last: true }));
        }
        pages
    }

    #[tokio::test]
    async fn seeds_that_are_read_come_in_their_places_between_those_of_the_hub() {
        // The third was deleted.
        let seeds = vec![held(1), Err(seed(2, 10)), Err(seed(3, 10)), held(5), Err(seed(6, 10))];
        let (_publisher, store, mut reader) = reader_of(Stored::Seeds(seeds), &Metrics::default());
        assert_eq!(pages(&mut reader).await, [(vec![1, 2, 5, 6], true)]);
        assert_eq!(store.queries(), 1);
    }

    #[tokio::test]
    async fn large_seeds_come_page_by_page_and_the_first_is_read_before_the_stream_opens() {
        let missing: Vec<_> = (1..=4).map(|number| seed(number * 2, PAGE_BYTES)).collect();
        let seeds = Stored::Seeds(missing.iter().cloned().map(Err).collect());
        let (_publisher, store, reader) = reader_of(seeds, &Metrics::default());
        let first = reader.replays.first_seeds(&missing, None).await.expect("the first");
        assert_eq!((first.frames.len(), store.queries()), (1, 1));
        reader.replays.contents().clear();
        let mut reader = reader.with_seeds(Some(first));
        let expected = [(vec![2], false), (vec![4], false), (vec![6], false), (vec![8], true)];
        assert_eq!(pages(&mut reader).await, expected);
        assert_eq!(store.queries(), 4, "the first is not read again");
        let budget = reader.replays.budget();
        assert!(budget.used(KIND) < PAGE_BYTES, "only the cache is left");
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
