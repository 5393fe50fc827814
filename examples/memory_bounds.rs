//! Measures what the memory store promises about its size: what ten million idle counters take, and that a flood of
//! fifty million distinct keys neither grows it nor touches the counts of others. Run with
//! `cargo run --release --example memory_bounds [idle MILLIONS] [flood MILLIONS]`; fails if a promise is broken.

use std::{
    fs,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::Duration,
};

use tollgate::{
    clock,
    limit::{Algorithm, Cost, Entry, Limit, Micros, Reading, SECOND, UnixMicros},
    store::{
        Ask, Gate, Key, Role,
        memory::{Memory, MemorySettings},
    },
};

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const MILLION: u64 = 1_000_000;
const NOW: UnixMicros = UnixMicros(1_800_000_000_123_456);

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let millions = |what: &str, or: u64| {
        let given = args.iter().skip_while(|arg| *arg != what).nth(1);
        given.map_or(or, |number| number.parse().expect("a number of millions")) * MILLION
    };
    idle(millions("idle", 10));
    flood(millions("flood", 50));
}

/// One user's ask. The limit is 10 an hour.
fn put(memory: &Memory, rule: u32, user: u64, hits: i64, now: UnixMicros) -> Reading {
    let value = format!("{user:012}");
    let domain = rule.to_string();
    let entries = [Entry { key: "user", value: &value }];
    let key = Key { domain: &domain, entries: &entries, shared: &[], limit_name: "", variable: 0 };
    let limit = Limit::new(10, Micros(3_600 * SECOND.0), Algorithm::SlidingWindow);
    let cost = Cost { hits, charge_denied: false };
    memory.apply(&[Ask { key, rule, limit, cost, role: Role::Enforced }], Gate::default(), now)[0]
}

/// What one counter takes, at every size on the way, because tables grow in steps.
fn idle(users: u64) {
    let before = resident();
    let memory = Memory::new(MemorySettings { max_bytes: users * 100 });
    println!("{:>12} {:>15} {:>17}", "counters", "counted B each", "resident B each");
    let mut worst = 0.0f64;
    for user in 0..users {
        put(&memory, 1, user, 1, NOW);
        let created = user + 1;
        if created >= users / 10 && created % (users / 20) == 0 {
            let each = (resident() - before) as f64 / created as f64;
            println!("{created:>12} {:>15.1} {each:>17.1}", memory.bytes() as f64 / created as f64);
            worst = worst.max(each);
        }
    }
    assert_eq!(memory.counters(), users);
    assert!(worst <= 100.0, "a counter takes {worst} B");
    let started = clock::instant();
    let later = UnixMicros(NOW.0 + 2 * 3_600 * SECOND.0);
    // To the end of each shard, then from its start: creations left the sweep somewhere inside.
    let swept = memory.sweep(later, usize::MAX) + memory.sweep(later, usize::MAX);
    println!("swept {swept} expired counters in {:.2?}; {} bytes are counted now\n", started.elapsed(), memory.bytes());
    assert_eq!((memory.counters(), memory.bytes()), (0, 0));
}

/// A flood on one rule while users of others go on.
fn flood(keys: u64) {
    const USERS: u64 = 100_000;
    let before = resident();
    let memory = Memory::new(MemorySettings::default());
    (0..USERS).for_each(|user| _ = put(&memory, 1, user, 7, NOW));
    let is_over = AtomicBool::new(false);
    let took = thread::scope(|threads| {
        let sweeper = threads.spawn(|| {
            while !is_over.load(Relaxed) {
                memory.sweep(NOW, memory.sweep_share());
                thread::sleep(Duration::from_millis(100));
            }
        });
        let took = pour(&memory, keys, before);
        is_over.store(true, Relaxed);
        sweeper.join().expect("the sweeper only sweeps");
        took
    });
    println!("one decision of the flood: {took}");
    assert!(memory.bytes() <= MemorySettings::default().max_bytes);
    let kept = (0..USERS).filter(|&user| put(&memory, 1, user, 0, NOW).remaining == 3).count() as u64;
    let came = (0..USERS).filter(|&user| put(&memory, 3, user, 1, NOW).remaining == 9).count() as u64;
    println!("{kept} of {USERS} users kept their counts; {came} of {USERS} newcomers of another rule got their own");
    assert_eq!((kept, came), (USERS, USERS));
}

/// Puts `keys` new keys; returns how long decisions took.
fn pour(memory: &Memory, keys: u64, resident_before: u64) -> String {
    println!("{:>12} {:>12} {:>12} {:>12} {:>14}", "keys", "counters", "counted MB", "resident MB", "overflow hits");
    // By powers of two of nanoseconds.
    let mut took = [0u64; 64];
    let (mut worst, mut half) = (Duration::ZERO, 0);
    for key in 0..keys {
        let started = clock::instant();
        put(memory, 2, key, 1, UnixMicros(NOW.0 + key));
        let spent = started.elapsed();
        took[spent.as_nanos().max(1).ilog2() as usize] += 1;
        worst = worst.max(spent);
        if (key + 1) % (keys / 10) == 0 {
            let resident = resident().saturating_sub(resident_before);
            let (counted, hits) = (memory.bytes() / MILLION, memory.overflow_hits());
            println!("{:>12} {:>12} {counted:>12} {:>12} {hits:>14}", key + 1, memory.counters(), resident / MILLION);
            if key + 1 == keys / 2 {
                half = resident;
            }
            assert!(half == 0 || resident <= half + half / 50, "the flood makes the store grow");
        }
    }
    let beyond: u64 = took[20..].iter().sum();
    format!("{beyond} of {keys} took 1 ms or more, the longest {worst:.2?}")
}

/// Resident memory of this process in bytes, as the kernel counts it.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("Linux says how much memory a process has");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a process has resident memory");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number of kB") * 1024
}
