use super::*;
use crate::{
    limit::{Cost, Entry, SECOND},
    store::Key,
};

const ENTRIES: [Entry<'_>; 1] = [Entry { key: "user", value: "alice" }];

fn asks(algorithm: Algorithm, number: usize) -> Vec<CounterCheck<'static>> {
    let check = CounterCheck {
        key: Key { domain: "d", entries: &ENTRIES, shared: &[], limit_name: "", variable: 0 },
        limit: Limit::new(100, SECOND, algorithm),
        cost: Cost { hits: 1, charge_denied: false },
        rule: 0,
        role: Role::Enforced,
    };
    vec![check; number]
}

fn sizes(checks: &[CounterCheck<'_>]) -> Vec<usize> {
    sub_requests(checks, 0..checks.len(), |_| 0).iter().map(|part| part.checks.len()).collect()
}

#[test]
fn a_script_is_bounded_by_what_its_counters_take_of_redis_and_not_by_their_number() {
    let windows = |number| asks(Algorithm::SlidingWindow, number);
    let logs = |number| asks(Algorithm::SlidingLog, number);
    for (checks, outgrows, expected) in [
        (windows(256), false, vec![256]),
        (windows(257), true, vec![256, 1]),
        (logs(64), false, vec![64]),
        (logs(65), true, vec![64, 1]),
        ([logs(60), windows(16)].concat(), false, vec![76]),
        ([logs(60), windows(17)].concat(), true, vec![76, 1]),
    ] {
        assert_eq!((outgrows_script(&checks), sizes(&checks)), (outgrows, expected));
    }
}

#[test]
fn no_part_is_over_two_places_or_phases_and_each_ask_is_in_one() {
    let mut all = asks(Algorithm::SlidingLog, 200);
    all.iter_mut().step_by(3).for_each(|check| check.role = Role::Shadow);
    let place = |nth: usize| nth % 2;
    let parts = sub_requests(&all, 0..200, place);
    let mut seen: Vec<usize> = parts.iter().flat_map(|part| part.checks.iter().copied()).collect();
    seen.sort_unstable();
    assert_eq!(seen, (0..200).collect::<Vec<_>>());
    for part in parts {
        assert!(part.checks.iter().all(|&nth| place(nth) == part.place && DecisionPhase::of(&all[nth]) == part.phase));
    }
}
