//! Thinning against the plain state: never fewer hits, never more heap than allowed, and the end of it all.

use super::*;
use crate::{
    algorithm::step,
    limit::{Algorithm, Cost, Micros, SECOND, UnixMicros},
};

const START: u64 = 1_800_000_000_000_000;
const MINUTE: Micros = Micros(60 * SECOND.0);

fn used(limit: &Limit, state: &State, at: u64) -> u64 {
    let look = Cost { hits: 0, charge_denied: false };
    u64::from(limit.requests) - step(limit, state.clone(), look, UnixMicros(at)).1.remaining
}

/// One hit a second for a minute, thinned to `heap` after each.
fn minute(limit: &Limit, heap: usize) -> (State, State) {
    let hit = Cost { hits: 1, charge_denied: false };
    let (mut plain, mut thin) = (State::Empty, State::Empty);
    for second in 0..60 {
        let now = UnixMicros(START + second * SECOND.0);
        plain = step(limit, plain, hit, now).0;
        thin = thinned(step(limit, thin, hit, now).0, limit, heap);
        assert!(used(limit, &thin, now.0) >= used(limit, &plain, now.0));
    }
    (plain, thin)
}

#[test]
fn thinned_state_fits_counts_no_less_and_ends_one_part_later_at_most() {
    for (algorithm, heap, parts) in
        [(Algorithm::SlidingWindow, 64, SLIDING_PARTS), (Algorithm::SlidingLog, 512, LOG_PARTS)]
    {
        let limit = Limit::new(1_000, MINUTE, algorithm);
        let (plain, thin) = minute(&limit, heap);
        assert!(thin.heap_bytes() <= heap && plain.heap_bytes() > heap, "{algorithm:?}");
        for second in 60..180 {
            let at = START + second * SECOND.0;
            // A part later than the plain state forgets; a sub-window of slack for where parts and seconds meet.
            let behind = at - MINUTE.0 / parts - 2 * SECOND.0;
            let thin = used(&limit, &thin, at);
            assert!(thin >= used(&limit, &plain, at), "{algorithm:?} at {second}");
            assert!(thin <= used(&limit, &plain, behind), "{algorithm:?} at {second}");
        }
        assert_eq!(thin.expires(&limit), plain.expires(&limit));
    }
}

#[test]
fn squeezed_state_holds_every_hit_as_of_the_newest() {
    for algorithm in [Algorithm::SlidingWindow, Algorithm::SlidingLog] {
        let limit = Limit::new(1_000, MINUTE, algorithm);
        let (plain, thin) = minute(&limit, 0);
        assert!(thin.heap_bytes() < 64, "{algorithm:?}");
        assert_eq!(
            (used(&limit, &plain, START + 59 * SECOND.0), used(&limit, &thin, START + 118 * SECOND.0)),
            (60, 60)
        );
        assert_eq!(used(&limit, &thin, START + 121 * SECOND.0), 0);
    }
}

#[test]
fn thinned_state_packs_and_unpacks() {
    for algorithm in [Algorithm::SlidingWindow, Algorithm::SlidingLog] {
        for heap in [0, 512] {
            let (_, thin) = minute(&Limit::new(1_000, MINUTE, algorithm), heap);
            let mut bytes = Vec::new();
            thin.encode(&mut bytes);
            assert_eq!(State::decode(&bytes, algorithm), Some(thin), "{algorithm:?}");
        }
    }
}
