//! What it costs a subscriber to take the rounds that wait for it and to join them for one write.

mod rounds;

use std::num::NonZeroUsize;

use bytes::BytesMut;
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use datastream::internals::{
    Attachment, Metrics, Xid,
    hub::{self, Captured, Delivery, Hub, Publisher, Start, Subscription},
    round::GameId,
    topic::Topic,
};

fn captured(round: i64) -> Captured {
    Captured {
        round: rounds::round(1, round, r#"{"point": "11.72"}"#),
        xid: Xid(round.unsigned_abs()),
        before: Xid(round.unsigned_abs()),
        attachment: Attachment(0),
        poll: 0,
        at: None,
        recorded: None,
    }
}

/// A subscriber for whom so many rounds wait, each published on its own.
fn waiting(hub: &Hub, publisher: &Publisher, rounds: i64) -> Option<Subscription> {
    let opened = hub.subscribe(&Topic::game(GameId::number(1)), Start::Seed, 0);
    (0..rounds).for_each(|round| publisher.publish(vec![captured(round)]));
    opened.map(|(_, subscription)| subscription)
}

fn take_and_join(subscription: Option<Subscription>) -> usize {
    let delivery = subscription.and_then(|mut subscription| subscription.try_next());
    let Some(Delivery::Rounds(frames)) = delivery else { return 0 };
    let mut joined = BytesMut::new();
    frames.iter().for_each(|frame| joined.extend_from_slice(&frame.message_event()));
    joined.len()
}

fn join(criterion: &mut Criterion) {
    let (hub, publisher) = hub::new(NonZeroUsize::MIN.saturating_add(255), Metrics::default());
    let mut group = criterion.benchmark_group("take and join");
    for rounds in [1, 8, 64] {
        group.throughput(Throughput::Elements(rounds));
        let setup = || waiting(&hub, &publisher, rounds as i64);
        group.bench_function(BenchmarkId::new("rounds", rounds), |bencher| {
            // One at a time: what one setup publishes would wait for the others' subscribers too.
            bencher.iter_batched(setup, take_and_join, BatchSize::PerIteration);
        });
    }
    group.finish();
}

criterion_group!(benches, join);
criterion_main!(benches);
