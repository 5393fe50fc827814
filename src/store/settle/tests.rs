//! The plan of a request as tables: who is charged, and what each ask reads, for each mix of roles.

use rand::{Rng, SeedableRng, rngs::SmallRng};

use super::*;
use crate::{
    limit::{Algorithm, Limit, SECOND},
    store::{Key, Role},
};

const NOW: UnixMicros = UnixMicros(1_800_000_000_000_000);

fn ask(requests: u32, hits: i64, role: Role) -> CounterCheck<'static> {
    let key = Key { domain: "d", entries: &[], shared: &[], limit_name: "", variable: 0 };
    let limit = Limit::new(requests, SECOND, Algorithm::FixedWindow);
    CounterCheck { key, rule: 0, limit, cost: Cost { hits, charge_denied: false }, role }
}

fn charging(check: CounterCheck<'static>) -> CounterCheck<'static> {
    CounterCheck { cost: Cost { charge_denied: true, ..check.cost }, ..check }
}

/// Each ask on its own fresh counter; what each counter holds afterwards, and the readings.
fn settled(checks: &[CounterCheck<'_>], gate: Gate) -> (Vec<u64>, Readings) {
    let slots: Vec<usize> = (0..checks.len()).collect();
    let mut states = vec![State::Empty; checks.len()];
    let readings = settle(checks, &slots, &mut states, gate, NOW);
    (states.into_iter().map(held).collect(), readings)
}

/// Hits that a counter holds, asked with a limit that nothing here reaches.
fn held(state: State) -> u64 {
    let wide = ask(1_000_000, 0, Role::Enforced).limit;
    1_000_000 - step(&wide, state, PEEK, NOW).1.remaining
}

fn admitted(readings: &Readings) -> Vec<bool> {
    readings.iter().map(|reading| reading.admitted).collect()
}

#[test]
fn admitted_request_charges_every_counter() {
    let (counts, readings) = settled(&[ask(5, 2, Role::Enforced), ask(5, 3, Role::Enforced)], Gate::default());
    assert_eq!(counts, [2, 3]);
    assert_eq!(readings.iter().map(|reading| reading.remaining).collect::<Vec<_>>(), [3, 2]);
}

#[test]
fn one_refusal_charges_nothing_anywhere_and_the_others_read_uncharged() {
    let (counts, readings) = settled(&[ask(5, 2, Role::Enforced), ask(1, 3, Role::Enforced)], Gate::default());
    assert_eq!(counts, [0, 0]);
    assert_eq!(admitted(&readings), [true, false]);
    assert_eq!(readings[0].remaining, 5);
}

#[test]
fn denied_request_charges_what_charges_denied_hits_wherever_it_stands() {
    let checks = [charging(ask(5, 2, Role::Enforced)), charging(ask(1, 3, Role::Shadow)), ask(1, 3, Role::Enforced)];
    let (counts, readings) = settled(&checks, Gate::default());
    assert_eq!(counts, [2, 3, 0]);
    assert_eq!(admitted(&readings), [true, false, false]);
    assert_eq!(readings[0].remaining, 3);
}

#[test]
fn refusing_shadow_is_neither_charged_nor_heard() {
    let (counts, readings) = settled(&[ask(1, 2, Role::Shadow), ask(5, 2, Role::Enforced)], Gate::default());
    assert_eq!(counts, [0, 2]);
    assert_eq!(admitted(&readings), [false, true]);
}

#[test]
fn quota_denies_only_when_all_quotas_refuse() {
    let (counts, _) = settled(&[ask(1, 2, Role::Quota), ask(5, 2, Role::Quota)], Gate::default());
    assert_eq!(counts, [0, 2]);
    let (counts, _) =
        settled(&[ask(1, 2, Role::Quota), ask(1, 2, Role::Quota), ask(5, 2, Role::Enforced)], Gate::default());
    assert_eq!(counts, [0, 0, 0]);
}

#[test]
fn open_quota_and_never_deny_charge_what_admits() {
    let open = Gate { quota_open: true, never_deny: false };
    assert_eq!(settled(&[ask(1, 2, Role::Quota), ask(5, 2, Role::Enforced)], open).0, [0, 2]);
    let shadow = Gate { quota_open: false, never_deny: true };
    assert_eq!(settled(&[ask(1, 2, Role::Enforced), ask(5, 2, Role::Enforced)], shadow).0, [0, 2]);
}

#[test]
fn duplicates_are_tried_on_what_the_first_would_leave() {
    let checks = [ask(5, 3, Role::Enforced), ask(5, 3, Role::Enforced)];
    let mut states = [State::Empty];
    let readings = settle(&checks, &[0, 0], &mut states, Gate::default(), NOW);
    assert_eq!(admitted(&readings), [true, false]);
    assert_eq!(held(states[0].clone()), 0);
    let readings = settle(&checks[..1], &[0], &mut states, Gate::default(), NOW);
    assert_eq!((readings[0].remaining, held(states[0].clone())), (2, 3));
}

#[test]
fn refund_of_a_denied_request_does_not_happen() {
    let limit = ask(5, 4, Role::Enforced);
    let mut states = [State::Empty, State::Empty];
    settle(&[limit], &[0], &mut states, Gate::default(), NOW);
    let checks = [ask(5, -4, Role::Enforced), ask(1, 3, Role::Enforced)];
    let readings = settle(&checks, &[0, 1], &mut states, Gate::default(), NOW);
    assert_eq!((held(states[0].clone()), readings[0].remaining), (4, 1));
    settle(&checks[..1], &[0], &mut states, Gate::default(), NOW);
    assert_eq!(held(states[0].clone()), 0);
}

/// A request over one counter of each algorithm, at random times, also some before the last and far before.
#[test]
fn counters_asked_apart_and_in_turn_settle_alike() {
    for seed in 0..60 {
        let mut random = SmallRng::seed_from_u64(seed);
        let slots: Vec<usize> = (0..Algorithm::ALL.len()).collect();
        let (mut apart_states, mut turn_states) = (vec![State::Empty; slots.len()], vec![State::Empty; slots.len()]);
        let mut now = NOW;
        for round in 0..200 {
            now.0 = (now.0 + random.random_range(0..150_000)) - if random.random_ratio(1, 50) { 3_000_000 } else { 0 };
            let checks: Vec<CounterCheck<'_>> = Algorithm::ALL
                .iter()
                .map(|&algorithm| {
                    let role = [Role::Enforced, Role::Quota, Role::Shadow][random.random_range(0..3)];
                    let mut check = ask(10, random.random_range(-2..5), role);
                    check.limit = Limit { burst: 10, ..Limit::new(10, SECOND, algorithm) };
                    check.cost.charge_denied = random.random_ratio(1, 5);
                    check
                })
                .collect();
            let apart_readings = settle_independent(&checks, &slots, &mut apart_states, Gate::default(), now);
            let turn_readings = settle_in_order(&checks, &slots, &mut turn_states, Gate::default(), now);
            assert_eq!(apart_readings, turn_readings, "seed {seed}, round {round}");
            assert_eq!(apart_states, turn_states, "seed {seed}, round {round}");
        }
    }
}

#[test]
fn refusals_after_a_clock_was_set_back_end_when_they_said_they_would() {
    let (full, free) = (ask(1, 1, Role::Enforced), ask(5, 1, Role::Enforced));
    for checks in [vec![full], vec![full, free], vec![full, free, free]] {
        let slots = &[0, 1, 1][..checks.len()];
        let mut states = vec![State::Empty; slots.iter().max().unwrap() + 1];
        settle(&checks[..1], &[0], &mut states[..1], Gate::default(), NOW);
        let back = UnixMicros(NOW.0 - 3_600_000_000);
        let refused = settle(&checks, slots, &mut states, Gate::default(), back);
        assert!(!refused[0].admitted);
        let then = UnixMicros(back.0 + refused[0].reset.0);
        assert!(settle(&checks, slots, &mut states, Gate::default(), then)[0].admitted, "{} asks", checks.len());
    }
}
