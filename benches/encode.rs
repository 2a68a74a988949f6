//! What it costs to encode a round: once each, whatever the number of subscribers.

mod rounds;

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use datastream::internals::frame::Frame;

fn encode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("encode");
    let long = format!(r#"{{"cards": "{}"}}"#, "ace of spades, ".repeat(1_300));
    for (name, extras) in [("usual", r#"{"point": "11.72"}"#), ("20 kB of extras", &long)] {
        let round = rounds::round(1, 512, extras);
        group.throughput(Throughput::Bytes(Frame::encode(&round).json().len() as u64));
        group.bench_function(name, |bencher| bencher.iter(|| Frame::encode(black_box(&round))));
    }
    group.finish();
}

criterion_group!(benches, encode);
criterion_main!(benches);
