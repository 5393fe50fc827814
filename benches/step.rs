//! What one step of each algorithm costs by itself: `cargo bench --bench step`.

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use tollgate::{
    algorithm::{State, step},
    limit::{Algorithm, Cost, Limit, SECOND, UnixMicros},
};

const NOW: u64 = 1_763_707_000_000_000;
const HIT: Cost = Cost { hits: 1, charge_denied: false };

/// 1,000 a second: a sub-window of 31,250 µs, a hit's worth of a bucket every 1,000 µs.
fn limit(algorithm: Algorithm) -> Limit {
    Limit::new(1_000, SECOND, algorithm)
}

/// A counter that was hit evenly for two windows, `every` µs.
fn busy(limit: &Limit, every: u64) -> State {
    let times = (NOW - 2 * SECOND.0..NOW).step_by(every as usize);
    times.fold(State::Empty, |state, now| step(limit, state, HIT, UnixMicros(now)).0)
}

/// Hits that come at the rate of the limit, so that every algorithm admits, turns and forgets as it goes.
fn admitted(c: &mut Criterion) {
    let mut group = c.benchmark_group("admitted");
    for algorithm in Algorithm::ALL {
        let limit = limit(algorithm);
        let (mut state, mut now) = (busy(&limit, 2_000), NOW);
        group.bench_function(algorithm.name(), |b| {
            b.iter(|| {
                now += 2_000;
                let (next, reading) = step(&limit, std::mem::take(&mut state), HIT, UnixMicros(now));
                state = next;
                reading
            });
        });
    }
}

/// A counter that is full: the time until there is room must be found.
fn refused(c: &mut Criterion) {
    let mut group = c.benchmark_group("refused");
    for algorithm in Algorithm::ALL {
        let limit = limit(algorithm);
        // All but a few hits must leave before this passes.
        let cost = Cost { hits: if limit.burst == 1 { 1 } else { 990 }, charge_denied: false };
        let mut state = busy(&limit, 1_001);
        group.bench_function(algorithm.name(), |b| {
            b.iter(|| {
                let (next, reading) = step(&limit, std::mem::take(&mut state), cost, UnixMicros(NOW));
                state = next;
                reading
            });
        });
    }
}

/// As the Redis twin and the snapshots use it.
fn packed(c: &mut Criterion) {
    let mut group = c.benchmark_group("encode and decode");
    for algorithm in Algorithm::ALL {
        let state = busy(&limit(algorithm), 1_001);
        group.bench_function(algorithm.name(), |b| {
            let pack = |mut bytes: Vec<u8>| {
                state.encode(&mut bytes);
                State::decode(&bytes, algorithm)
            };
            b.iter_batched(|| Vec::with_capacity(16 * 1024), pack, BatchSize::SmallInput);
        });
    }
}

criterion_group!(benches, admitted, refused, packed);
criterion_main!(benches);
