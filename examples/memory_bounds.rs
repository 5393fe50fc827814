//! Measures what the memory store promises about its size: what ten million idle counters take; that a flood of fifty
//! million distinct keys neither grows it nor touches the counts of others; how long growth and sweep hold a shard. Run
//! with `cargo run --release --example memory_bounds -- idle|flood|hold [MILLIONS]`; fails if a promise is broken. With
//! `fill [MILLIONS] DIR` it makes a state directory whose snapshot has so many counters, for a server to be measured with.

use std::{
    fs,
    path::Path,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::Duration,
};

use tollgate::{
    clock,
    limit::{Algorithm, Cost, Entry, Limit, Micros, Reading, SECOND, UnixMicros},
    store::{
        CounterCheck, Gate, Key, Role,
        memory::{Memory, MemorySettings, snapshot::Snapshots},
    },
};

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const MILLION: u64 = 1_000_000;
const NOW: UnixMicros = UnixMicros(1_800_000_000_123_456);

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let given = args.get(1).map(|number| number.parse::<u64>().expect("a number of millions") * MILLION);
    match args.first().map(String::as_str) {
        Some("idle") => idle(given.unwrap_or(10 * MILLION)),
        Some("flood") => flood(given.unwrap_or(50 * MILLION)),
        Some("hold") => hold(),
        Some("fill") => {
            let directory = args.get(2).expect("fill MILLIONS DIR");
            fill(given.unwrap_or(10 * MILLION), Path::new(directory));
        }
        _ => eprintln!("usage: memory_bounds idle|flood|hold [MILLIONS], or fill MILLIONS DIR"),
    }
}

/// One user's ask. The limit is 10 an hour.
fn put(memory: &Memory, rule: u32, user: u64, hits: i64, now: UnixMicros) -> Reading {
    let value = format!("{user:012}");
    let domain = rule.to_string();
    let entries = [Entry { key: "user", value: &value }];
    let key = Key { domain: &domain, entries: &entries, shared: &[], limit_name: "", variable: 0 };
    let limit = Limit::new(10, Micros(3_600 * SECOND.0), Algorithm::SlidingWindow);
    let cost = Cost { hits, charge_denied: false };
    memory.apply(&[CounterCheck { key, rule, limit, cost, role: Role::Enforced }], Gate::default(), now)[0]
}

/// A snapshot as a server leaves it that was asked once about `tenant=t,user=u0` and so on, of domain `bench`, by limits
/// of an hour.
fn fill(users: u64, directory: &Path) {
    let memory = Memory::new(MemorySettings { max_bytes: users * 200 });
    let now = clock::now();
    for user in 0..users {
        let value = format!("u{user}");
        let entries = [Entry { key: "tenant", value: "t" }, Entry { key: "user", value: &value }];
        let key = Key { domain: "bench", entries: &entries, shared: &[], limit_name: "", variable: 0 };
        let limit = Limit::new(1_000_000, Micros(3_600 * SECOND.0), Algorithm::SlidingWindow);
        let cost = Cost { hits: 1, charge_denied: false };
        memory.apply(&[CounterCheck { key, rule: 1, limit, cost, role: Role::Enforced }], Gate::default(), now);
    }
    let snapshots = Snapshots::open(directory).expect("nobody else uses the directory");
    let counters = snapshots.save(&memory).expect("there is space");
    assert_eq!((counters, memory.overflow_hits()), (users, 0), "there is room for all");
    println!("{counters} counters in {}", directory.display());
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

/// How long a shard is held at most, in a store whose shards are those of the default one but fewer. Every round has
/// the same hash keys, so the same operations grow the same tables, and of each the quickest of all rounds tells: what
/// else runs on the machine only adds.
fn hold() {
    const USERS: usize = 80_000;
    const SHARDS: u32 = 64;
    let settings = MemorySettings { max_bytes: 8 << 20 };
    let directory = tempfile::tempdir().expect("a place for snapshots");
    let snapshots = Snapshots::open(directory.path()).expect("nobody else knows the directory");
    snapshots.save(&Memory::new(settings)).expect("there is space");
    let (mut decisions, mut sweeps) = (vec![Duration::MAX; USERS], Vec::new());
    for round in 0..30 {
        let (memory, _) = snapshots.load(settings, NOW).expect("it was just written");
        for (user, quickest) in decisions.iter_mut().enumerate() {
            *quickest = timed(|| _ = put(&memory, 1, user as u64, 1, NOW)).min(*quickest);
        }
        let later = UnixMicros(NOW.0 + 2 * 3_600 * SECOND.0);
        for sweep in 0.. {
            if memory.counters() == 0 {
                break;
            }
            if round == 0 {
                sweeps.push(Duration::MAX);
            }
            sweeps[sweep] = timed(|| _ = memory.sweep(later, 512)).min(sweeps[sweep]);
        }
    }
    let (decision, sweep) =
        (decisions.into_iter().max().unwrap_or_default(), sweeps.into_iter().max().unwrap_or_default());
    println!(
        "the longest decision while {SHARDS} shards grow to {} counters each: {decision:.2?}",
        USERS as u32 / SHARDS
    );
    println!("the longest sweep of 512 counters, all expired: {sweep:.2?}");
    assert!(decision.max(sweep) < Duration::from_millis(1));
}

fn timed(run: impl FnOnce()) -> Duration {
    let started = clock::instant();
    run();
    started.elapsed()
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
