//! What the tests of all algorithms share, and what holds for each of them.

use super::*;
use crate::limit::{Algorithm::*, Micros, SECOND};

/// A counter to play histories at.
#[derive(Clone)]
pub(super) struct Counter {
    pub(super) limit: Limit,
    pub(super) state: State,
}

/// Time, hits, then what must come back: admitted, remaining, reset.
pub(super) type Line = (u64, i64, bool, u64, u64);

impl Counter {
    pub(super) fn new(limit: Limit) -> Counter {
        Counter { limit, state: State::Empty }
    }

    /// As the stores do by default: refused hits charge nothing.
    pub(super) fn hit(&mut self, now: u64, hits: i64) -> Reading {
        self.put(now, Cost { hits, charge_denied: false })
    }

    /// As costs that are reported after the fact.
    pub(super) fn report(&mut self, now: u64, hits: i64) -> Reading {
        self.put(now, Cost { hits, charge_denied: true })
    }

    pub(super) fn put(&mut self, now: u64, cost: Cost) -> Reading {
        let (state, reading) = step(&self.limit, std::mem::take(&mut self.state), cost, UnixMicros(now));
        self.state = state;
        reading
    }

    pub(super) fn look(&self, now: u64, hits: i64) -> Reading {
        self.clone().hit(now, hits)
    }

    /// Plays the lines in order; the first that comes out otherwise fails, by its number.
    pub(super) fn play(&mut self, lines: &[Line]) {
        for (nth, &(now, hits, admitted, remaining, reset)) in lines.iter().enumerate() {
            let expected = Reading { admitted, remaining, reset: Micros(reset) };
            assert_eq!(self.hit(now, hits), expected, "line {nth}: {hits} hits at {now}");
        }
    }
}

/// A limit with round numbers: `requests` a window of `window` µs, in `sub_windows`.
pub(super) fn limit(algorithm: Algorithm, requests: u32, window: u64, sub_windows: u8) -> Limit {
    Limit { sub_windows, ..Limit::new(requests, Micros(window), algorithm) }
}

pub(super) const NOW: u64 = 1_763_707_000_000_000;

#[test]
fn a_look_at_an_empty_counter_leaves_it_empty() {
    for algorithm in Algorithm::ALL {
        let mut counter = Counter::new(Limit::new(10, SECOND, algorithm));
        assert!(counter.hit(NOW, 0).admitted, "{algorithm:?}");
        assert_eq!(counter.state, State::Empty, "{algorithm:?}");
    }
}

#[test]
fn a_refund_of_an_empty_counter_gives_no_credit() {
    for algorithm in Algorithm::ALL {
        let mut counter = Counter::new(Limit::new(10, SECOND, algorithm));
        let before = counter.look(NOW, 0).remaining;
        assert!(counter.hit(NOW, -5).admitted, "{algorithm:?}");
        assert_eq!((&counter.state, counter.look(NOW, 0).remaining), (&State::Empty, before), "{algorithm:?}");
    }
}

#[test]
fn third_hit_of_two_is_over_limit() {
    for algorithm in Algorithm::ALL {
        let mut counter = Counter::new(Limit { burst: 2, ..Limit::new(2, SECOND, algorithm) });
        let answers = [(); 3].map(|()| counter.hit(NOW, 1)).map(|reading| (reading.admitted, reading.remaining));
        assert_eq!(answers, [(true, 1), (true, 0), (false, 0)], "{algorithm:?}");
    }
}

#[test]
fn a_limit_of_zero_refuses_every_hit_and_allows_looks_and_refunds() {
    for algorithm in Algorithm::ALL {
        let mut counter = Counter::new(Limit { burst: 5, ..Limit::new(0, SECOND, algorithm) });
        let refused = Reading { admitted: false, remaining: 0, reset: SECOND };
        assert_eq!(counter.hit(NOW, 1), refused, "{algorithm:?}");
        assert!(counter.hit(NOW, 0).admitted && counter.hit(NOW, -1).admitted, "{algorithm:?}");
        assert_eq!(counter.hit(NOW, 0).remaining, 0, "{algorithm:?}");
    }
}

#[test]
fn a_cost_above_the_limit_is_told_the_window() {
    for algorithm in Algorithm::ALL {
        let mut counter = Counter::new(Limit { burst: 10, ..Limit::new(10, SECOND, algorithm) });
        let refused = Reading { admitted: false, remaining: 10, reset: SECOND };
        for hits in [11, i64::MAX] {
            assert_eq!(counter.hit(NOW, hits), refused, "{algorithm:?}");
        }
    }
}

#[test]
fn a_reported_cost_is_charged_though_refused() {
    for algorithm in Algorithm::ALL {
        let mut counter = Counter::new(Limit { burst: 100, ..Limit::new(100, SECOND, algorithm) });
        assert!(!counter.report(NOW, 5_000).admitted, "{algorithm:?}");
        assert!(!counter.hit(NOW, 1).admitted, "{algorithm:?}");
        assert!(!counter.hit(NOW, 0).admitted, "even a look is refused beyond the limit: {algorithm:?}");
    }
}

#[test]
fn a_refused_cost_that_is_charged_tells_the_room_that_it_found() {
    for algorithm in Algorithm::ALL {
        let mut counter = Counter::new(Limit { burst: 100, ..Limit::new(100, SECOND, algorithm) });
        counter.hit(NOW, 70);
        assert_eq!(counter.report(NOW, 50).remaining, 30, "{algorithm:?}");
        assert_eq!(counter.report(NOW, 50).remaining, 0, "{algorithm:?}");
    }
}

#[test]
fn the_largest_costs_saturate_and_can_be_given_back() {
    for algorithm in Algorithm::ALL {
        let mut counter = Counter::new(Limit::new(100, SECOND, algorithm));
        for _ in 0..3 {
            assert!(!counter.report(NOW, i64::MAX).admitted, "{algorithm:?}");
        }
        for _ in 0..3 {
            assert!(counter.hit(NOW, i64::MIN).admitted, "{algorithm:?}");
        }
        assert_eq!(counter.state, State::Empty, "{algorithm:?}");
    }
}

#[test]
fn a_state_of_another_algorithm_counts_as_empty() {
    let mut counter = Counter::new(Limit::new(1, SECOND, SlidingWindow));
    assert!(counter.hit(NOW, 1).admitted && !counter.hit(NOW, 1).admitted);
    counter.limit.algorithm = FixedWindow;
    assert!(counter.hit(NOW, 1).admitted && !counter.hit(NOW, 1).admitted);
}

#[test]
fn a_state_far_ahead_is_shifted_once_and_keeps_its_count() {
    for algorithm in Algorithm::ALL {
        let limit = Limit { burst: 2, ..Limit::new(2, SECOND, algorithm) };
        let mut counter = Counter::new(limit);
        counter.hit(NOW + 3_600 * SECOND.0, 2);
        assert!(is_ahead(&limit, &counter.state, UnixMicros(NOW)), "{algorithm:?}");
        let refused = counter.hit(NOW, 1);
        assert!(!refused.admitted && refused.reset.0 <= 2 * SECOND.0, "{algorithm:?}: {refused:?}");
        assert!(!is_ahead(&limit, &counter.state, UnixMicros(NOW)), "{algorithm:?}");
        assert!(counter.hit(NOW + refused.reset.0, 1).admitted, "{algorithm:?}");
    }
}

#[test]
fn a_clock_that_is_set_back_blocks_for_two_windows_at_most() {
    for (algorithm, sub_windows) in [(SlidingWindow, 1), (SlidingWindow, 7), (SlidingWindow, 60)]
        .into_iter()
        .chain(Algorithm::ALL.map(|algorithm| (algorithm, 10)))
    {
        let limit = Limit { burst: 3, ..limit(algorithm, 3, SECOND.0 * 42, sub_windows) };
        let (window, sub) = (limit.window.0, limit.window.0 / u64::from(sub_windows));
        // The last µs of a sub-window and the first, by a bit more or less than one, a window, and some.
        for (now, back) in [1, sub - 1, sub, window - 1, window, window + 1, 3 * window]
            .into_iter()
            .flat_map(|back| [NOW - NOW % window - 1, NOW - NOW % window].map(|now| (now, back)))
        {
            let mut counter = Counter::new(limit);
            counter.hit(now, 3);
            let refused = counter.hit(now - back, 1);
            let what = format!("{algorithm:?} of {sub_windows}, {back} µs back: {refused:?}");
            assert!(!refused.admitted && refused.reset.0 <= 2 * window, "{what}");
            assert!(counter.look(now - back + 2 * window, 1).admitted, "{what}");
        }
    }
}

#[test]
fn a_clock_that_steps_back_a_little_frees_nothing() {
    for algorithm in Algorithm::ALL {
        let limit = Limit { burst: 2, ..Limit::new(2, SECOND, algorithm) };
        let mut counter = Counter::new(limit);
        counter.hit(NOW, 2);
        let before = counter.state.clone();
        let refused = counter.hit(NOW - SECOND.0 / 2, 1);
        assert!(!refused.admitted, "{algorithm:?}");
        assert_eq!(counter.state, before, "{algorithm:?}");
        assert!(counter.hit(NOW - SECOND.0 / 2 + refused.reset.0, 1).admitted, "{algorithm:?}");
    }
}

#[test]
fn an_absent_key_means_the_same_from_expiry_on() {
    for algorithm in Algorithm::ALL {
        let mut counter = Counter::new(Limit { burst: 7, ..Limit::new(7, SECOND, algorithm) });
        for k in 0..5 {
            counter.hit(NOW + k * 100_000, 1);
        }
        let expires = counter.state.expires(&counter.limit).0;
        let fresh = Counter::new(counter.limit);
        assert_eq!(counter.look(expires, 0), fresh.look(expires, 0), "{algorithm:?}");
        assert_eq!(counter.look(expires, 7), fresh.look(expires, 7), "{algorithm:?}");
        assert_ne!(counter.look(expires - 1, 0).remaining, 7, "and not before: {algorithm:?}");
    }
}
