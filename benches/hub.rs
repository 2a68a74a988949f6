//! What it costs to publish a round when many topics have subscribers, to find a topic's seed, and to
//! answer who is far behind.

mod rounds;

use std::{hint::black_box, num::NonZeroUsize};

use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use datastream::internals::{
    Attachment, Metrics, Xid,
    hub::{self, Captured, Hub, Later, Position, Publisher, Start, Subscription},
    round::{GameId, RoundId},
    topic::Topic,
};

const TOPICS: [i64; 3] = [1, 100, 10_000];

/// A hub with a round of each game, and a subscriber to each game.
fn hub(games: i64) -> (Hub, Publisher, Vec<Subscription>) {
    let (hub, publisher) = hub::new(NonZeroUsize::MIN.saturating_add(63), Metrics::default());
    publisher.publish((0..games).map(|game| captured(game, game)).collect());
    publisher.open();
    let opened = |game| hub.subscribe(&Topic::game(GameId::number(game)), Start::Seed, 0);
    let subscriptions = (0..games).filter_map(opened).map(|opened| opened.1).collect();
    (hub, publisher, subscriptions)
}

fn captured(game: i64, round: i64) -> Captured {
    Captured {
        round: rounds::round(game, round, r#"{"point": "11.72"}"#),
        xid: Xid(round.unsigned_abs()),
        before: Xid(round.unsigned_abs()),
        attachment: Attachment(0),
        poll: 0,
        at: None,
        recorded: None,
    }
}

fn publish(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("publish");
    for topics in TOPICS {
        let (_hub, publisher, _subscriptions) = hub(topics);
        let mut round = topics;
        group.bench_function(BenchmarkId::new("topics", topics), |bencher| {
            let next = || {
                round += 1;
                vec![captured(round % topics, round)]
            };
            bencher.iter_batched(next, |rounds| publisher.publish(rounds), BatchSize::SmallInput);
        });
    }
    group.finish();
}

fn seed(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("seed and subscribe");
    for topics in TOPICS {
        let (hub, _publisher, _subscriptions) = hub(topics);
        let topic = Topic::game(GameId::number(topics / 2));
        group.bench_function(BenchmarkId::new("topics", topics), |bencher| {
            bencher.iter(|| hub.subscribe(black_box(&topic), Start::Seed, 0));
        });
    }
    group.finish();
}

/// What a slow reader, or one that resumes, holds the hub's lock for: one portion of all that a full
/// memory has, and a resume that is too long.
fn slow(criterion: &mut Criterion) {
    const GAMES: i64 = 100;
    const HISTORY: NonZeroUsize = NonZeroUsize::MIN.saturating_add(1023);
    let (hub, publisher) = hub::new(HISTORY, Metrics::default());
    let rounds = 0..GAMES * 1024;
    publisher.publish(rounds.map(|round| captured(round % GAMES, round)).collect());
    publisher.open();
    let mut group = criterion.benchmark_group("a full memory");
    group.bench_function("a portion for a slow reader", |bencher| {
        bencher.iter(|| {
            hub.missed(black_box(&Topic::Everything), &Later::all_after(Position(0)), 1024)
        });
    });
    group.bench_function("a resume beyond the limit", |bencher| {
        let after = || Start::After(RoundId::number(0));
        bencher.iter(|| hub.subscribe(black_box(&Topic::Everything), after(), 10_000));
    });
    group.bench_function("a resume of all", |bencher| {
        let after = || Start::After(RoundId::number(0));
        bencher.iter(|| hub.subscribe(black_box(&Topic::Everything), after(), usize::MAX));
    });
    group.finish();
}

criterion_group!(benches, publish, seed, slow);
criterion_main!(benches);
