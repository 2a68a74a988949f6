//! Opening a subscription while the ring buffer drops rounds.

use std::num::NonZeroUsize;

use futures_util::{FutureExt, future::BoxFuture};

use super::*;
use crate::{
    ops::telemetry::metrics::Metrics,
    stream::{
        hub::{self, Captured, DurablePosition, HubSettings, Opening, Publisher},
        list::{ListKey, ListKeys, ListPlace, ListedRounds},
        replay::StoredReader,
        round::{FinishedAt, GameId, Round, RoundId, UnixMillis},
        round_store::{Answer, RoundStore, StoredRounds},
        start_point::SeedMode,
        stored_round::StoredRound,
        transaction::{Attachment, RoundName, Xid},
    },
};

/// A store that contains these rounds, each finished in its own transaction, and how far the hub has read
/// the log.
#[derive(Debug)]
struct Stored(Vec<Captured>, Reach);

impl RoundStore for Stored {
    fn caught_up(&self) -> BoxFuture<'_, Reach> {
        std::future::ready(self.1).boxed()
    }

    fn games(&self) -> Answer<'_, Vec<Game>> {
        std::future::ready(Ok(Vec::new())).boxed()
    }

    fn list_place<'a>(&'a self, _: &'a NamedRound) -> Answer<'a, Vec<ListKey>> {
        async { Ok(Vec::new()) }.boxed()
    }

    fn list_keys<'a>(
        &'a self,
        _: &'a [GameId],
        _: Option<&'a ListPlace>,
        _: usize,
    ) -> Answer<'a, ListKeys> {
        async { Ok(ListKeys::default()) }.boxed()
    }

    fn list_rounds<'a>(&'a self, _: &'a [ListKey], _: usize) -> Answer<'a, ListedRounds> {
        async { Ok(ListedRounds::default()) }.boxed()
    }

    fn resume_points<'a>(
        &'a self,
        rounds: &'a [RoundId],
    ) -> Answer<'a, std::collections::HashMap<RoundId, Xid>> {
        let named = self.0.iter().filter(|it| rounds.contains(&it.round.round_id));
        let points = named.map(|it| (it.round.round_id.clone(), it.before)).collect();
        std::future::ready(Ok(points)).boxed()
    }

    fn replay<'a>(
        &'a self,
        from: Xid,
        _: Option<&'a [GameId]>,
        limit: usize,
        snapshot: &'a str,
    ) -> Answer<'a, StoredRounds> {
        let xmax = snapshot.parse().map(Xid).expect("a transaction");
        let found = self.0.iter().filter(|it| it.xid >= from && it.xid < xmax);
        let stored = |it: &Captured| StoredRound {
            finish: it.finish(),
            before: it.before,
            game: (it.round.game_id.clone(), Arc::clone(&it.round.game_type)),
            extras_bytes: it.round.extras.len(),
        };
        let rounds = found.take(limit).map(stored).collect();
        std::future::ready(Ok(StoredRounds { rounds, is_full: false, trimmed: Xid(0) })).boxed()
    }

    fn contents<'a>(&'a self, rounds: &'a [RoundName]) -> Answer<'a, Vec<(RoundName, Round)>> {
        let found = self.0.iter().filter(|it| rounds.contains(&it.finish().name()));
        std::future::ready(Ok(found.map(|it| (it.finish().name(), it.round.clone())).collect()))
            .boxed()
    }
}

fn captured(id: i64) -> Captured {
    let xid = Xid(id.cast_unsigned());
    let round = Round {
        round_id: RoundId::number(id),
        game_id: GameId::number(1),
        game_slug: "crash".into(),
        game_type: "multiplier".into(),
        finished_at: FinishedAt::from_micros(id).expect("in range"),
        extras: "{}".into(),
        timestamp: UnixMillis(0),
    };
    Captured {
        round,
        xid,
        attachment: Attachment(0),
        before: xid,
        poll: 0,
        at: None,
        recorded: None,
    }
}

/// A feed on a hub with a ring buffer of this capacity; the test publishes to the hub.
fn feed_on(rounds: &[Captured], capacity: usize) -> (Feed, Publisher) {
    feed_of(rounds, capacity, Reach::NoLog)
}

/// The same of a server that has read its log so far.
fn feed_of(rounds: &[Captured], capacity: usize, reach: Reach) -> (Feed, Publisher) {
    let metrics = Metrics::default();
    let capacity = NonZeroUsize::new(capacity).expect("some");
    let (hub, publisher) = hub::new(capacity, metrics);
    publisher.open();
    let store = Arc::new(Stored(rounds.to_vec(), reach));
    (Feed::new(hub, Games::default(), store, 100, MemoryBudget::unlimited()), publisher)
}

/// Publishes a finished round as the capture does.
fn publish(publisher: &Publisher, captured: &Captured) {
    publisher.publish(vec![captured.clone()]);
    let oldest_running = Xid(captured.xid.0 + 1);
    let (snapshot, position) = (oldest_running.0.to_string().into(), publisher.position());
    publisher.set_durable_position(DurablePosition { oldest_running, snapshot, position });
}

#[tokio::test]
async fn rounds_that_the_hub_drops_while_a_stream_opens_are_read_from_the_database() {
    let rounds: Vec<_> = (1..=6).map(captured).collect();
    let (feed, publisher) = feed_on(&rounds, 2);
    publish(&publisher, &rounds[0]);
    let prepare = async || {
        let named = NamedRound::parse("1").expect("an id");
        let prepared = feed.prepare(Topic::Everything, Some(named), None).await;
        prepared.expect("a stream")
    };
    let [from_memory, known] = [prepare().await, prepare().await];
    rounds[1..4].iter().for_each(|round| publish(&publisher, round));
    let from_database = prepare().await;
    rounds[4..].iter().for_each(|round| publish(&publisher, round));
    for prepared in [from_memory, from_database] {
        let (opening, stored, _) = prepared.subscribe().await.expect("a stream");
        assert_eq!(all_ids(opening, stored).await, [2, 3, 4, 5, 6]);
    }
    let (mut opening, source) =
        known.subscribe_by_outlet(|joint| joint.opening).await.expect("a stream");
    let stored = source.reader(opening.take_stored());
    assert_eq!(all_ids(opening, stored).await.len(), 5);
}

fn after(id: &str) -> Option<NamedRound> {
    Some(NamedRound::parse(id).expect("an id"))
}

/// A client resumes after round 4, which another server of the log has sent it, and this one has not
/// read: it has rounds 1 and 2.
#[tokio::test]
async fn a_round_that_another_server_sent_first_is_waited_for() {
    let rounds: Vec<_> = (1..=5).map(captured).collect();
    let (feed, publisher) = feed_of(&rounds, 10, Reach::End);
    rounds[..2].iter().for_each(|round| publish(&publisher, round));
    let preparing = feed.prepare(Topic::Everything, after("4"), None);
    let reading = async { rounds[2..].iter().for_each(|round| publish(&publisher, round)) };
    let (prepared, ()) = tokio::join!(preparing, reading);
    let (opening, stored, _) = prepared.expect("a stream").subscribe().await.expect("a stream");
    assert_eq!(all_ids(opening, stored).await, [5]);
}

#[tokio::test]
async fn a_round_that_never_comes_is_answered_at_least_once_after_a_while() {
    let rounds: Vec<_> = (1..=4).map(captured).collect();
    let (feed, publisher) = feed_of(&rounds, 10, Reach::End);
    rounds[..2].iter().for_each(|round| publish(&publisher, round));
    let prepared = feed.prepare(Topic::Everything, after("4"), None).await;
    let (opening, stored, _) = prepared.expect("a stream").subscribe().await.expect("a stream");
    assert_eq!(all_ids(opening, stored).await, [0; 0]);
}

#[tokio::test]
async fn a_server_behind_its_log_refuses_a_later_round_and_answers_an_older_one() {
    let rounds: Vec<_> = (1..=6).map(captured).collect();
    let (feed, publisher) = feed_of(&rounds, 2, Reach::Behind);
    rounds[..4].iter().for_each(|round| publish(&publisher, round));
    let refused = feed.prepare(Topic::Everything, after("6"), None).await;
    assert!(matches!(refused, Err(FeedError::NotReady)), "{refused:?}");
    let prepared = feed.prepare(Topic::Everything, after("1"), None).await;
    let (opening, stored, _) = prepared.expect("a stream").subscribe().await.expect("a stream");
    assert_eq!(all_ids(opening, stored).await, [2, 3, 4]);
}

#[tokio::test]
async fn a_server_without_a_log_repeats_what_another_server_sent_first() {
    let rounds: Vec<_> = (1..=4).map(captured).collect();
    let (feed, publisher) = feed_on(&rounds, 10);
    rounds[..2].iter().for_each(|round| publish(&publisher, round));
    let prepared = feed.prepare(Topic::Everything, after("4"), None).await;
    let (opening, stored, _) = prepared.expect("a stream").subscribe().await.expect("a stream");
    assert_eq!(all_ids(opening, stored).await, [0; 0]);
}

#[tokio::test]
async fn a_seed_that_is_read_in_pages_takes_the_memory_for_all_its_rounds() {
    const GAMES: usize = 40;
    let (metrics, history) = (Metrics::default(), NonZeroUsize::MIN);
    let budget = MemoryBudget::new(8 << 20, &metrics);
    let settings = HubSettings { history, replay_bytes: usize::MAX, budget: budget.clone() };
    let (hub, publisher) = hub::with_settings(settings, metrics);
    publisher.open();
    // Every other round has some 400 KB in two encodings, and history may have 4 MiB.
    for id in 1..=GAMES as i64 {
        let mut captured = captured(id);
        captured.round.game_id = GameId::number(id);
        captured.round.extras = "x".repeat(if id % 2 == 0 { 200_000 } else { 2 }).into();
        publish(&publisher, &captured);
    }
    let seeds = hub.seed_list(&Topic::Everything, SeedMode::Each);
    let missing: Vec<_> = seeds.into_iter().filter_map(Result::err).collect();
    assert!((1..GAMES).contains(&missing.len()), "{} of {GAMES}", missing.len());
    let store = Arc::new(Stored(Vec::new(), Reach::NoLog));
    let feed = Feed::new(hub, Games::default(), store, 100, budget.clone());
    let start = StartPoint { after: None, seed: SeedMode::Each };
    let prepared = feed.prepare(Topic::Everything, start, None).await.expect("a stream");
    let with_seed = budget.used(MemoryUse::replays);
    drop(prepared);
    let taken = with_seed - budget.used(MemoryUse::replays);
    // The first missing round is read before the stream opens.
    assert_eq!(taken, READER_BYTES + GAMES * SEED_BYTES + missing[0].bytes);
}

/// The ids of all rounds of a resumed stream.
async fn all_ids(opening: Opening, stored: Option<StoredReader>) -> Vec<i64> {
    let Opening::Resumed(resumed) = opening else { panic!("not resumed: {opening:?}") };
    let mut frames = Vec::new();
    if let Some(mut stored) = stored {
        while let Some(page) = stored.next().await.expect("a page") {
            frames.extend(page.frames);
        }
    }
    frames.extend(resumed.frames);
    frames.iter().map(|frame| frame.round_id().columns().0).collect()
}
