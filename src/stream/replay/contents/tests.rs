//! Contents from a store that refuses, or that lacks rounds.

use std::{
    num::NonZeroUsize,
    sync::atomic::{AtomicUsize, Ordering},
};

use futures_util::FutureExt;

use super::*;
use crate::{
    ops::telemetry::metrics::Metrics,
    stream::{
        hub,
        list::{ListKey, ListKeys, ListPlace, ListedRounds},
        round::{FinishedAt, Game, GameId, NamedRound, Round, RoundId, UnixMillis},
        round_store::{Answer, RoundStore, StoredRounds},
        transaction::{Attachment, Xid},
    },
};

/// A latest round of the game that this store's rounds of any table have.
pub(in crate::stream::replay) fn seed(id: i64, bytes: usize) -> MissingSeed {
    let game = GameId::number(i64::from(Attachment::ANY.0));
    let age = (FinishedAt::from_micros(0).expect("in range"), RoundId::number(id));
    MissingSeed { game, age, bytes }
}

/// Has every round with an even id. It counts its queries for content.
#[derive(Debug, Default)]
pub(in crate::stream::replay) struct EvenRounds {
    refusal: Option<StoreError>,
    /// Whether the rounds of any table are those of table 1, too, with the same ids.
    has_second_table: bool,
    queries: AtomicUsize,
}

impl EvenRounds {
    pub(in crate::stream::replay) fn queries(&self) -> usize {
        self.queries.load(Ordering::Relaxed)
    }
}

fn name(attachment: i32, id: i64) -> RoundName {
    (Attachment(attachment), RoundId::number(id))
}

fn key(attachment: i32, id: i64) -> FrameKey {
    FrameKey::Round(name(attachment, id))
}

fn round((Attachment(attachment), id): &RoundName) -> Round {
    Round {
        round_id: id.clone(),
        game_id: GameId::number(i64::from(*attachment)),
        game_slug: "crash".into(),
        game_type: "multiplier".into(),
        finished_at: FinishedAt::from_micros(0).expect("in range"),
        extras: "{}".into(),
        timestamp: UnixMillis(0),
    }
}

fn nothing<'a, T: Default + Send + 'a>() -> Answer<'a, T> {
    async { Ok(T::default()) }.boxed()
}

impl RoundStore for EvenRounds {
    fn games(&self) -> Answer<'_, Vec<Game>> {
        nothing()
    }

    fn list_place<'a>(&'a self, _: &'a NamedRound) -> Answer<'a, Vec<ListKey>> {
        nothing()
    }

    fn list_keys<'a>(
        &'a self,
        _: &'a [GameId],
        _: Option<&'a ListPlace>,
        _: usize,
    ) -> Answer<'a, ListKeys> {
        nothing()
    }

    fn list_rounds<'a>(&'a self, _: &'a [ListKey], _: usize) -> Answer<'a, ListedRounds> {
        nothing()
    }

    fn resume_points<'a>(&'a self, _: &'a [RoundId]) -> Answer<'a, HashMap<RoundId, Xid>> {
        nothing()
    }

    fn replay<'a>(
        &'a self,
        _: Xid,
        _: Option<&'a [GameId]>,
        _: usize,
        _: &'a str,
    ) -> Answer<'a, StoredRounds> {
        async { Err(StoreError::Unavailable("no replay".to_owned())) }.boxed()
    }

    fn contents<'a>(&'a self, names: &'a [RoundName]) -> Answer<'a, Vec<(RoundName, Round)>> {
        self.queries.fetch_add(1, Ordering::Relaxed);
        if let Some(refusal) = self.refusal.clone() {
            return async { Err(refusal) }.boxed();
        }
        let even = names.iter().filter(|(_, id)| id.as_number().is_some_and(|id| id % 2 == 0));
        let mut found: Vec<RoundName> = even.cloned().collect();
        if self.has_second_table {
            let of_any = found.iter().filter(|(table, _)| *table == Attachment::ANY);
            let second: Vec<_> = of_any.map(|(_, id)| (Attachment(1), id.clone())).collect();
            found.extend(second);
        }
        let rounds = found.into_iter().map(|name| (name.clone(), round(&name))).collect();
        async { Ok(rounds) }.boxed()
    }
}

fn contents(store: &Arc<EvenRounds>) -> Contents {
    within(store, MemoryBudget::unlimited())
}

fn within(store: &Arc<EvenRounds>, budget: MemoryBudget) -> Contents {
    let store: SharedRoundStore = store.clone();
    let (hub, _) = hub::new(NonZeroUsize::MIN, Metrics::default());
    Contents::new(hub, store, budget)
}

/// So much memory that the cache's part of it, a 32nd, is 512 bytes: a frame of the store has some 700.
const SMALL: usize = 16 << 10;
/// Half of it: no such frame may be kept.
const TINY: usize = 8 << 10;

#[tokio::test]
async fn a_thousand_clients_of_one_address_that_lack_the_same_rounds_share_a_query() {
    let store = Arc::new(EvenRounds::default());
    let (contents, names) = (contents(&store), [name(1, 2)]);
    let held = [contents.turns.take(None).await, contents.turns.take(None).await];
    let mut many: Vec<_> = (0..1_100).map(|_| Box::pin(contents.read(&names, None))).collect();
    assert!(many.iter_mut().all(|one| one.now_or_never().is_none()));
    drop(held);
    for one in many {
        assert!(one.await.expect("contents")[&key(1, 2)].is_some());
    }
    assert_eq!(store.queries.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn clients_that_wait_share_the_failure_of_a_database_that_does_not_answer() {
    let refusal = Some(StoreError::Unavailable("no answer".to_owned()));
    let store = Arc::new(EvenRounds { refusal, ..EvenRounds::default() });
    let (contents, names) = (contents(&store), [name(1, 2)]);
    let held = [contents.turns.take(None).await, contents.turns.take(None).await];
    let mut many: Vec<_> = (0..100).map(|_| Box::pin(contents.read(&names, None))).collect();
    assert!(many.iter_mut().all(|one| one.now_or_never().is_none()));
    drop(held);
    for one in many {
        assert!(one.await.is_err());
    }
    assert_eq!(store.queries(), 1);
    assert!(contents.read(&names, None).await.is_err());
    assert_eq!(store.queries(), 2, "one that comes later asks again");
}

#[tokio::test]
async fn a_crowd_reads_a_latest_round_that_is_wider_than_the_cache_by_one_query() {
    let store = Arc::new(EvenRounds::default());
    let contents = within(&store, MemoryBudget::new(SMALL, &Metrics::default()));
    let seeds = [seed(2, 10)];
    for _ in 0..1_500 {
        contents.read_seeds(&seeds, None).await.expect("contents");
    }
    assert_eq!(store.queries(), 1);
}

#[tokio::test]
async fn a_round_that_is_too_wide_to_be_kept_is_shared_as_long_as_a_client_takes_it() {
    let store = Arc::new(EvenRounds::default());
    let contents = within(&store, MemoryBudget::new(TINY, &Metrics::default()));
    let seeds = [seed(2, 10)];
    let taken = contents.read_seeds(&seeds, None).await.expect("contents");
    for _ in 0..1_500 {
        contents.read_seeds(&seeds, None).await.expect("contents");
    }
    contents.free_memory();
    let again = contents.read_seeds(&seeds, None).await.expect("contents");
    let json = |read: &Frames| read[&FrameKey::from(&seeds[0])].as_ref().expect("a frame").json();
    assert_eq!(json(&taken).as_ptr(), json(&again).as_ptr(), "the same bytes");
    assert_eq!(store.queries(), 1);
    drop((taken, again));
    contents.read_seeds(&seeds, None).await.expect("contents");
    assert_eq!(store.queries(), 2, "nothing has its bytes any more");
}

#[tokio::test]
async fn rounds_of_a_database_that_was_replaced_meanwhile_are_not_kept() {
    let store = Arc::new(EvenRounds::default());
    let (hub, publisher) = hub::new(NonZeroUsize::MIN, Metrics::default());
    let shared: SharedRoundStore = store.clone();
    let contents = Contents::new(hub.clone(), shared, MemoryBudget::unlimited());
    let names = [name(1, 2)];
    let generation = hub.generation();
    let read = contents.query(&names).await.expect("contents");
    publisher.forget_all();
    contents.keep(&read, generation);
    contents.read(&names, None).await.expect("contents");
    assert_eq!(store.queries.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn a_refusal_fails_the_page_instead_of_leaving_its_rounds_out() {
    let refusal = Some(StoreError::Refused("lock timeout".to_owned()));
    let store = Arc::new(EvenRounds { refusal, ..EvenRounds::default() });
    for names in [vec![name(1, 2)], vec![name(1, 2), name(1, 4)]] {
        assert!(contents(&store).read(&names, None).await.is_err());
    }
}

#[tokio::test]
async fn rounds_are_read_once_and_missing_ones_too() {
    let store = Arc::new(EvenRounds::default());
    let contents = contents(&store);
    for _ in 0..3 {
        let read = contents.read(&[name(1, 1), name(1, 2)], None).await.expect("contents");
        assert!(read[&key(1, 1)].is_none() && read[&key(1, 2)].is_some());
    }
    assert_eq!(store.queries.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn equal_ids_of_two_tables_are_two_rounds() {
    let store = Arc::new(EvenRounds::default());
    let contents = contents(&store);
    contents.read(&[name(1, 2)], None).await.expect("contents");
    let read = contents.read(&[name(1, 2), name(2, 2)], None).await.expect("contents");
    let json = |key: FrameKey| read[&key].as_ref().expect("a frame").json();
    assert_ne!(json(key(1, 2)), json(key(2, 2)));
}

#[tokio::test]
async fn games_whose_latest_rounds_have_the_same_id_each_get_their_own() {
    let store = Arc::new(EvenRounds { has_second_table: true, ..EvenRounds::default() });
    let contents = contents(&store);
    let first = seed(2, 10);
    let second = MissingSeed { game: GameId::number(1), ..first.clone() };
    for seeds in [vec![first.clone()], vec![first.clone(), second.clone()], vec![second, first]] {
        let read = contents.read_seeds(&seeds, None).await.expect("contents");
        for seed in &seeds {
            let json = read[&FrameKey::from(seed)].as_ref().expect("a frame").json();
            let json = String::from_utf8_lossy(&json);
            assert!(json.contains(&format!("\"game_id\":{},", seed.game)), "{json}");
        }
    }
    assert_eq!(store.queries(), 2, "the second one was not read with the first");
}

#[tokio::test]
async fn latest_rounds_of_games_are_read_by_one_query_which_clients_share() {
    let store = Arc::new(EvenRounds::default());
    let contents = contents(&store);
    let seeds: Vec<_> = (1..=100).map(|id| seed(id, 10)).collect();
    for _ in 0..50 {
        let read = contents.read_seeds(&seeds, None).await.expect("contents");
        let found = seeds.iter().filter(|seed| read[&FrameKey::from(*seed)].is_some());
        assert_eq!(found.count(), 50, "the others were deleted, with all before them");
    }
    assert_eq!(store.queries(), 1);
}

#[tokio::test]
async fn a_round_of_another_game_is_not_the_latest_of_this_one() {
    let store = Arc::new(EvenRounds::default());
    let other = MissingSeed { game: GameId::number(1), ..seed(2, 10) };
    let read =
        contents(&store).read_seeds(std::slice::from_ref(&other), None).await.expect("contents");
    assert!(read[&FrameKey::from(&other)].is_none());
}
