//! The hub's invariants, checked against a plain list of what was published.

mod memory;
mod model;
mod outlets;
mod resume;
mod stored;

use std::time::Duration;

use proptest::prelude::*;

use self::stored::{resumed_ids, stored};
use super::*;
use crate::{
    ops::telemetry::metrics::MemoryUse,
    stream::{
        round::{FinishedAt, GameId, Round, UnixMillis},
        stored_round::StoredPart,
        transaction::{Attachment, Xid},
    },
};

const LAST: i64 = 2 * LAG_BATCHES as i64;

fn captured(id: i64, game: i64, xid: u64, before: u64) -> Captured {
    let round = Round {
        round_id: RoundId::number(id),
        game_id: GameId::number(game),
        game_slug: format!("game-{game}").into(),
        game_type: if game % 2 == 0 { "even".into() } else { "odd".into() },
        finished_at: FinishedAt::from_micros(id * 1_000_000).expect("in range"),
        extras: "{}".into(),
        timestamp: UnixMillis(0),
    };
    let (xid, before, attachment) = (Xid(xid), Xid(before), Attachment(0));
    Captured { round, xid, attachment, before, poll: 0, at: None, recorded: None }
}

pub(super) fn live(id: i64, game: i64) -> Captured {
    captured(id, game, id.cast_unsigned(), id.cast_unsigned())
}

pub(super) fn hub(history: usize) -> (Hub, Publisher) {
    new(NonZeroUsize::new(history).expect("not zero"), Metrics::default())
}

fn ids(frames: &[Frame]) -> Vec<i64> {
    frames.iter().map(|frame| frame.round_id().columns().0).collect()
}

/// All waiting rounds of a subscriber, and whether it was disconnected.
pub(super) fn drain(subscription: &mut Subscription) -> (Vec<i64>, bool) {
    let mut seen = Vec::new();
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    loop {
        let next = std::pin::pin!(subscription.next()).poll(&mut context);
        match next {
            std::task::Poll::Ready(Delivery::Rounds(frames)) => seen.extend(ids(&frames)),
            std::task::Poll::Ready(Delivery::TooSlow | Delivery::Closed) => return (seen, true),
            std::task::Poll::Pending => return (seen, false),
        }
    }
}

fn resumed(hub: &Hub, topic: &Topic, after: i64) -> Option<Vec<i64>> {
    let known = hub.knows(topic, &RoundId::number(after));
    match hub.subscribe(topic, Start::After(RoundId::number(after)), usize::MAX) {
        Some((Opening::Resumed(resumed), _)) if known => Some(resumed_ids(&resumed)),
        None if !known => None,
        other => panic!("known: {known}, but {other:?}"),
    }
}

pub(super) fn seed(hub: &Hub, topic: &Topic) -> (Option<Frame>, Subscription) {
    match hub.subscribe(topic, Start::Seed, 0) {
        Some((Opening::Seed(seeds), subscription)) => {
            (seeds.frames.into_iter().next(), subscription)
        }
        other => panic!("not a seed: {other:?}"),
    }
}

#[test]
fn the_seed_is_the_round_that_finished_last_not_the_one_published_last() {
    let (hub, publisher) = hub(8);
    let late = Captured {
        round: Round { round_id: RoundId::number(9), ..live(2, 1).round },
        ..live(9, 1)
    };
    publisher.publish(vec![live(5, 1), late]);
    let latest = |topic| hub.latest(&topic).map(|frame| ids(&[frame.expect("in memory")]));
    assert_eq!(latest(Topic::Everything), Some(vec![5]));
    assert_eq!(latest(Topic::kind("even")), None);
}

#[test]
fn a_lagging_subscriber_is_refilled_from_the_ring_buffers_without_a_repeat() {
    let (hub, publisher) = hub(LAG_BATCHES * 4);
    let (_, mut subscription) = seed(&hub, &Topic::Everything);
    (1..=LAST).for_each(|id| publisher.publish(vec![live(id, 1)]));
    assert_eq!(drain(&mut subscription), ((1..=LAST).collect(), false));
}

#[test]
fn no_round_is_lost_between_the_seed_and_the_stream_while_others_publish() {
    const ROUNDS: i64 = 20_000;
    let (hub, publisher) = hub(usize::try_from(ROUNDS).expect("small"));
    publisher.publish(vec![live(1, 1)]);
    std::thread::scope(|scope| {
        scope.spawn(|| (2..=ROUNDS).for_each(|id| publisher.publish(vec![live(id, 1)])));
        loop {
            let (seed, mut subscription) = seed(&hub, &Topic::Everything);
            let seed = seed.expect("a seed").round_id().columns().0;
            if seed == ROUNDS {
                return;
            }
            let first = loop {
                if let Some(first) = drain(&mut subscription).0.first() {
                    break *first;
                }
            };
            assert_eq!(first, seed + 1);
        }
    });
}

#[test]
fn a_subscriber_that_the_ring_buffers_cannot_refill_is_too_slow() {
    let (hub, publisher) = hub(8);
    let mut subscription = seed(&hub, &Topic::Everything).1;
    (1..=LAST).for_each(|id| publisher.publish(vec![live(id, 1)]));
    assert_eq!(drain(&mut subscription), (vec![], true));
}

#[test]
fn a_resume_point_of_an_earlier_process_returns_every_round_that_may_have_been_missed() {
    let (hub, publisher) = hub(8);
    // 2 and 3 overlap: a client that has 3 may lack 2.
    let recent = vec![captured(1, 1, 10, 10), captured(2, 1, 11, 11), captured(3, 1, 12, 11)];
    publisher.preload(recent, vec![], Xid(0));
    publisher.publish(vec![live(40, 1)]);
    let topic = Topic::game(GameId::number(1));
    assert_eq!(resumed(&hub, &topic, 3), Some(vec![2, 40]));
    assert_eq!(resumed(&hub, &topic, 1), Some(vec![2, 3, 40]));
    assert_eq!(resumed(&hub, &topic, 40), Some(vec![]));
    assert_eq!(resumed(&hub, &topic, 7), None);
}

#[test]
fn a_load_that_was_broken_off_leaves_no_round_twice() {
    let (hub, publisher) = hub(8);
    let topic = Topic::game(GameId::number(1));
    // Two parts of one load have the game, too.
    publisher.begin_load();
    (0..2).for_each(|_| publisher.preload_latest(vec![live(1, 1).round]));
    publisher.preload(vec![captured(2, 1, 11, 11)], vec![], Xid(0));
    assert_eq!(resumed(&hub, &topic, 1), Some(vec![2]));
    // What was the latest round then is no place to resume after: others may have come before this load.
    publisher.begin_load();
    publisher.preload_latest(vec![live(3, 1).round]);
    publisher.begin_load();
    publisher.preload(vec![captured(5, 1, 13, 13)], vec![], Xid(0));
    assert_eq!(resumed(&hub, &topic, 3), None);
}

#[test]
fn a_later_preloaded_round_leaves_the_resume_point_of_another_game_with_the_same_id() {
    let (hub, publisher) = hub(8);
    publisher.preload_latest(vec![live(5, 1).round, live(5, 2).round]);
    publisher.preload_latest(vec![live(6, 2).round]);
    assert_eq!(resumed(&hub, &Topic::game(GameId::number(1)), 5), Some(vec![]));
}

#[test]
fn a_resume_point_that_needs_trimmed_rounds_is_unknown() {
    let (hub, publisher) = hub(8);
    let recent = vec![captured(1, 1, 12, 10), captured(2, 1, 13, 13)];
    publisher.preload(recent, vec![], Xid(11));
    let topic = Topic::game(GameId::number(1));
    assert_eq!(
        resumed(&hub, &topic, 1),
        None,
        "retention may have deleted a round of transaction 11"
    );
    assert_eq!(resumed(&hub, &topic, 2), Some(vec![]));
}

#[test]
fn a_ring_buffer_that_the_preload_filled_does_not_answer_for_older_rounds() {
    let (hub, publisher) = hub(2);
    publisher.preload(vec![captured(1, 1, 10, 10), captured(2, 1, 11, 11)], vec![], Xid(0));
    let topic = Topic::game(GameId::number(1));
    assert_eq!(resumed(&hub, &topic, 1), None, "a round of transaction 10 may be missing");
    assert_eq!(resumed(&hub, &topic, 2), Some(vec![]));
}

#[test]
fn a_game_that_changed_its_type_still_counts_for_its_former_type() {
    let (hub, publisher) = hub(2);
    let of = |id, kind: &str| {
        let captured = live(id, 1);
        Captured { round: Round { game_type: kind.into(), ..captured.round }, ..captured }
    };
    publisher.publish(vec![live(1, 3), of(2, "odd"), of(3, "odd"), of(4, "new"), of(5, "new")]);
    let odd = Topic::kind("odd");
    assert_eq!(resumed(&hub, &odd, 1), None, "2 and 3 are evicted");
    assert!(hub.missed(&odd, &Later::all_after(Position(1)), 10).is_none());
    assert!(!hub.continues(&odd, Position(1)) && hub.continues(&odd, Position(3)));
    assert_eq!(resumed(&hub, &Topic::kind("new"), 4), Some(vec![5]));
}

#[test]
fn a_round_older_than_the_outbox_resumes_its_own_game_only() {
    let (hub, publisher) = hub(8);
    publisher.preload(
        vec![captured(5, 2, 10, 10)],
        vec![live(1, 1).round, live(5, 2).round],
        Xid(0),
    );
    publisher.publish(vec![live(6, 1)]);
    assert_eq!(resumed(&hub, &Topic::game(GameId::number(1)), 1), Some(vec![6]));
    assert_eq!(resumed(&hub, &Topic::Everything, 1), None);
}

#[test]
fn a_replay_ends_in_the_order_of_the_stream() {
    let (hub, publisher) = hub(2);
    let topic = Topic::Everything;
    // 9 committed late: its transaction is older than 10's, its position later.
    publisher.publish(vec![live(7, 1), live(10, 1), live(9, 1), live(2, 2)]);
    let (oldest_running, snapshot) = (Xid(11), "11:11:".into());
    publisher.set_durable_position(DurablePosition {
        oldest_running,
        snapshot,
        position: publisher.position(),
    });
    publisher.publish(vec![live(11, 2)]);
    let durable = hub.durable_position();
    assert_eq!((durable.oldest_running, durable.position), (Xid(11), Position(4)));
    assert!(hub.continues(&topic, durable.position));
    let end = |from| {
        let (seen, rounds, known) = (durable.position, StoredPart::default(), vec![]);
        let replay = Replay { from: Xid(from), seen, rounds, known };
        let opened = hub.subscribe(&topic, Start::Replayed(replay), 10);
        let Some((Opening::Resumed(resumed), _)) = opened else {
            panic!("not in the ring buffers")
        };
        resumed_ids(&resumed)
    };
    assert_eq!(end(7), [10, 9, 11], "7 is evicted, and 2 is of an older transaction");
    let known = vec![live(10, 1).finish()];
    let older = stored(&[live(7, 1), live(9, 1)]);
    let replay = || Replay {
        from: Xid(7),
        seen: durable.position,
        rounds: older.clone(),
        known: known.clone(),
    };
    let opened = hub.subscribe(&topic, Start::Replayed(replay()), 10);
    let Some((Opening::Resumed(resumed), mut subscription)) = opened else {
        panic!("not in the ring buffers")
    };
    assert_eq!(
        resumed_ids(&resumed),
        [7, 9, 11],
        "rounds of the ring buffers come last, without the named one"
    );
    publisher.publish(vec![live(12, 1), live(13, 1), live(14, 1)]);
    assert_eq!(drain(&mut subscription).0, [12, 13, 14]);
    assert!(!hub.continues(&topic, durable.position), "12 is evicted before it is durable");
    assert!(hub.subscribe(&topic, Start::Replayed(replay()), 10).is_none());
}

#[test]
fn more_rounds_than_the_limit_are_a_gap() {
    let (hub, publisher) = hub(8);
    publisher.publish(vec![live(1, 1), live(2, 1), live(3, 1)]);
    let after = |limit| {
        let opened = hub.subscribe(&Topic::Everything, Start::After(RoundId::number(1)), limit);
        opened.map(|(opening, _)| opening)
    };
    assert!(matches!(after(2), Some(Opening::Resumed(resumed)) if ids(&resumed.frames) == [2, 3]));
    assert!(matches!(after(1), Some(Opening::Gap(seeds)) if ids(&seeds.frames) == [3]));
}

#[test]
fn rounds_of_many_games_keep_the_order_of_the_stream_at_any_limit() {
    let (hub, publisher) = hub(64);
    // Of 7 games, some often and some rarely, each in runs.
    let games: Vec<i64> =
        (0..200).map(|id| [0, 1, 1, 3, 6, 2, 0, 1, 5, 4, 4, 0][id % 12]).collect();
    let rounds: Vec<_> = (1..).zip(&games).map(|(id, game)| live(id, *game)).collect();
    publisher.publish(rounds.clone());
    for topic in [Topic::Everything, Topic::kind("odd"), Topic::game(GameId::number(4))] {
        let of_topic = rounds.iter().filter(|captured| topic.matches(&captured.round));
        let all: Vec<i64> = of_topic.map(|captured| captured.round.round_id.columns().0).collect();
        for most in [0, 1, 2, 5, 20, all.len(), usize::MAX] {
            let missed = hub.missed(&topic, &Later::all_after(Position(100)), most);
            let missed = missed.expect("in the ring buffers");
            let later = all.iter().filter(|id| **id > 100).count();
            let expected: Vec<_> = all.iter().copied().filter(|id| *id > 100).take(most).collect();
            let ids = missed.rounds.iter().map(|placed| placed.finish.round.columns().0);
            assert_eq!(ids.collect::<Vec<_>>(), expected);
            assert_eq!(missed.whole.is_some(), later <= most);
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Publish(Vec<i64>),
    Subscribe(usize),
    Drain(usize),
    Reconnect(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => prop::collection::vec(0_i64..4, 1..5).prop_map(Step::Publish),
        1 => (0_usize..4).prop_map(Step::Subscribe),
        2 => (0_usize..8).prop_map(Step::Drain),
        1 => (0_usize..8).prop_map(Step::Reconnect),
    ]
}

struct Client {
    topic: Topic,
    subscription: Subscription,
    /// The rounds it got, without the seed.
    seen: Vec<i64>,
    /// The last round it got, the seed included.
    last: Option<i64>,
    /// How many rounds had been published when it connected.
    from: usize,
}

proptest! {
    #[test]
    fn every_subscriber_sees_each_later_round_of_its_topic_once_and_in_order(
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let topics = [Topic::Everything, Topic::game(GameId::number(1)), Topic::kind("odd"), Topic::kind("even")];
        let (hub, publisher) = hub(1024);
        let (mut log, mut clients) = (Vec::<Captured>::new(), Vec::<Client>::new());
        for step in steps {
            match step {
                Step::Publish(games) => {
                    let first = log.len();
                    for game in games {
                        log.push(live(i64::try_from(log.len()).expect("small") + 1, game));
                    }
                    publisher.publish(log[first..].to_vec());
                }
                Step::Subscribe(topic) => {
                    let topic = topics[topic].clone();
                    let (seed, subscription) = seed(&hub, &topic);
                    let last = seed.map(|frame| frame.round_id().columns().0);
                    clients.push(Client { topic, subscription, seen: vec![], last, from: log.len() });
                }
                Step::Drain(index) => {
                    if let Some(client) = clients.get_mut(index) {
                        let (seen, cut) = drain(&mut client.subscription);
                        prop_assert!(!cut);
                        client.last = seen.last().copied().or(client.last);
                        client.seen.extend(seen);
                    }
                }
                Step::Reconnect(index) => {
                    if let Some(client) = clients.get_mut(index) && let Some(last) = client.last {
                        let start = Start::After(RoundId::number(last));
                        let opened = hub.subscribe(&client.topic, start, usize::MAX);
                        let Some((Opening::Resumed(resumed), subscription)) = opened else {
                            return Err(TestCaseError::fail("not in the ring buffers"));
                        };
                        client.subscription = subscription;
                        let frames = resumed_ids(&resumed);
                        client.last = frames.last().copied().or(client.last);
                        client.seen.extend(frames);
                    }
                }
            }
        }
        for client in &mut clients {
            client.seen.extend(drain(&mut client.subscription).0);
            let expected: Vec<i64> = log[client.from..].iter()
                .filter(|captured| client.topic.matches(&captured.round))
                .map(|captured| captured.round.round_id.columns().0).collect();
            prop_assert_eq!(&client.seen, &expected);
        }
    }
}
