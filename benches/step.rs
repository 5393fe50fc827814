//! What one step of each algorithm costs by itself, and how often it allocates: `cargo bench --bench step`.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
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

/// Times `run` for an algorithm, after saying how often it allocates.
fn measure(c: &mut Criterion, what: &str, algorithm: Algorithm, mut run: impl FnMut()) {
    const RUNS: u32 = 10_000;
    let name = format!("{what}, {}", algorithm.name());
    run();
    let allocated = allocation_counter::measure(|| (0..RUNS).for_each(|_| run()));
    println!("{name}: {:.3} allocations", allocated.count_total as f64 / f64::from(RUNS));
    c.bench_function(&name, |b| b.iter(&mut run));
}

/// Hits that come at the rate of the limit, so that every algorithm admits, turns and forgets as it goes.
fn admitted(c: &mut Criterion) {
    for algorithm in Algorithm::ALL {
        let limit = limit(algorithm);
        let (mut state, mut now) = (busy(&limit, 2_000), NOW);
        measure(c, "admitted", algorithm, || {
            now += 2_000;
            let (next, reading) = step(&limit, std::mem::take(&mut state), HIT, UnixMicros(now));
            state = next;
            black_box(reading);
        });
    }
}

/// A counter that is full: the time until there is room must be found.
fn refused(c: &mut Criterion) {
    for algorithm in Algorithm::ALL {
        let limit = limit(algorithm);
        // All but a few hits must leave before this passes.
        let cost = Cost { hits: if limit.burst == 1 { 1 } else { 990 }, charge_denied: false };
        let mut state = busy(&limit, 1_001);
        measure(c, "refused", algorithm, || {
            let (next, reading) = step(&limit, std::mem::take(&mut state), black_box(cost), UnixMicros(NOW));
            state = next;
            black_box(reading);
        });
    }
}

/// As the Redis twin and the snapshots use it.
fn packed(c: &mut Criterion) {
    for algorithm in Algorithm::ALL {
        let state = busy(&limit(algorithm), 1_001);
        let mut bytes = Vec::with_capacity(16 * 1024);
        measure(c, "encode and decode", algorithm, || {
            bytes.clear();
            state.encode(&mut bytes);
            black_box(State::decode(&bytes, algorithm));
        });
    }
}

criterion_group!(benches, admitted, refused, packed);
criterion_main!(benches);
