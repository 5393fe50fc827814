//! The store against the simplest thing that could be right: a map from key and shape to a state, and [`settle`].

use std::collections::HashMap;

use rand::{Rng, SeedableRng, rngs::SmallRng};

use super::*;
use crate::{
    limit::{Algorithm, Cost, Entry, Limit},
    store::counter_check::{Key, Role},
};

#[derive(Default)]
struct Model(HashMap<(String, Algorithm, Micros), State>);

impl Model {
    fn apply(&mut self, checks: &[CounterCheck<'_>], gate: Gate, now: UnixMicros) -> Readings {
        let keys: Vec<_> = checks
            .iter()
            .map(|check| (check.key.entries[0].value.to_owned(), check.limit.algorithm, check.limit.window))
            .collect();
        let mut distinct = keys.clone();
        distinct.sort_by_key(|key| format!("{key:?}"));
        distinct.dedup();
        let slots: Vec<usize> =
            keys.iter().map(|key| distinct.iter().position(|other| other == key).unwrap()).collect();
        let mut states: Vec<State> = distinct.iter().map(|key| self.0.remove(key).unwrap_or_default()).collect();
        let readings = settle(checks, &slots, &mut states, gate, now);
        self.0.extend(distinct.into_iter().zip(states));
        readings
    }
}

fn random_ask<'a>(random: &mut SmallRng, users: &'a [[Entry<'a>; 1]]) -> CounterCheck<'a> {
    let entries = &users[random.random_range(0..users.len())];
    let algorithm = Algorithm::ALL[random.random_range(0..Algorithm::ALL.len())];
    let window = Micros(SECOND.0 * [1, 60][random.random_range(0..2)]);
    // What a bucket may forget is judged by the limit that was in force, so the number changes for windows only.
    let requests = if algorithm.has_burst() { 5 } else { random.random_range(0..12) };
    let limit = Limit { burst: requests, ..Limit::new(requests, window, algorithm) };
    let cost = Cost { hits: random.random_range(-3..6), charge_denied: random.random_ratio(1, 5) };
    let role = [Role::Enforced, Role::Enforced, Role::Quota, Role::Shadow][random.random_range(0..4)];
    CounterCheck {
        key: Key { domain: "d", entries, shared: &[], limit_name: "", variable: 0 },
        rule: 1,
        limit,
        cost,
        role,
    }
}

#[test]
fn random_histories_read_as_the_model_does_with_sweeps_between() {
    let names: Vec<String> = (0..6).map(|user| user.to_string()).collect();
    let users: Vec<[Entry<'_>; 1]> = names.iter().map(|name| [Entry { key: "user", value: name }]).collect();
    for seed in 0..40 {
        let mut random = SmallRng::seed_from_u64(seed);
        let (memory, mut model) = (Memory::new(MemorySettings { max_bytes: 1 << 20 }), Model::default());
        let mut now = UnixMicros(1_800_000_000_000_000);
        for step in 0..400 {
            now.0 += random.random_range(0..200_000);
            let count = [1, 1, 2, 3, 9][random.random_range(0..5)];
            let checks: Vec<CounterCheck<'_>> = (0..count).map(|_| random_ask(&mut random, &users)).collect();
            let gate = Gate { quota_open: random.random_ratio(1, 8), never_deny: random.random_ratio(1, 8) };
            assert_eq!(
                memory.apply(&checks, gate, now),
                model.apply(&checks, gate, now),
                "seed {seed}, step {step}: {checks:#?}"
            );
            if random.random_ratio(1, 10) {
                memory.sweep(now, 50);
            }
        }
    }
}
