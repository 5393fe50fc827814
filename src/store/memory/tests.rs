//! The bounds of the memory store: who gets a counter when there is little room, what happens to those who don't,
//! and what the sweep takes away.

use super::*;
use crate::{
    limit::{Algorithm, Cost, Entry, Limit, Reading},
    store::{Key, Role},
};

const NOW: UnixMicros = UnixMicros(1_800_000_000_123_456);
const MINUTE: Micros = Micros(60 * SECOND.0);
const MAX: u64 = 1 << 20;

fn small() -> Memory {
    Memory::new(MemorySettings { max_bytes: MAX })
}

/// What is asked about the counter of one user of one rule.
fn with_ask<T>(rule: u32, user: u64, limit: Limit, hits: i64, put: impl FnOnce(&CounterCheck<'_>) -> T) -> T {
    let (domain, value) = (rule.to_string(), user.to_string());
    let entries = [Entry { key: "user", value: &value }];
    let key = Key {
        domain: &domain,
        entries: &entries,
        shared: &[],
        limit_name: if rule == 1 { "" } else { "x" },
        variable: 0,
    };
    let cost = Cost { hits, charge_denied: false };
    put(&CounterCheck { key, rule, limit, cost, role: Role::Enforced })
}

/// Puts `hits` to it.
fn put(memory: &Memory, rule: u32, user: u64, limit: Limit, hits: i64, now: UnixMicros) -> Reading {
    with_ask(rule, user, limit, hits, |check| memory.apply(&[*check], Gate::default(), now)[0])
}

/// What it holds.
fn held(memory: &Memory, rule: u32, user: u64, limit: Limit, now: UnixMicros) -> f64 {
    with_ask(rule, user, limit, 0, |check| memory.state(check, now).contents(&limit, now).hits)
}

fn per_minute(requests: u32) -> Limit {
    Limit::new(requests, MINUTE, Algorithm::FixedWindow)
}

/// New users of a rule until they no longer find room; returns how many found some.
fn flood(memory: &Memory, rule: u32, users: std::ops::Range<u64>) -> u64 {
    let before = (memory.counters(), memory.overflow_hits());
    let asked = users.end - users.start;
    users.for_each(|user| _ = put(memory, rule, user, per_minute(1_000_000), 1, NOW));
    asked - (memory.overflow_hits() - before.1)
}

#[test]
fn flood_stops_at_the_bound_and_existing_users_keep_their_counts() {
    let memory = small();
    for user in 0..1_000 {
        put(&memory, 1, user, per_minute(10), 7, NOW);
    }
    let created = flood(&memory, 2, 20_000..40_000);
    assert!(created > 5_000, "{created}");
    let bytes = memory.bytes();
    flood(&memory, 2, 60_000..80_000);
    assert!(memory.bytes() <= bytes + MAX / 1_000, "a flood that found no room made the store grow");
    assert!(bytes <= MAX);
    assert!((0..1_000).all(|user| put(&memory, 1, user, per_minute(10), 0, NOW).remaining == 3));
}

#[test]
fn rule_that_is_not_alone_gets_at_most_half() {
    let memory = small();
    put(&memory, 1, 0, per_minute(10), 1, NOW);
    let half = flood(&memory, 2, 0..15_000) * capacity::COUNTER_BYTES;
    assert!((MAX * 45 / 100..=MAX / 2).contains(&half), "{half}");
    let other = flood(&memory, 3, 0..15_000) * capacity::COUNTER_BYTES;
    assert!(other > MAX / 4, "{other}");
}

#[test]
fn lone_rule_gets_most_and_leaves_room_for_newcomers() {
    let memory = small();
    let lone = flood(&memory, 2, 0..15_000) * capacity::COUNTER_BYTES;
    assert!((MAX * 3 / 4..MAX * 7 / 8).contains(&lone), "{lone}");
    assert_eq!(flood(&memory, 1, 0..100), 100);
    assert!((0..100).all(|user| put(&memory, 1, user, per_minute(10), 0, NOW).remaining == 9));
}

#[test]
fn rules_that_grow_leave_room_for_newcomers_too() {
    let hourly = |algorithm| Limit::new(1_000, Micros(60 * MINUTE.0), algorithm);
    for (algorithm, rules) in
        [(Algorithm::SlidingWindow, 2..3), (Algorithm::SlidingLog, 2..3), (Algorithm::SlidingWindow, 2..4)]
    {
        let memory = small();
        for turn in 0..40 {
            let now = UnixMicros(NOW.0 + turn * 3 * MINUTE.0);
            for rule in rules.clone() {
                (0..5_000 * 3 / (rules.end as u64 - 1))
                    .for_each(|user| _ = put(&memory, rule, user, hourly(algorithm), 1, now));
            }
        }
        assert!(memory.thinned() > 0, "{algorithm:?}: they want to grow");
        assert_eq!(flood(&memory, 1, 0..100), 100, "{algorithm:?} {rules:?}");
    }
}

#[test]
fn key_without_room_is_never_counted_too_low() {
    let memory = small();
    flood(&memory, 2, 0..15_000);
    let latecomers = 100_000..100_200;
    for user in latecomers.clone() {
        put(&memory, 2, user, per_minute(10), 4, NOW);
    }
    for user in latecomers {
        assert!(put(&memory, 2, user, per_minute(10), 0, NOW).remaining <= 6, "{user}");
    }
}

#[test]
fn refund_of_a_key_without_room_takes_nothing_from_those_it_shares_with() {
    let memory = small();
    flood(&memory, 2, 0..15_000);
    let hour = Limit { window: Micros(60 * MINUTE.0), ..per_minute(10) };
    put(&memory, 2, 100_000, hour, 4, NOW);
    (200_000..201_000).for_each(|user| _ = put(&memory, 2, user, hour, -4, NOW));
    assert_eq!(put(&memory, 2, 100_000, hour, 0, NOW).remaining, 6);
}

#[test]
fn key_that_finds_room_later_goes_on_from_its_overflow_counter() {
    let memory = small();
    let hour = Limit { window: Micros(60 * MINUTE.0), ..per_minute(10) };
    flood(&memory, 2, 0..15_000);
    put(&memory, 2, 100_000, hour, 4, NOW);
    // The flood's window ends, its counters go, the latecomer's hour goes on.
    let later = UnixMicros(NOW.0 + MINUTE.0);
    memory.sweep(later, usize::MAX);
    let before = memory.overflow_hits();
    assert_eq!(put(&memory, 2, 100_000, hour, 1, later).remaining, 5);
    assert_eq!(put(&memory, 2, 100_000, hour, 1, later).remaining, 4);
    assert_eq!(memory.overflow_hits(), before);
}

#[test]
fn what_a_key_holds_is_told_of_its_own_counter_and_of_one_that_stands_in_for_it() {
    let memory = small();
    put(&memory, 2, 100_000, per_minute(1_000), 7, NOW);
    assert_eq!(held(&memory, 2, 100_000, per_minute(1_000), NOW), 7.0);
    assert_eq!(held(&memory, 2, 100_001, per_minute(1_000), NOW), 0.0, "nobody else's");
    flood(&memory, 2, 0..15_000);
    let latecomer = put(&memory, 2, 200_000, per_minute(1_000_000), 1, NOW);
    let told = held(&memory, 2, 200_000, per_minute(1_000_000), NOW);
    assert_eq!(told, 1_000_000.0 - latecomer.remaining as f64, "what it is decided by");
    assert!(told > 1.0, "others are counted there too");
    assert_eq!(held(&memory, 2, 100_000, per_minute(1_000), NOW), 7.0);
}

#[test]
fn overflow_counters_of_a_rule_are_bounded_and_rules_keep_apart() {
    let memory = Memory::new(MemorySettings { max_bytes: 8 << 20 });
    let own = flood(&memory, 2, 0..110_000);
    let places = memory.counters() - own;
    assert!((1..=u64::from(OVERFLOW_PLACES)).contains(&places), "{places}");
    let untouched = put(&memory, 4, 7, per_minute(1_000), 1, NOW);
    assert_eq!(untouched.remaining, 999, "another rule counts apart from the flood");
}

#[test]
fn rules_share_the_last_overflow_counters_when_their_own_find_no_room() {
    let memory = small();
    (0..40).for_each(|rule| _ = flood(&memory, 100 + rule, 0..4_000));
    assert!(memory.bytes() <= MAX, "{}", memory.bytes());
    let remaining = put(&memory, 7_777, 5, per_minute(1_000_000), 1, NOW).remaining;
    assert!(remaining < 999_999 - 40, "a rule that never asked shares with all: {remaining}");
}

#[test]
fn sweep_takes_the_expired_and_only_those_in_as_many_calls_as_it_needs() {
    let memory = small();
    for user in 0..2_000 {
        put(
            &memory,
            1,
            user,
            if user % 2 == 0 { per_minute(10) } else { Limit { window: Micros(60 * MINUTE.0), ..per_minute(10) } },
            3,
            NOW,
        );
    }
    assert_eq!(memory.sweep(NOW, usize::MAX), 0);
    let later = UnixMicros(NOW.0 + MINUTE.0 + SECOND.0);
    let mut calls = 0;
    while memory.counters() > 1_000 {
        assert!(memory.sweep(later, 64) <= 64);
        calls += 1;
        assert!(calls <= 100, "{} are left", memory.counters());
    }
    assert!(calls > 10);
    assert_eq!((memory.counters(), memory.expired(), memory.sweep(later, usize::MAX)), (1_000, 1_000, 0));
    let hour = Limit { window: Micros(60 * MINUTE.0), ..per_minute(10) };
    assert!((1..2_000).step_by(2).all(|user| put(&memory, 1, user, hour, 0, later).remaining == 7));
    memory.sweep(UnixMicros(NOW.0 + 61 * MINUTE.0), usize::MAX);
    assert_eq!((memory.counters(), memory.bytes()), (0, 0));
}

#[test]
fn few_counters_are_swept_within_a_minute_by_one_sweep_a_second() {
    let memory = Memory::new(MemorySettings::default());
    for user in 0..FEW {
        put(&memory, 1, user, per_minute(10), 3, NOW);
    }
    assert_eq!((memory.counters(), memory.sweep_period()), (FEW, SECOND));
    let later = UnixMicros(NOW.0 + MINUTE.0 + SECOND.0);
    (0..60).for_each(|_| _ = memory.sweep(later, memory.sweep_share()));
    assert_eq!(memory.counters(), 0);
    assert!((0..=FEW).all(|user| put(&memory, 2, user, per_minute(10), 3, later).remaining == 7));
    assert_eq!(memory.sweep_period(), SWEEP_PERIOD, "there are more than few");
}

#[test]
fn sweep_to_the_end_of_each_shard_and_from_its_start_takes_every_expired_counter() {
    let memory = small();
    let created = flood(&memory, 2, 0..15_000);
    assert!(created > (16 * SWEEP_PER_LOCK) as u64, "{created} counters never fill a hold of a lock");
    let later = UnixMicros(NOW.0 + MINUTE.0 + SECOND.0);
    // Creations left the sweep somewhere inside each shard.
    memory.sweep(later, usize::MAX);
    memory.sweep(later, usize::MAX);
    assert_eq!((memory.counters(), memory.bytes()), (0, 0));
}

#[test]
fn slow_bucket_that_was_emptied_is_not_swept_before_it_is_full() {
    let memory = small();
    let slow = Limit { burst: 10_000, ..Limit::new(60, MINUTE, Algorithm::TokenBucket) };
    put(&memory, 1, 0, slow, 10_000, NOW);
    for minutes in [3, 166] {
        let later = UnixMicros(NOW.0 + minutes * MINUTE.0);
        memory.sweep(later, usize::MAX);
        assert_eq!(put(&memory, 1, 0, slow, 0, later).remaining, 60 * minutes, "one a second");
    }
    memory.sweep(UnixMicros(NOW.0 + 167 * MINUTE.0), usize::MAX);
    assert_eq!(memory.counters(), 0, "full after 10,000 s");
}

#[test]
fn creations_alone_keep_a_churning_store_small() {
    let memory = Memory::new(MemorySettings { max_bytes: 16 << 20 });
    let mut most = 0;
    for user in 0..100_000u64 {
        let now = UnixMicros(NOW.0 + user * 10_000);
        put(&memory, 1, user, Limit::new(5, SECOND, Algorithm::FixedWindow), 1, now);
        most = most.max(memory.counters());
    }
    assert!(most < 1_000, "100 users a second for a second each, and {most} counters");
}

#[test]
fn look_and_refusal_and_refund_of_an_unknown_key_make_no_counter() {
    let memory = small();
    put(&memory, 1, 0, per_minute(10), 0, NOW);
    put(&memory, 1, 0, per_minute(10), 11, NOW);
    put(&memory, 1, 0, per_minute(10), -1, NOW);
    assert_eq!((memory.counters(), memory.bytes()), (0, 0));
}

#[test]
fn overflow_counter_lies_in_the_shard_of_the_counter_it_stands_in_for() {
    let keys = HashKeys::random();
    let entries = [Entry { key: "user", value: "a" }];
    let key = Key { domain: "d", entries: &entries, shared: &[], limit_name: "", variable: 0 };
    let cost = Cost { hits: 1, charge_denied: false };
    for rule in 0..1_000 {
        let name = rule.to_string();
        let check = CounterCheck {
            key: Key { limit_name: &name, ..key },
            rule,
            limit: per_minute(1),
            cost,
            role: Role::Enforced,
        };
        let own = keys.counter(&check);
        for (among, shards) in [(4_096, 16), (4_096, 4_096), (1 << 18, 1 << 18)] {
            let prints = [own, keys.rule_overflow(&check, own, among), keys.common_overflow(&check, own, among)];
            assert!(prints[0] != prints[1] && prints[1] != prints[2]);
            assert!(prints.iter().all(|print| print.place(shards) == own.place(shards)));
        }
    }
}

#[test]
fn counters_that_grow_stay_within_the_bound_and_are_never_too_low() {
    for algorithm in [Algorithm::SlidingWindow, Algorithm::SlidingLog] {
        let memory = small();
        let limit = Limit::new(5_000, MINUTE, algorithm);
        let users = if algorithm == Algorithm::SlidingLog { 1_000 } else { 8_000 };
        for second in 0..30 {
            for user in 0..users {
                for hit in 0..3 {
                    put(&memory, 1, user, limit, 1, UnixMicros(NOW.0 + second * SECOND.0 + hit));
                }
            }
        }
        assert!(memory.bytes() <= MAX, "{algorithm:?}: {}", memory.bytes());
        assert!(memory.thinned() > 0, "{algorithm:?}");
        let now = UnixMicros(NOW.0 + 30 * SECOND.0);
        assert!((0..users).all(|user| put(&memory, 1, user, limit, 0, now).remaining <= 5_000 - 90), "{algorithm:?}");
    }
}

#[test]
fn clock_set_back_by_far_is_counted_once_per_counter() {
    let memory = small();
    for user in 0..2 {
        put(&memory, 1, user, Limit::new(9, MINUTE, Algorithm::SlidingWindow), 3, NOW);
    }
    let back = UnixMicros(NOW.0 - 60 * MINUTE.0);
    for _ in 0..2 {
        let left = put(&memory, 1, 0, Limit::new(9, MINUTE, Algorithm::SlidingWindow), 1, back).remaining;
        assert!(left <= 5);
    }
    assert_eq!(memory.clock_steps(), 1);
}
