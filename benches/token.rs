//! The processor time of a token check: header, search for the key, signature, claims.

#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    fs,
    hint::black_box,
    time::{Duration, Instant},
};

use criterion::{Criterion, criterion_group, criterion_main};

use datastream::internals::tokens::Verifier;
use testkit::{
    Signer,
    token::{jwk_set, opens},
};

/// The time that this thread has run: on a busy machine, it also waits. `None` outside Linux.
fn processor_time() -> Option<Duration> {
    let times = fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    times.split(' ').next()?.parse().ok().map(Duration::from_nanos)
}

/// The processor time of this work, or the time it took.
fn measured(work: impl FnOnce()) -> Duration {
    let (begun, before) = (Instant::now(), processor_time());
    work();
    match (before, processor_time()) {
        (Some(before), Some(after)) => after.saturating_sub(before),
        _ => begun.elapsed(),
    }
}

fn verify(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("token");
    let secret = Signer::hs256("a secret of at least 32 bytes for this benchmark");
    for signer in [secret, Signer::rs256(), Signer::es256(), Signer::eddsa()] {
        let signer = signer.named("the key");
        let keys = Verifier::read(jwk_set([&signer]).as_bytes(), false).expect("keys");
        let token = signer.token(&opens(&["game:crash", "type:color"]));
        assert!(keys.accepts(token.as_bytes()));
        group.bench_function(signer.algorithm(), |bencher| {
            bencher.iter_custom(|times| {
                measured(|| {
                    (0..times).for_each(|_| {
                        black_box(keys.accepts(black_box(token.as_bytes())));
                    });
                })
            });
        });
    }
    group.finish();
}

criterion_group!(benches, verify);
criterion_main!(benches);
