//! What a decision of the memory store costs, and how often it allocates: a key that is in the cache, one that isn't,
//! one that is new, a refusal, three counters at once. Run with `cargo bench --bench memory`.

use std::{
    hint::black_box,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use criterion::{Criterion, criterion_group, criterion_main};
use tollgate::{
    limit::{Algorithm, Cost, Entry, Limit, Micros, SECOND, UnixMicros},
    store::{
        CounterCheck, Gate, Key, Role,
        memory::{Memory, MemorySettings},
    },
};

/// A year starts here, and each decision is 1 µs later than the one before.
const START: u64 = 1_800_000_000_000_000;
/// Far more than a cache holds.
const COLD_KEYS: u64 = 1_000_000;

struct Bench {
    memory: Memory,
    clock: AtomicU64,
}

impl Bench {
    fn new() -> Bench {
        let memory = Memory::new(MemorySettings { max_bytes: 4 << 30 });
        Bench { memory, clock: AtomicU64::new(START) }
    }

    fn apply(&self, checks: &[CounterCheck<'_>]) {
        let now = UnixMicros(self.clock.fetch_add(1, Relaxed));
        black_box(self.memory.apply(black_box(checks), Gate::default(), now));
    }

    /// One user's counter, as a rule on key `user` asks for it.
    fn user(&self, user: u64, limit: Limit) {
        let (mut digits, mut left) = ([b'0'; 12], user);
        for digit in digits.iter_mut().rev() {
            *digit = b'0' + (left % 10) as u8;
            left /= 10;
        }
        let value = str::from_utf8(&digits).expect("digits are text");
        self.apply(&[ask(&[Entry { key: "user", value }], limit)]);
    }
}

fn per_hour(requests: u32, algorithm: Algorithm) -> Limit {
    Limit::new(requests, Micros(3_600 * SECOND.0), algorithm)
}

fn ask<'a>(entries: &'a [Entry<'a>], limit: Limit) -> CounterCheck<'a> {
    let key = Key { domain: "api", entries, shared: &[], limit_name: "", variable: 0 };
    CounterCheck { key, rule: 1, limit, cost: Cost { hits: 1, charge_denied: false }, role: Role::Enforced }
}

/// Times `decide`, after saying how often it allocates.
fn measure(criterion: &mut Criterion, name: &str, mut decide: impl FnMut()) {
    const RUNS: u32 = 10_000;
    decide();
    let allocated = allocation_counter::measure(|| (0..RUNS).for_each(|_| decide()));
    println!("{name}: {:.3} allocations a decision", allocated.count_total as f64 / f64::from(RUNS));
    criterion.bench_function(name, |bencher| bencher.iter(&mut decide));
}

fn one_key(criterion: &mut Criterion) {
    for algorithm in Algorithm::ALL {
        // A log that fills holds each hit; its limit is what bounds what is measured.
        let requests = if algorithm == Algorithm::SlidingLog { 1_000 } else { u32::MAX };
        let (bench, limit) = (Bench::new(), Limit { burst: u32::MAX, ..per_hour(requests, algorithm) });
        measure(criterion, &format!("one hot key, {}", algorithm.name()), || bench.user(1, limit));
    }
    let bench = Bench::new();
    measure(criterion, "one hot key, refused", || bench.user(1, per_hour(5, Algorithm::SlidingWindow)));
}

fn many_keys(criterion: &mut Criterion) {
    let (bench, limit) = (Bench::new(), per_hour(u32::MAX, Algorithm::SlidingWindow));
    (0..COLD_KEYS).for_each(|user| bench.user(user, limit));
    let mut user = 0;
    measure(criterion, "one of a million keys", || {
        // A stride without a common factor visits all, each far from the one before.
        user = (user + 618_033) % COLD_KEYS;
        bench.user(user, limit);
    });

    let (bench, mut user) = (Bench::new(), 0);
    measure(criterion, "a new key", || {
        user += 1;
        bench.user(user, limit);
    });
}

fn three_counters(criterion: &mut Criterion) {
    let bench = Bench::new();
    let entries = [
        [Entry { key: "user", value: "alice" }],
        [Entry { key: "endpoint", value: "/checkout" }],
        [Entry { key: "tenant", value: "acme" }],
    ];
    let wide = per_hour(u32::MAX, Algorithm::SlidingWindow);
    let admitted = [ask(&entries[0], wide), ask(&entries[1], wide), ask(&entries[2], wide)];
    measure(criterion, "three counters, admitted", || bench.apply(&admitted));
    let bench = Bench::new();
    let denied = [admitted[0], admitted[1], ask(&entries[2], per_hour(0, Algorithm::SlidingWindow))];
    measure(criterion, "three counters, one refuses", || bench.apply(&denied));
}

criterion_group!(benches, one_key, many_keys, three_counters);
criterion_main!(benches);
