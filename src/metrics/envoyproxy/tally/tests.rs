use super::*;
use crate::{
    algorithm::{State, step},
    limit::{Algorithm, Cost, Limit, SECOND, UnixMicros},
    store::Key,
};

fn ask(requests: u32, hits: i64, charge_denied: bool, role: Role) -> Ask<'static> {
    let key = Key { domain: "d", entries: &[], shared: &[], limit_name: "", variable: 0 };
    let limit = Limit::new(requests, SECOND, Algorithm::FixedWindow);
    Ask { key, rule: 0, limit, cost: Cost { hits, charge_denied }, role }
}

/// Puts costs to one counter, and adds up what they tally to, in the order of [`COUNTERS`].
fn played(requests: u32, costs: &[i64], charge_denied: bool) -> [u64; MAPPED] {
    let (hits, mut state) = (Hits::default(), State::Empty);
    for &cost in costs {
        let ask = ask(requests, cost, charge_denied, Role::Enforced);
        let (after, reading) = step(&ask.limit, state, ask.cost, UnixMicros(5));
        state = after;
        hits.add(Tally::of(&ask, reading, cost, 0.8));
    }
    of(&hits)
}

/// Those that have a name of their own on the page.
fn of(hits: &Hits) -> [u64; MAPPED] {
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
    let (hits, ask) = (Hits::default(), ask(0, 3, true, Role::Shadow));
    let (_, reading) = step(&ask.limit, State::Empty, ask.cost, UnixMicros(5));
    hits.add(Tally::of(&ask, reading, 3, 0.8));
    assert_eq!(of(&hits), [0, 3, 3, 3, 0]);
}

#[test]
fn looks_count_nothing_and_refunds_as_negative_hits_alone() {
    assert_eq!(played(2, &[0, -2, 0], true), [0; 5]);
    let ask = ask(2, -2, true, Role::Enforced);
    let reading = Reading { admitted: true, remaining: 2, reset: SECOND };
    let hits = Hits::default();
    for tally in [Tally::of(&ask, reading, -2, 0.8), Tally::unread(&ask, reading, -3), Tally::failed(i64::MIN)] {
        hits.add(tally);
    }
    assert_eq!(hits.get(), [0, 0, 0, 0, 0, 0, (1 << 63) + 5]);
}

#[test]
fn a_policy_in_the_stores_place_says_nothing_of_near() {
    let reading = Reading { admitted: true, remaining: 0, reset: SECOND };
    let ask = ask(10, 2, true, Role::Enforced);
    assert_eq!(Tally::unread(&ask, reading, 2), Tally { within: 2, ..Tally::default() });
    assert_eq!(Tally::failed(2), Tally { beyond: 2, ..Tally::default() });
}

#[test]
fn a_remembered_denial_counts_as_the_references_local_cache() {
    let (hits, ask) = (Hits::default(), ask(5, 3, false, Role::Enforced));
    let denied = Reading { admitted: false, remaining: 0, reset: SECOND };
    hits.add(Tally::of(&ask, denied, 3, 0.8).remembered());
    // What another limit of the same request would have let pass is within.
    hits.add(Tally::of(&ask, Reading { admitted: true, remaining: 5, ..denied }, 0, 0.8).remembered());
    assert_eq!(hits.get(), [0, 3, 0, 3, 0, 3, 0]);
}
