use crate::algorithm::{State, tests::*};
use crate::limit::Algorithm::FixedWindow;

/// 10 a window of 100 µs, aligned to the epoch.
fn counter() -> Counter {
    Counter::new(limit(FixedWindow, 10, 100, 1))
}

#[test]
fn the_count_starts_afresh_at_each_multiple_of_the_window() {
    counter().play(&[
        (1040, 10, true, 0, 60),
        (1099, 1, false, 0, 1),
        (1100, 1, true, 9, 100),
        (1250, 0, true, 10, 50),
    ]);
}

#[test]
fn a_refund_counts_in_its_own_window_only() {
    counter().play(&[
        (1000, 10, true, 0, 100),
        (1050, -4, true, 4, 50),
        (1050, 4, true, 0, 50),
        (1100, -4, true, 10, 100),
        (1100, 11, false, 10, 100),
    ]);
}

#[test]
fn a_refused_cost_leaves_the_old_window_as_it_was() {
    let mut counter = counter();
    counter.play(&[(1000, 10, true, 0, 100), (1200, 11, false, 10, 100)]);
    assert_eq!(counter.state, State::Fixed { index: 10, count: 10 });
}

#[test]
fn a_clock_set_back_by_one_window_stays_in_the_later_one() {
    counter().play(&[(1100, 10, true, 0, 100), (1050, 1, false, 0, 150), (1099, 1, false, 0, 101)]);
}

#[test]
fn a_clock_set_back_further_takes_the_count_with_it() {
    counter().play(&[
        (9000, 8, true, 2, 100),
        (1050, 3, false, 2, 50),
        (1050, 2, true, 0, 50),
        (1100, 1, true, 9, 100),
    ]);
}

#[test]
fn refused_hits_that_count_keep_the_largest_limit_over_for_a_look_too() {
    let mut counter = Counter::new(limit(FixedWindow, u32::MAX, 100, 1));
    let admitted = [i64::from(u32::MAX), 0, 1, 0].map(|hits| counter.report(1000, hits).admitted);
    assert_eq!(admitted, [true, true, false, false]);
}
