//! Clients that retry while they are refused. Where refused hits aren't charged a retry costs nothing.

use super::*;

/// Ten windows.
const LONG: u64 = 10 * WINDOW.0;
const WINDOW: Micros = Micros(5 * SECOND.0);

fn limit_of(requests: u32, algorithm: Algorithm) -> Limit {
    Limit { burst: requests, ..Limit::new(requests, WINDOW, algorithm) }
}

/// What is asked of these limits: any of all kinds, and a cost.
fn any_client() -> impl Strategy<Value = (Limit, u64)> {
    let requests = prop::sample::select(vec![10, 11]);
    (any_algorithm(), requests, prop::sample::select(vec![1, 2, 3, 7]))
        .prop_map(|(algorithm, requests, cost)| (limit_of(requests, algorithm), cost))
}

fn put(counter: &mut Counter, now: u64, cost: u64, charge_denied: bool) -> Reading {
    counter.put(now, Cost { hits: cost as i64, charge_denied })
}

/// The times at which a client is admitted that asks at these.
fn admitted(limit: Limit, cost: u64, times: &[u64], charge_denied: bool) -> Vec<u64> {
    let mut counter = Counter::new(limit);
    times.iter().copied().filter(|now| put(&mut counter, *now, cost, charge_denied).admitted).collect()
}

/// How much a client gets in ten windows that asks as soon as it may, and not before.
fn patient(limit: Limit, cost: u64) -> u64 {
    let (mut counter, mut now, mut sum) = (Counter::new(limit), NOW, 0);
    while now < NOW + LONG {
        match put(&mut counter, now, cost, false) {
            Reading { admitted: true, .. } => sum += cost,
            refused => now += refused.reset.0,
        }
    }
    sum
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn requests_that_were_refused_take_nothing_from_those_that_come_after(
        (limit, cost) in any_client(),
        gaps in prop::collection::vec(prop_oneof![0..WINDOW.0 / 8, 0..WINDOW.0 / 100, 0..2 * WINDOW.0], 1..200),
    ) {
        let times: Vec<u64> = gaps.iter().scan(NOW, |now, gap| { *now += gap; Some(*now) }).collect();
        let passed = admitted(limit, cost, &times, false);
        prop_assert_eq!(&admitted(limit, cost, &passed, false), &passed, "without those that were refused");
    }

    #[test]
    fn who_retries_at_any_pace_loses_at_most_one_cost_a_window(
        (limit, cost) in any_client(),
        pace in 1_000..WINDOW.0 / 40,
    ) {
        let times: Vec<u64> = (NOW..NOW + LONG).step_by(pace as usize).collect();
        let got = admitted(limit, cost, &times, false).len() as u64 * cost;
        prop_assert!(got + 10 * cost >= patient(limit, cost), "got {} of {}", got, patient(limit, cost));
    }
}

/// What the two above are there to rule out.
#[test]
fn where_refused_hits_are_charged_who_retries_is_locked_out() {
    let times: Vec<u64> = (NOW..NOW + LONG).step_by(125_000).collect();
    for algorithm in [SlidingWindow, SlidingLog, TokenBucket, LeakyBucket] {
        let limit = limit_of(10, algorithm);
        assert!(admitted(limit, 3, &times, true).len() <= 8, "{algorithm:?}");
        assert!(admitted(limit, 3, &times, false).len() >= 27, "{algorithm:?}");
    }
}
