use super::*;
use crate::{
    limit::{Cost, Entry, SECOND},
    store::Key,
};

const ENTRIES: [Entry<'_>; 1] = [Entry { key: "user", value: "alice" }];

fn asks(algorithm: Algorithm, number: usize) -> Vec<Ask<'static>> {
    let ask = Ask {
        key: Key { domain: "d", entries: &ENTRIES, shared: &[], limit_name: "", variable: 0 },
        limit: Limit::new(100, SECOND, algorithm),
        cost: Cost { hits: 1, charge_denied: false },
        rule: 0,
        role: Role::Enforced,
    };
    vec![ask; number]
}

fn sizes(asks: &[Ask<'_>]) -> Vec<usize> {
    parts(asks, |_| 0, false).iter().map(|part| part.asks.len()).collect()
}

#[test]
fn a_script_is_bounded_by_what_its_counters_take_of_redis_and_not_by_their_number() {
    let windows = |number| asks(Algorithm::SlidingWindow, number);
    let logs = |number| asks(Algorithm::SlidingLog, number);
    for (asks, outgrows, expected) in [
        (windows(256), false, vec![256]),
        (windows(257), true, vec![256, 1]),
        (logs(64), false, vec![64]),
        (logs(65), true, vec![64, 1]),
        ([logs(60), windows(16)].concat(), false, vec![76]),
        ([logs(60), windows(17)].concat(), true, vec![76, 1]),
    ] {
        assert_eq!((outgrows_script(&asks), sizes(&asks)), (outgrows, expected));
    }
}

#[test]
fn no_part_is_over_two_places_or_phases_and_each_ask_is_in_one() {
    let mut all = asks(Algorithm::SlidingLog, 200);
    all.iter_mut().step_by(3).for_each(|ask| ask.role = Role::Shadow);
    let place = |nth: usize| nth % 2;
    let parts = parts(&all, place, false);
    let mut seen: Vec<usize> = parts.iter().flat_map(|part| part.asks.iter().copied()).collect();
    seen.sort_unstable();
    assert_eq!(seen, (0..200).collect::<Vec<_>>());
    for part in parts {
        assert!(part.asks.iter().all(|&nth| place(nth) == part.place && Phase::of(&all[nth]) == part.phase));
    }
}
