use super::*;
use crate::{
    algorithm::{State, step},
    limit::{Algorithm, Cost, Limit, SECOND, UnixMicros},
    store::Key,
};

fn ask(requests: u32, hits: i64, charge_denied: bool, role: Role) -> CounterCheck<'static> {
    let key = Key { domain: "d", entries: &[], shared: &[], limit_name: "", variable: 0 };
    let limit = Limit::new(requests, SECOND, Algorithm::FixedWindow);
    CounterCheck { key, rule: 0, limit, cost: Cost { hits, charge_denied }, role }
}

/// Puts costs to one counter, and adds up what they tally to, in the order of [`COUNTERS`].
fn played(requests: u32, costs: &[i64], charge_denied: bool) -> [u64; MAPPED] {
    let (hits, mut state) = (HitCounters::default(), State::Empty);
    for &cost in costs {
        let check = ask(requests, cost, charge_denied, Role::Enforced);
        let (after, reading) = step(&check.limit, state, check.cost, UnixMicros(5));
        state = after;
        hits.add(HitCounts::of(&check, reading, cost, 0.8));
    }
    of(&hits)
}

/// Those that have a name of their own on the page.
fn of(hits: &HitCounters) -> [u64; MAPPED] {
    std::array::from_fn(|counter| hits.get()[counter])
}

#[test]
fn a_cost_that_crosses_a_line_is_split_at_it() {
    // The conformance case of the reference: near from 16 of 20 on.
    assert_eq!(played(20, &[15], true), [0, 0, 0, 15, 15]);
    assert_eq!(played(20, &[15, 3], true), [2, 0, 0, 18, 18]);
    assert_eq!(played(20, &[15, 3, 2], true), [4, 0, 0, 20, 20]);
    assert_eq!(played(20, &[15, 3, 2, 4], true), [4, 4, 0, 24, 20]);
    assert_eq!(played(20, &[25], true), [4, 5, 0, 25, 0]);
    assert_eq!(played(20, &[18, 7], true), [4, 5, 0, 25, 18]);
}

#[test]
fn a_free_refusal_is_over_the_limit_with_all_its_hits() {
    assert_eq!(played(20, &[18, 7, 7], false), [2, 14, 0, 32, 18]);
}

#[test]
fn near_is_judged_in_single_precision() {
    let largest = i64::from(u32::MAX);
    assert_eq!(played(u32::MAX, &[largest, 1], true)[..2], [u64::from(u32::MAX) - 3_435_973_888, 1]);
}

#[test]
fn a_shadow_counts_what_it_would_have_denied() {
    let (hits, check) = (HitCounters::default(), ask(0, 3, true, Role::Shadow));
    let (_, reading) = step(&check.limit, State::Empty, check.cost, UnixMicros(5));
    hits.add(HitCounts::of(&check, reading, 3, 0.8));
    assert_eq!(of(&hits), [0, 3, 3, 3, 0]);
}

#[test]
fn looks_count_nothing_and_refunds_as_negative_hits_alone() {
    assert_eq!(played(2, &[0, -2, 0], true), [0; 5]);
    let check = ask(2, -2, true, Role::Enforced);
    let reading = Reading { admitted: true, remaining: 2, reset: SECOND };
    let hits = HitCounters::default();
    for counts in [
        HitCounts::of(&check, reading, -2, 0.8),
        HitCounts::without_reading(&check, reading, -3),
        HitCounts::failed(i64::MIN),
    ] {
        hits.add(counts);
    }
    assert_eq!(hits.get(), [0, 0, 0, 0, 0, 0, (1 << 63) + 5]);
}

#[test]
fn a_policy_in_the_stores_place_says_nothing_of_near() {
    let reading = Reading { admitted: true, remaining: 0, reset: SECOND };
    let check = ask(10, 2, true, Role::Enforced);
    assert_eq!(HitCounts::without_reading(&check, reading, 2), HitCounts { within: 2, ..HitCounts::default() });
    assert_eq!(HitCounts::failed(2), HitCounts { beyond: 2, ..HitCounts::default() });
}

#[test]
fn a_remembered_denial_counts_as_the_references_local_cache() {
    let (hits, check) = (HitCounters::default(), ask(5, 3, false, Role::Enforced));
    let denied = Reading { admitted: false, remaining: 0, reset: SECOND };
    hits.add(HitCounts::of(&check, denied, 3, 0.8).answered_from_cache());
    // What another limit of the same request would have let pass is within.
    hits.add(HitCounts::of(&check, Reading { admitted: true, remaining: 5, ..denied }, 0, 0.8).answered_from_cache());
    assert_eq!(hits.get(), [0, 3, 0, 3, 0, 3, 0]);
}
