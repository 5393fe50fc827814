use crate::algorithm::{State, tests::*};
use crate::limit::Algorithm::{SlidingLog, SlidingWindow};

/// 10 a window of 100 µs in 4 sub-windows of 25: a hit of sub-window p leaves at (p + 5) * 25.
fn counter() -> Counter {
    Counter::new(limit(SlidingWindow, 10, 100, 4))
}

#[test]
fn hits_leave_one_sub_window_after_their_window() {
    counter().play(&[
        (1000, 4, true, 6, 125),
        (1024, 3, true, 3, 101),
        (1030, 3, true, 0, 95),   // None remaining: until the oldest leaves.
        (1030, 1, false, 0, 95),  // So for one hit
        (1030, 7, false, 0, 95),  // and for seven, all of one sub-window;
        (1030, 8, false, 0, 120), // the eighth waits for the next.
        (1124, 1, false, 0, 1),
        (1125, 1, true, 6, 125),
    ]);
}

#[test]
fn a_look_reads_what_a_hit_would_and_counts_nothing() {
    counter().play(&[
        (1000, 0, true, 10, 0),
        (1000, 9, true, 1, 125),
        (1060, 0, true, 1, 65),
        (1060, 1, true, 0, 65),
        (1060, 0, true, 0, 65),
        (1125, 0, true, 9, 50),
        (1175, 0, true, 10, 0),
    ]);
}

#[test]
fn a_refund_takes_the_oldest_hits_first() {
    counter().play(&[
        (1000, 4, true, 6, 125),
        (1025, 4, true, 2, 125),
        (1050, -5, true, 7, 100), // Four of the first, one of the second
        (1050, 8, false, 7, 100), // which alone is left.
        (1050, -99, true, 10, 0),
    ]);
}

#[test]
fn a_counter_that_was_given_back_whole_is_empty() {
    let mut counter = counter();
    counter.play(&[(1000, 4, true, 6, 125), (1050, 2, true, 4, 125), (1075, -6, true, 10, 0)]);
    assert_eq!(counter.state, State::Empty);
}

#[test]
fn a_refund_after_which_the_current_sub_window_is_empty_names_the_newest_hit() {
    let mut counter = counter();
    counter.play(&[(1000, 4, true, 6, 125), (1050, -1, true, 7, 75), (1051, 0, true, 7, 74)]);
    assert_eq!(counter.state.expires(&counter.limit).0, 1125);
}

#[test]
fn a_reported_cost_beyond_the_limit_blocks_until_enough_has_left() {
    let mut counter = counter();
    counter.hit(1000, 8);
    assert_eq!(counter.report(1050, 5).reset.0, 75, "of 13 + 5, the 8 beyond the limit are the oldest 8");
    counter.play(&[(1050, 0, false, 0, 75), (1124, 0, false, 0, 1), (1125, 0, true, 5, 50), (1125, 5, true, 0, 50)]);
}

#[test]
fn turning_appends_one_pair_and_cuts_the_expired() {
    let mut counter = counter();
    for sub_window in 0..40 {
        counter.hit(1000 + 25 * sub_window, 1);
    }
    let State::Sliding { index, older_hits: older, older_counts: counts, count, oldest } = &counter.state else {
        panic!("not a sliding state")
    };
    assert_eq!((*index, *older, *count, *oldest), (79, 4, 1, 4));
    let counts: Vec<_> = counts.as_ref().unwrap().iter(*index).collect();
    assert_eq!(counts, [(75, 1), (76, 1), (77, 1), (78, 1)]);
}

#[test]
fn a_gap_longer_than_the_window_frees_the_heap() {
    let mut counter = counter();
    counter.play(&[(1000, 1, true, 9, 125), (1025, 1, true, 8, 125)]);
    assert!(counter.state.heap_bytes() > 0);
    counter.play(&[(5000, 1, true, 9, 125)]);
    assert_eq!(counter.state.heap_bytes(), 0);
}

#[test]
fn indexes_of_64_sub_windows_stay_apart_around_256() {
    let mut counter = Counter::new(limit(SlidingWindow, 1_000, 64, 64));
    for now in 0..1_000 {
        assert_eq!(counter.hit(now, 1).remaining, 1_000 - (now + 1).min(65), "at {now}");
    }
}

#[test]
fn a_window_that_n_does_not_divide_gets_longer_sub_windows() {
    let mut counter = Counter::new(limit(SlidingWindow, 1, 10, 3)); // ceil(10 / 3) = 4
    counter.play(&[(3, 1, true, 0, 13), (15, 1, false, 0, 1), (16, 1, true, 0, 16)]);
}

#[test]
fn a_clock_set_back_within_the_window_uses_the_later_sub_window() {
    counter().play(&[(1100, 10, true, 0, 125), (1025, 1, false, 0, 200), (1025, 0, true, 0, 200)]);
}

#[test]
fn a_clock_set_back_further_shifts_all_sub_windows_alike() {
    let mut counter = counter();
    counter.play(&[(9000, 3, true, 7, 125), (9050, 3, true, 4, 125)]);
    // Now the newest is in 1000..1025, the other two sub-windows before it.
    counter.play(&[(1000, 7, false, 4, 75), (1075, 7, true, 0, 50)]);
    // Exactly a window is too far as well.
    self::counter().play(&[(1100, 10, true, 0, 125), (1000, 1, false, 0, 125)]);
}

#[test]
fn a_limit_that_changes_keeps_the_count() {
    let mut counter = counter();
    counter.play(&[(1000, 10, true, 0, 125)]);
    counter.limit.requests = 15;
    counter.play(&[(1000, 5, true, 0, 125)]);
    counter.limit.requests = 10;
    counter.play(&[(1000, 0, false, 0, 125)]);
}

#[test]
fn at_saturation_it_admits_what_a_log_would_less_one_sub_window() {
    for sub_windows in [8, 16, 32] {
        let mut window = Counter::new(limit(SlidingWindow, 100, 60_000, sub_windows));
        let mut log = Counter::new(limit(SlidingLog, 100, 60_000, sub_windows));
        let mut admitted = [0u32; 2];
        // Three times the limit, 211 µs apart so that it meets sub-windows at every phase, for 100 windows.
        for now in (NOW..NOW + 6_000_000).step_by(211) {
            admitted[0] += u32::from(window.hit(now, 1).admitted);
            admitted[1] += u32::from(log.hit(now, 1).admitted);
        }
        let share = f64::from(admitted[0]) / f64::from(admitted[1]);
        let promised = 1.0 - 1.0 / f64::from(sub_windows);
        assert!((promised - 0.01..1.0).contains(&share), "{sub_windows} sub-windows: {share}");
    }
}
