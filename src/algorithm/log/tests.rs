use super::*;
use crate::algorithm::tests::*;
use crate::limit::Algorithm::SlidingLog;

/// 10 in any 100 µs.
fn counter() -> Counter {
    Counter::new(limit(SlidingLog, 10, 100, 1))
}

fn entries(counter: &Counter) -> Vec<(u64, u64)> {
    let State::Log { log, .. } = &counter.state else { return Vec::new() };
    log.iter().collect()
}

#[test]
fn a_hit_leaves_exactly_one_window_later() {
    counter().play(&[
        (1000, 4, true, 6, 100),
        (1030, 6, true, 0, 70),
        (1030, 4, false, 0, 70),
        (1030, 5, false, 0, 100),
        (1099, 1, false, 0, 1),
        (1100, 4, true, 0, 30),
        (1100, 11, false, 0, 100),
    ]);
}

#[test]
fn hits_of_one_moment_share_an_entry() {
    let mut counter = counter();
    counter.play(&[(1000, 1, true, 9, 100), (1000, 2, true, 7, 100), (1001, 1, true, 6, 100)]);
    assert_eq!(entries(&counter), [(1000, 3), (1001, 1)]);
}

#[test]
fn a_refund_takes_the_oldest_hits_still_in_the_window() {
    let mut counter = counter();
    counter.play(&[(1000, 3, true, 7, 100), (1050, 3, true, 4, 100), (1060, 3, true, 1, 100), (1100, -4, true, 8, 60)]);
    assert_eq!(entries(&counter), [(1060, 2)]);
    counter.play(&[(1100, -9, true, 10, 0)]);
    assert_eq!(counter.state, State::Empty);
}

#[test]
fn reported_costs_keep_one_entry_more_than_the_limit_at_most() {
    let mut counter = counter();
    for now in 1000..1050 {
        counter.report(now, 2);
    }
    let kept = entries(&counter);
    assert_eq!(kept.len(), 11);
    assert_eq!((kept[0], kept[10]), ((1039, 80), (1049, 2)), "the oldest became one, and none was lost");
}

#[test]
fn the_dead_in_front_are_cut_off_before_they_outweigh_the_living() {
    let mut counter = Counter::new(limit(SlidingLog, 1_000, 100, 1));
    for now in 1000..9000 {
        counter.hit(now, 1);
        assert!(counter.state.heap_bytes() <= size_of::<Log>() + 4 * 100 * ENTRY + ENTRY, "at {now}");
    }
    assert_eq!(entries(&counter).len(), 100);
}

#[test]
fn memory_of_a_great_burst_is_given_back_when_it_has_left() {
    let mut counter = Counter::new(limit(SlidingLog, 1_000, 10_000, 1));
    for now in 0..1_000 {
        counter.hit(now, 1);
    }
    assert!(counter.state.heap_bytes() >= 1_000 * ENTRY);
    counter.hit(20_000, 1);
    assert!(counter.state.heap_bytes() < 10 * ENTRY, "{}", counter.state.heap_bytes());
}

#[test]
fn a_clock_set_back_far_moves_all_entries_alike() {
    let mut counter = counter();
    counter.play(&[(9000, 3, true, 7, 100), (9050, 7, true, 0, 50), (1000, 1, false, 0, 50), (1049, 1, false, 0, 1)]);
    assert_eq!(entries(&counter), [(950, 3), (1000, 7)]);
}

#[test]
fn a_clock_set_back_a_little_uses_the_time_of_the_newest_hit() {
    let mut counter = counter();
    counter.play(&[(1000, 3, true, 7, 100), (950, 3, true, 4, 150)]);
    assert_eq!(entries(&counter), [(1000, 6)]);
}
