//! What every store promises, one function per behaviour, each run on all of them. Time is passed in; nothing here
//! knows how a store keeps its counters.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tollgate::{
    algorithm::{State, step},
    limit::{Algorithm, Cost, Entry, HITS_MAX, Limit, Micros, Reading, SECOND, UnixMicros},
    store::{
        CounterCheck, Gate, Key, Readings, Role,
        memory::{Memory, MemorySettings},
        redis::{Redis, RedisSettings},
    },
};

use crate::redis_exact::of_cluster;
use crate::redis_server::{RedisCluster, RedisServer};
use crate::redis_twin::{settings, soon, store};

/// Aligned to no window of these tests, so that none of them passes by luck.
const NOW: UnixMicros = UnixMicros(1_800_000_000_123_456);
const MINUTE: Micros = Micros(60 * SECOND.0);

/// The stores under test, behind the one method that they share.
enum Store {
    Memory(Box<Memory>),
    Redis { redis: Redis, runtime: tokio::runtime::Runtime, _servers: Servers },
}

/// What is behind a Redis store, ended with it.
enum Servers {
    One { _server: RedisServer },
    Three { _cluster: RedisCluster },
}

impl Store {
    fn each() -> Vec<Store> {
        let mut stores = vec![Store::Memory(Box::new(Memory::new(MemorySettings::default())))];
        stores.extend(RedisServer::of_both_protocols().map(Store::redis));
        stores.push(Store::cluster());
        stores
    }

    fn redis(server: RedisServer) -> Store {
        Store::behind(settings(&server), Servers::One { _server: server })
    }

    fn cluster() -> Store {
        let cluster = RedisCluster::start();
        Store::behind(of_cluster(&cluster), Servers::Three { _cluster: cluster })
    }

    fn behind(settings: RedisSettings, servers: Servers) -> Store {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let redis = runtime.block_on(store(settings));
        Store::Redis { redis, runtime, _servers: servers }
    }

    fn apply(&self, checks: &[CounterCheck<'_>], gate: Gate, now: UnixMicros) -> Readings {
        match self {
            Store::Memory(memory) => memory.apply(checks, gate, now),
            Store::Redis { redis, runtime, .. } => {
                runtime.block_on(redis.apply_at(checks, gate, now, soon())).expect("Redis answers")
            }
        }
    }

    fn look(&self, checks: &[CounterCheck<'_>], now: UnixMicros) -> Readings {
        match self {
            Store::Memory(memory) => memory.peek(checks, now),
            Store::Redis { redis, runtime, .. } => {
                runtime.block_on(redis.peek_at(checks, now, soon())).expect("Redis answers")
            }
        }
    }

    /// The plain question: one ask, no gate.
    fn one(&self, check: CounterCheck<'_>, now: UnixMicros) -> Reading {
        self.apply(&[check], Gate::default(), now)[0]
    }

    fn all(&self, checks: &[CounterCheck<'_>]) -> Vec<bool> {
        self.apply(checks, Gate::default(), NOW).iter().map(|reading| reading.admitted).collect()
    }

    /// Hits left for the counter that `ask` is about.
    fn remaining(&self, check: CounterCheck<'_>) -> u64 {
        self.one(CounterCheck { cost: Cost { hits: 0, charge_denied: false }, ..check }, NOW).remaining
    }
}

fn entry<'a>(key: &'a str, value: &'a str) -> Entry<'a> {
    Entry { key, value }
}

fn ask<'a>(entries: &'a [Entry<'a>], requests: u32, hits: i64) -> CounterCheck<'a> {
    CounterCheck {
        key: Key { domain: "d", entries, shared: &[], limit_name: "", variable: 0 },
        rule: 7,
        limit: Limit::new(requests, MINUTE, Algorithm::SlidingWindow),
        cost: Cost { hits, charge_denied: false },
        role: Role::Enforced,
    }
}

fn charging(check: CounterCheck<'_>) -> CounterCheck<'_> {
    CounterCheck { cost: Cost { charge_denied: true, ..check.cost }, ..check }
}

fn in_role(role: Role, check: CounterCheck<'_>) -> CounterCheck<'_> {
    CounterCheck { role, ..check }
}

#[test]
fn third_hit_of_two_is_over_limit() {
    for store in Store::each() {
        let user = [entry("user", "alice")];
        for algorithm in Algorithm::ALL {
            let limit = Limit { burst: 2, ..Limit::new(2, MINUTE, algorithm) };
            let check = CounterCheck { limit, ..ask(&user, 2, 1) };
            let answers = [0, 1, 2].map(|_| store.one(check, NOW));
            assert_eq!(answers.map(|reading| reading.admitted), [true, true, false], "{algorithm:?}");
            assert_eq!(answers.map(|reading| reading.remaining), [1, 0, 0], "{algorithm:?}");
        }
    }
}

#[test]
fn refused_until_reset_and_admitted_at_it_for_every_algorithm_and_window() {
    for store in Store::each() {
        let user = [entry("user", "alice")];
        for algorithm in Algorithm::ALL {
            for seconds in [1, 60, 3_600, 86_400, 365 * 86_400] {
                let limit = Limit { burst: 1, ..Limit::new(1, Micros(seconds * SECOND.0), algorithm) };
                let check = CounterCheck { limit, ..ask(&user, 1, 1) };
                assert!(store.one(check, NOW).admitted, "{limit:?}");
                let refused = store.one(check, NOW);
                assert!(!refused.admitted, "{limit:?}");
                assert!(!store.one(check, UnixMicros(NOW.0 + refused.reset.0 - 1)).admitted, "{limit:?}");
                assert!(store.one(check, UnixMicros(NOW.0 + refused.reset.0)).admitted, "{limit:?}");
            }
        }
    }
}

#[test]
fn one_refusal_charges_no_counter_of_the_request() {
    for store in Store::each() {
        let (wide, narrow) = ([entry("user", "a")], [entry("path", "p")]);
        let checks = [ask(&wide, 10, 1), ask(&narrow, 1, 2), ask(&wide, 10, 1)];
        assert_eq!(store.all(&checks), [true, false, true]);
        assert_eq!((store.remaining(checks[0]), store.remaining(checks[1])), (10, 1));
    }
}

#[test]
fn admitted_ask_of_a_denied_request_reads_as_a_look() {
    for store in Store::each() {
        let (wide, narrow) = ([entry("user", "a")], [entry("path", "p")]);
        assert!(store.one(ask(&wide, 10, 3), NOW).admitted);
        let readings = store.apply(&[ask(&wide, 10, 5), ask(&narrow, 0, 1)], Gate::default(), NOW);
        assert_eq!((readings[0].admitted, readings[0].remaining), (true, 7));
        assert_eq!((readings[1].admitted, readings[1].remaining), (false, 0));
    }
}

#[test]
fn duplicates_are_tried_one_after_the_other() {
    for store in Store::each() {
        let user = [entry("user", "a")];
        let five = ask(&user, 5, 2);
        assert_eq!(store.all(&[five, five, five]), [true, true, false]);
        assert_eq!(store.remaining(five), 5);
        let readings = store.apply(&[five, five], Gate::default(), NOW);
        assert_eq!((readings[0].remaining, readings[1].remaining), (3, 1));
        assert_eq!(store.remaining(five), 1);
    }
}

#[test]
fn quota_denies_only_when_every_quota_refuses() {
    for store in Store::each() {
        let (full, free, other) = ([entry("q", "full")], [entry("q", "free")], [entry("user", "a")]);
        let (full, free, other) = (in_role(Role::Quota, ask(&full, 0, 1)), ask(&free, 5, 1), ask(&other, 5, 1));
        let free = in_role(Role::Quota, free);
        assert_eq!(store.all(&[full, free, other]), [false, true, true]);
        assert_eq!((store.remaining(free), store.remaining(other)), (4, 4));
        assert_eq!(store.all(&[full, other]), [false, true]);
        assert_eq!(store.remaining(other), 4);
    }
}

#[test]
fn open_quota_lets_a_request_pass_that_all_quotas_refuse() {
    for store in Store::each() {
        let (full, other) = ([entry("q", "full")], [entry("user", "a")]);
        let (full, other) = (in_role(Role::Quota, ask(&full, 0, 1)), ask(&other, 5, 1));
        store.apply(&[full, other], Gate { quota_open: true, never_deny: false }, NOW);
        assert_eq!(store.remaining(other), 4);
    }
}

#[test]
fn shadow_counts_what_it_admits_and_never_denies() {
    for store in Store::each() {
        let (shadow, other) = ([entry("s", "1")], [entry("user", "a")]);
        let (shadow, other) = (in_role(Role::Shadow, ask(&shadow, 1, 1)), ask(&other, 5, 1));
        assert_eq!(store.all(&[shadow, other]), [true, true]);
        assert_eq!(store.all(&[shadow, other]), [false, true]);
        assert_eq!((store.remaining(shadow), store.remaining(other)), (0, 3));
    }
}

#[test]
fn never_deny_charges_what_admits_though_an_enforced_limit_refuses() {
    for store in Store::each() {
        let (full, other) = ([entry("q", "full")], [entry("user", "a")]);
        let (full, other) = (ask(&full, 0, 1), ask(&other, 5, 1));
        let readings = store.apply(&[full, other], Gate { quota_open: false, never_deny: true }, NOW);
        assert_eq!((readings[0].admitted, readings[1].remaining), (false, 4));
        assert_eq!(store.remaining(other), 4);
    }
}

#[test]
fn denied_hits_are_charged_where_the_cost_says_so() {
    for store in Store::each() {
        let (spent, free, full) = ([entry("t", "spent")], [entry("t", "free")], [entry("q", "full")]);
        let spent = charging(ask(&spent, 100, 5_000));
        let free = in_role(Role::Shadow, charging(ask(&free, 100, 7)));
        assert_eq!(store.all(&[spent, free, ask(&full, 0, 1)]), [false, true, false]);
        assert_eq!((store.remaining(spent), store.remaining(free)), (0, 93));
        let look = Cost { hits: 0, charge_denied: false };
        assert!(!store.one(CounterCheck { cost: look, ..spent }, NOW).admitted, "5,000 of 100 refuses even a look");
    }
}

#[test]
fn look_counts_nothing() {
    for store in Store::each() {
        let user = [entry("user", "a")];
        for _ in 0..3 {
            let reading = store.one(ask(&user, 1, 0), NOW);
            assert_eq!((reading.admitted, reading.remaining), (true, 1));
        }
        assert!(store.one(ask(&user, 1, 1), NOW).admitted);
        let reading = store.one(ask(&user, 1, 0), NOW);
        assert_eq!((reading.admitted, reading.remaining), (true, 0));
    }
}

/// With a cost, and with one that would be charged even where it is refused: nothing is.
#[test]
fn look_tells_what_a_cost_would_be_answered_and_counts_nothing() {
    for store in Store::each() {
        for algorithm in Algorithm::ALL {
            let entries = [entry("user", algorithm.name())];
            let limit = Limit { burst: 3, ..Limit::new(3, MINUTE, algorithm) };
            let hit = CounterCheck { limit, ..ask(&entries, 3, 2) };
            let checks =
                [hit, charging(ask(&entries, 3, 9)), ask(&entries, 3, -1)].map(|check| CounterCheck { limit, ..check });
            let before = store.look(&checks, NOW);
            assert_eq!(before.iter().map(|it| it.admitted).collect::<Vec<_>>(), [true, false, true], "{algorithm:?}");
            assert_eq!(before[0].remaining, 3, "{algorithm:?}");
            assert_eq!(store.look(&checks, NOW), before, "{algorithm:?}");

            assert!(store.one(hit, NOW).admitted, "{algorithm:?}");
            let [one, two] = [1, 2].map(|hits| store.look(&[CounterCheck { limit, ..ask(&entries, 3, hits) }], NOW)[0]);
            assert_eq!((one.admitted, one.remaining, two.admitted), (true, 1, false), "{algorithm:?}");
            let passes = UnixMicros(NOW.0 + two.reset.0);
            assert!(!store.look(&[hit], UnixMicros(passes.0 - 1))[0].admitted, "{algorithm:?}");
            assert!(store.look(&[hit], passes)[0].admitted, "{algorithm:?}");
        }
    }
}

#[test]
fn refund_gives_back_but_never_more_than_was_taken() {
    for store in Store::each() {
        let user = [entry("user", "a")];
        assert!(store.one(ask(&user, 5, 4), NOW).admitted);
        assert_eq!(store.one(ask(&user, 5, -3), NOW).remaining, 4);
        assert_eq!(store.one(ask(&user, 5, -100), NOW).remaining, 5);
        assert_eq!(store.one(ask(&user, 5, -1), NOW).remaining, 5);
        assert_eq!(store.one(ask(&user, 5, 5), NOW).remaining, 0);
    }
}

#[test]
fn refund_of_a_denied_request_does_not_happen() {
    for store in Store::each() {
        let (user, full) = ([entry("user", "a")], [entry("q", "full")]);
        store.one(ask(&user, 5, 4), NOW);
        assert_eq!(store.all(&[ask(&user, 5, -4), ask(&full, 0, 1)]), [true, false]);
        assert_eq!(store.remaining(ask(&user, 5, 0)), 1);
    }
}

#[test]
fn keys_that_differ_in_any_part_never_share_a_counter() {
    let every_byte: String = (0..=255u8).map(char::from).collect();
    let (long, longer) = ("x".repeat(64 << 10), format!("{}y", "x".repeat((64 << 10) - 1)));
    let entries: Vec<Vec<Entry<'_>>> = vec![
        vec![],
        vec![entry("", "")],
        vec![entry("", ""), entry("", "")],
        vec![entry("a", "b_c")],
        vec![entry("a_b", "c")],
        vec![entry("a", "b"), entry("c", "")],
        vec![entry("a", ""), entry("b", "c")],
        vec![entry("a", "b"), entry("", "c")],
        vec![entry("a", "b:c=d")],
        vec![entry("a", "b"), entry("c", "d")],
        vec![entry("c", "d"), entry("a", "b")],
        vec![entry("a", "b\0")],
        vec![entry("a", "b")],
        vec![entry("a", "B")],
        vec![entry("a", "%62")],
        vec![entry("a", &every_byte)],
        vec![entry(&every_byte, "a")],
        vec![entry("a", &long)],
        vec![entry("a", &longer)],
        vec![entry(&long, "a")],
    ];
    for store in Store::each() {
        for entries in &entries {
            for (domain, limit_name) in [("d", ""), ("d", "x"), ("dx", ""), ("", "d")] {
                let asked = ask(entries, 1, 1);
                let asked = CounterCheck { key: Key { domain, limit_name, ..asked.key }, ..asked };
                assert!(store.one(asked, NOW).admitted, "{domain} {limit_name} {entries:?} had a count before");
                assert!(!store.one(asked, NOW).admitted, "{domain} {limit_name} {entries:?} was not counted");
            }
        }
    }
}

#[test]
fn shared_pattern_is_one_counter_for_all_its_values_and_no_value_spells_it() {
    let pattern: [Option<Box<str>>; 1] = [Some("a*".into())];
    for store in Store::each() {
        let (one, two, spelt) = ([entry("k", "a1")], [entry("k", "a2")], [entry("k", "a*")]);
        let shared = |entries| {
            let check = ask(entries, 1, 1);
            CounterCheck { key: Key { shared: &pattern, ..check.key }, ..check }
        };
        assert!(store.one(shared(&one), NOW).admitted);
        assert!(!store.one(shared(&two), NOW).admitted);
        assert!(store.one(ask(&spelt, 1, 1), NOW).admitted);
    }
}

#[test]
fn another_window_or_algorithm_counts_afresh() {
    for store in Store::each() {
        let user = [entry("user", "a")];
        for algorithm in Algorithm::ALL {
            for seconds in [1, 60, 61] {
                let limit = Limit { burst: 1, ..Limit::new(1, Micros(seconds * SECOND.0), algorithm) };
                assert!(store.one(CounterCheck { limit, ..ask(&user, 1, 1) }, NOW).admitted, "{limit:?}");
            }
        }
        let sub_windows = Limit { sub_windows: 7, ..Limit::new(1, MINUTE, Algorithm::SlidingWindow) };
        assert!(store.one(CounterCheck { limit: sub_windows, ..ask(&user, 1, 1) }, NOW).admitted);
    }
}

#[test]
fn raised_or_lowered_limit_keeps_the_count() {
    for store in Store::each() {
        let user = [entry("user", "a")];
        for algorithm in [Algorithm::SlidingWindow, Algorithm::FixedWindow, Algorithm::SlidingLog] {
            let of =
                |requests, hits| CounterCheck { limit: Limit::new(requests, MINUTE, algorithm), ..ask(&user, 1, hits) };
            assert!(store.one(of(2, 2), NOW).admitted, "{algorithm:?}");
            assert!(!store.one(of(2, 1), NOW).admitted, "{algorithm:?}");
            assert_eq!(store.one(of(5, 1), NOW).remaining, 2, "{algorithm:?}");
            assert!(!store.one(of(2, 1), NOW).admitted, "{algorithm:?}");
        }
    }
}

#[test]
fn limit_of_zero_refuses_all_and_the_largest_takes_its_whole() {
    for store in Store::each() {
        for algorithm in Algorithm::ALL.into_iter().filter(|&algorithm| algorithm != Algorithm::SlidingLog) {
            let user = [entry("user", algorithm.name())];
            let of = |requests, hits| {
                let limit = Limit { burst: requests, ..Limit::new(requests, MINUTE, algorithm) };
                CounterCheck { limit, ..ask(&user, 1, hits) }
            };
            assert!(!store.one(of(0, 1), NOW).admitted, "{algorithm:?}");
            assert_eq!(store.one(of(u32::MAX, 1), NOW).remaining, u64::from(u32::MAX) - 1, "{algorithm:?}");
            assert_eq!(store.one(of(u32::MAX, i64::from(u32::MAX) - 1), NOW).remaining, 0, "{algorithm:?}");
            assert!(!store.one(of(u32::MAX, 1), NOW).admitted, "{algorithm:?}");
        }
    }
}

#[test]
fn hits_beyond_the_clamp_are_refused_and_do_not_wrap() {
    for store in Store::each() {
        let user = [entry("user", "a")];
        for hits in [HITS_MAX, HITS_MAX + 1, i64::MAX] {
            assert!(!store.one(ask(&user, u32::MAX, hits), NOW).admitted, "{hits}");
        }
        assert_eq!(store.one(ask(&user, u32::MAX, 5), NOW).remaining, u64::from(u32::MAX) - 5);
        assert_eq!(store.one(ask(&user, u32::MAX, i64::MIN), NOW).remaining, u64::from(u32::MAX));
        for _ in 0..3 {
            assert!(!store.one(charging(ask(&user, u32::MAX, i64::MAX)), NOW).admitted);
        }
        assert_eq!(store.remaining(ask(&user, u32::MAX, 0)), 0);
    }
}

#[test]
fn largest_request_is_decided_as_one() {
    let values: Vec<String> = (0..256).map(|i| format!("u{i}")).collect();
    let entries: Vec<[Entry<'_>; 1]> = values.iter().map(|value| [entry("user", value)]).collect();
    for store in Store::each() {
        let mut checks: Vec<CounterCheck<'_>> = entries.iter().map(|entries| ask(entries, 3, 1)).collect();
        assert!(store.all(&checks).into_iter().all(|admitted| admitted));
        checks[200].cost.hits = 3;
        assert_eq!(store.all(&checks).iter().filter(|&&admitted| !admitted).count(), 1);
        assert!(checks.iter().all(|&check| store.remaining(check) == 2));
    }
}

#[test]
fn many_threads_are_admitted_exactly_the_limit() {
    const LIMIT: u32 = 100;
    for store in Store::each() {
        for algorithm in Algorithm::ALL {
            let (user, tenant, full) = ([entry("user", "a")], [entry("tenant", "t")], [entry("q", "full")]);
            let limit = Limit { burst: LIMIT, ..Limit::new(LIMIT, Micros(3_600 * SECOND.0), algorithm) };
            let wide = Limit { requests: 1_000, burst: 1_000, ..limit };
            let user = CounterCheck { limit, ..ask(&user, 1, 1) };
            let tenant = CounterCheck { limit: wide, ..ask(&tenant, 1, 1) };
            let admitted = AtomicU64::new(0);
            let (store, admitted) = (&store, &admitted);
            std::thread::scope(|threads| {
                for thread in 0..8 {
                    threads.spawn(move || {
                        for _ in 0..50 {
                            // Both orders, so that a store that locked in order of the asks would hang.
                            let checks = if thread % 2 == 0 { [user, tenant] } else { [tenant, user] };
                            let readings = store.apply(&checks, Gate::default(), NOW);
                            let is_admitted = readings.iter().all(|reading| reading.admitted);
                            admitted.fetch_add(u64::from(is_admitted), Relaxed);
                            store.apply(&[user, ask(&full, 0, 1)], Gate::default(), NOW);
                        }
                    });
                }
            });
            assert_eq!(admitted.load(Relaxed), u64::from(LIMIT), "{algorithm:?}");
            assert_eq!((store.remaining(user), store.remaining(tenant)), (0, 900), "{algorithm:?}");
        }
    }
}

/// As from Envoy before a request, by a client that retries 24 times a window, for ten of them.
#[test]
fn refused_costs_that_are_not_charged_take_nothing_from_those_after_them() {
    let pace = MINUTE.0 / 24;
    for store in Store::each() {
        for algorithm in Algorithm::ALL {
            for (requests, cost) in [10, 11].into_iter().flat_map(|requests| [1, 2, 3, 7].map(|cost| (requests, cost)))
            {
                let user = format!("{algorithm:?}-{requests}-{cost}");
                let entries = [entry("user", &user)];
                let limit = Limit { burst: requests, ..Limit::new(requests, MINUTE, algorithm) };
                let check = CounterCheck { limit, ..ask(&entries, requests, cost) };
                let mut state = State::Empty;
                for nth in 0..240 {
                    let now = UnixMicros(NOW.0 + nth * pace);
                    let passed = store.one(check, now).admitted;
                    // A client that wasn't refused before: its counter has only heard of what was admitted.
                    let (after, reading) = step(&limit, state.clone(), check.cost, now);
                    assert_eq!(passed, reading.admitted, "{user} at {nth}");
                    state = if passed { after } else { state };
                }
            }
        }
    }
}
