use proptest::prelude::*;

use super::{UNIT, WAIT_MAX, drained, wait};
use crate::algorithm::{State, tests::*};
use crate::limit::{
    Algorithm::{LeakyBucket, TokenBucket},
    Limit, WINDOW_MAX,
};

/// One hit drains every 10 µs; `burst` hits fit.
fn counter(burst: u32) -> Counter {
    Counter::new(Limit { burst, ..limit(TokenBucket, 10, 100, 1) })
}

#[test]
fn a_token_bucket_lets_a_burst_pass_and_refills_evenly() {
    counter(5).play(&[
        (1000, 5, true, 0, 10),
        (1009, 1, false, 0, 1),
        (1010, 1, true, 0, 10),
        (1030, 0, true, 2, 30),
        (1030, 5, false, 2, 30),
        (1060, 5, true, 0, 10),
    ]);
}

#[test]
fn a_leaky_bucket_spaces_requests_evenly() {
    let mut counter = Counter::new(limit(LeakyBucket, 10, 100, 1));
    counter.play(&[
        (1000, 1, true, 0, 10),
        (1005, 1, false, 0, 5),
        (1010, 1, true, 0, 10),
        (1020, 1, true, 0, 10),
        (1020, 2, false, 0, 100), // Two never fit into one.
        (9000, 1, true, 0, 10),   // A pause earns no burst.
    ]);
}

#[test]
fn a_bucket_never_holds_more_than_its_burst() {
    counter(5).play(&[(1000, 1, true, 4, 10), (99_000, 0, true, 5, 0), (99_000, 6, false, 5, 100)]);
}

#[test]
fn a_refund_frees_what_was_used_and_no_more() {
    let mut counter = counter(5);
    counter.play(&[(1000, 5, true, 0, 10), (1000, -2, true, 2, 30), (1000, 2, true, 0, 10), (1000, -9, true, 5, 0)]);
    assert_eq!(counter.state, State::Empty);
}

#[test]
fn a_reported_cost_owes_at_most_one_window() {
    let mut counter = counter(5);
    assert!(!counter.report(1000, 5_000).admitted);
    // A window later the bucket is just out of debt, and then a hit needs its own 10 µs.
    counter.play(&[(1000, 0, false, 0, 100), (1000, 1, false, 0, 110), (1100, 0, true, 0, 10), (1110, 1, true, 0, 10)]);
}

#[test]
fn a_bucket_holds_its_time_ahead_of_the_clock_for_as_long_as_its_debt_is_gone_within_a_window() {
    // What is reported at 1000, when the clock says what afterwards, and how long one more hit waits then. Without a debt
    // all of the window is held; with half a window of it, half; with a whole window, nothing.
    for (hits, then, wait) in [
        (5, 900, 100 + 10),
        (5, 990, 10 + 10),
        (10, 900, 50 + 60),
        (10, 990, 10 + 60),
        (5_000, 900, 110),
        (5_000, 999, 110),
        (5_000, 899, 110),
    ] {
        let mut counter = counter(5);
        counter.report(1000, hits);
        counter.play(&[(then, 1, false, 0, wait), (then + wait - 1, 1, false, 0, 1), (then + wait, 1, true, 0, 10)]);
    }
}

#[test]
fn a_raised_burst_acts_at_once_and_keeps_what_was_used() {
    let mut counter = counter(5);
    counter.play(&[(1000, 5, true, 0, 10)]);
    counter.limit.burst = 8;
    counter.play(&[(1000, 3, true, 0, 10), (1000, 1, false, 0, 10)]);
}

#[test]
fn a_lowered_limit_owes_at_most_one_window() {
    let mut counter = Counter::new(limit(TokenBucket, 1_000, 100, 1));
    counter.hit(1000, 1_000);
    counter.limit = Limit { burst: 5, ..limit(TokenBucket, 10, 100, 1) };
    counter.play(&[(1000, 0, false, 0, 100), (1100, 0, true, 0, 10)]);
}

#[test]
fn costs_charge_whole_hits_and_what_drains_is_rounded_down() {
    // A third of a hit per µs is no whole number of units.
    let mut counter = Counter::new(Limit { burst: 2, ..limit(TokenBucket, 1, 3, 1) });
    counter.hit(1000, 2);
    counter.hit(1004, 1);
    let third = UNIT / 3;
    assert_eq!(counter.state, State::Bucket { level: 3 * UNIT - (UNIT + third), at: 1004 });
}

#[test]
fn a_debt_is_cut_off_when_it_is_made_and_stays_below_what_a_double_holds() {
    let mut counter = Counter::new(limit(TokenBucket, u32::MAX, 100, 1));
    for _ in 0..3 {
        counter.report(1000, i64::MAX);
    }
    assert_eq!(counter.state, State::Bucket { level: 2 * u64::from(u32::MAX) * UNIT, at: 1000 });
}

#[test]
fn the_slowest_and_largest_buckets_answer_without_overflow() {
    for (requests, burst) in [(1, 1), (1, u32::MAX), (u32::MAX, 1), (u32::MAX, u32::MAX)] {
        let mut counter = Counter::new(Limit { burst, ..limit(TokenBucket, requests, WINDOW_MAX.0, 1) });
        assert!(counter.hit(NOW, i64::from(burst)).admitted);
        let refused = counter.hit(NOW, i64::from(burst));
        assert!(!refused.admitted && refused.reset.0 > 0, "{requests} {burst}: {refused:?}");
        counter.report(NOW, i64::MAX);
        let refused = counter.hit(NOW, 1);
        assert!(!counter.look(NOW + refused.reset.0 - 1, 1).admitted, "{requests} {burst}: {refused:?}");
        assert!(counter.look(NOW + refused.reset.0, 1).admitted, "{requests} {burst}: {refused:?}");
    }
}

#[test]
fn the_shortest_window_drains_whole_hits_per_microsecond() {
    let mut counter = Counter::new(limit(TokenBucket, u32::MAX, 1, 1));
    let all = i64::from(u32::MAX);
    counter.play(&[(NOW, all, true, 0, 1), (NOW, 1, false, 0, 1), (NOW + 1, all, true, 0, 1)]);
}

proptest! {
    #![proptest_config(crate::algorithm::properties::config())]

    // Without the single steps after the estimate this fails, in either direction.
    #[test]
    fn a_wait_is_the_least_time_in_which_enough_drains(
        requests in prop_oneof![1u32..5_000, any::<u32>().prop_map(|requests| requests.max(1))],
        window in prop_oneof![1u64..5_000, 1..=WINDOW_MAX.0],
        need in prop_oneof![1..40 * UNIT, 1u64..1 << 53],
    ) {
        let limit = limit(TokenBucket, requests, window, 1);
        let least = wait(&limit, need);
        prop_assert!(least == WAIT_MAX || drained(&limit, least) >= need);
        prop_assert!(drained(&limit, least - 1) < need);
    }
}
