//! What the algorithms promise, tried on random histories. The seed is fixed, so that a run can be repeated; other
//! histories are tried with `PROPTEST_RNG_SEED=… PROPTEST_CASES=… cargo test --lib properties`.

use proptest::{
    prelude::*,
    test_runner::{Config, RngSeed},
};

use super::{Algorithm::*, tests::*, *};
use crate::limit::{Micros, SECOND};

mod held;
mod models;
mod retries;
mod set_back;
mod undo;

/// One cost of a history: how long after the one before, in parts of the window, and how much.
#[derive(Clone, Copy, Debug)]
struct Event {
    gap: u64,
    hits: i64,
    charge_denied: bool,
}

/// For every property of this room.
pub(super) fn config() -> Config {
    let config = Config::default();
    match config.rng_seed {
        RngSeed::Random => Config { rng_seed: RngSeed::Fixed(0x7011_6a7e), failure_persistence: None, ..config },
        RngSeed::Fixed(_) => config,
    }
}

fn any_algorithm() -> impl Strategy<Value = Algorithm> {
    prop::sample::select(Algorithm::ALL.to_vec())
}

/// Small numbers, where every rounding shows, and those that services have.
fn any_limit(algorithm: impl Strategy<Value = Algorithm>) -> impl Strategy<Value = Limit> {
    let window = prop_oneof![1u64..300, 1_000u64..100_000, Just(SECOND.0), Just(60 * SECOND.0), Just(WINDOW_MAX.0)];
    let requests = prop_oneof![8 => 1u32..40, 1 => 40u32..5_000, 1 => Just(0)];
    (algorithm, requests, window, 1u8..=64, 1u32..40).prop_map(|(algorithm, requests, window, sub_windows, burst)| {
        Limit { burst, ..limit(algorithm, requests, window, sub_windows) }
    })
}

/// Bursts, gaps around a sub-window and around the window, and pauses; none so long that a history outruns `NOW_MAX`.
fn any_gap(limit: Limit) -> impl Strategy<Value = u64> {
    let (window, sub) = (limit.window.0, limit.window.0.div_ceil(u64::from(limit.sub_windows)));
    prop_oneof![
        4 => Just(0),
        4 => 0..=sub,
        3 => 0..=window / 4 + 1,
        1 => window.saturating_sub(1)..=window + 1,
        1 => 0..=3 * window,
    ]
    .prop_map(|gap| gap.min((NOW_MAX - NOW) / 128))
}

fn history(limit: Limit, hits: impl Strategy<Value = i64>, charge: bool) -> impl Strategy<Value = Vec<Event>> {
    let event = (any_gap(limit), hits, prop::bool::weighted(if charge { 0.2 } else { 0.0 }));
    let event = event.prop_map(|(gap, hits, charge_denied)| Event { gap, hits, charge_denied });
    prop::collection::vec(event, 1..60)
}

/// Mostly single hits, also looks, refunds, and costs around the limit.
fn usual_hits(limit: Limit) -> impl Strategy<Value = i64> {
    let most = i64::from(limit.requests.max(limit.burst));
    prop_oneof![6 => Just(1), 1 => Just(0), 3 => 1..=most + 2, 2 => -most - 2..=0]
}

/// Also costs at which counts saturate.
fn any_hits(limit: Limit) -> impl Strategy<Value = i64> {
    prop_oneof![12 => usual_hits(limit), 1 => Just(i64::MAX), 1 => Just(i64::MIN)]
}

/// A limit of one of the algorithms and any history of it.
fn any_case(algorithm: impl Strategy<Value = Algorithm>) -> impl Strategy<Value = (Limit, Vec<Event>)> {
    any_limit(algorithm).prop_flat_map(|limit| (Just(limit), history(limit, any_hits(limit), true)))
}

/// A limit and a history that never charges what it refuses, with costs of at most the limit.
fn honest_case(algorithms: &'static [Algorithm], hits: i64) -> impl Strategy<Value = (Limit, Vec<Event>)> {
    any_limit(prop::sample::select(algorithms)).prop_flat_map(move |limit| {
        let hits = prop_oneof![4 => Just(1), 2 => 1..=hits.max(1)];
        (Just(limit), history(limit, hits, false))
    })
}

/// Plays a history from `NOW` on; returns the counter and the time at its end.
fn played(limit: Limit, events: &[Event]) -> (Counter, u64) {
    let (mut counter, mut now) = (Counter::new(limit), NOW);
    for event in events {
        now += event.gap;
        counter.put(now, Cost { hits: event.hits, charge_denied: event.charge_denied });
    }
    (counter, now)
}

/// Whether a cost can ever pass.
fn can_pass(limit: &Limit, hits: u64) -> bool {
    let room = if limit.algorithm.has_burst() { limit.burst } else { limit.requests };
    limit.requests > 0 && hits <= u64::from(room)
}

/// Whether a clock can get there: a bucket that needs centuries promises a time that none does.
fn in_reach(now: u64, reset: u64) -> bool {
    now + reset < NOW_MAX && reset < 1 << 51
}

/// Refused at every moment of `now..now + reset` that is tried, admitted at its end.
fn kept(counter: &Counter, now: u64, hits: i64, reset: u64) -> Result<(), TestCaseError> {
    let near = (1..=3).chain([reset / 2, reset / 3, reset]).filter(|before| (1..=reset).contains(before));
    if !in_reach(now, reset) {
        return Ok(());
    }
    for before in near {
        let early = counter.look(now + reset - before, hits);
        prop_assert!(!early.admitted, "admitted {before} µs before the promised {reset}");
        prop_assert_eq!(early.reset.0, before, "the promise must come nearer with time");
    }
    prop_assert!(counter.look(now + reset, hits).admitted, "still refused after the promised {reset}");
    Ok(())
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn no_true_window_holds_more_than_the_limit(
        (limit, events) in any_limit(prop::sample::select(&[SlidingWindow, SlidingLog][..]))
            .prop_flat_map(|limit| (Just(limit), history(limit, any_hits(limit), false)))
    ) {
        let mut ledger = models::Ledger::default();
        let (mut counter, mut now) = (Counter::new(limit), NOW);
        for event in events {
            now += event.gap;
            if counter.hit(now, event.hits).admitted {
                ledger.note(&limit, now, event.hits);
            }
            let contents = ledger.held(now, limit.window.0);
            prop_assert!(contents <= u64::from(limit.requests), "{contents} hits in the window that ends at {now}");
        }
    }

    #[test]
    fn a_sliding_window_admits_at_least_what_a_log_one_sub_window_longer_would(
        (limit, events) in honest_case(&[SlidingWindow], 1)
    ) {
        let n = u64::from(limit.sub_windows);
        let longer = Micros((n + 1) * limit.window.0.div_ceil(n));
        let (mut counter, mut now, mut ahead) = (Counter::new(limit), NOW, 0i64);
        let mut log = Counter::new(Limit { window: longer, algorithm: SlidingLog, ..limit });
        for event in events {
            now += event.gap;
            ahead += i64::from(counter.hit(now, 1).admitted) - i64::from(log.hit(now, 1).admitted);
            prop_assert!(ahead >= 0, "behind the log at {now}");
        }
    }

    #[test]
    fn a_window_answers_as_its_plain_model(
        (limit, events) in any_limit(prop::sample::select(&[SlidingWindow, FixedWindow][..]))
            .prop_flat_map(|limit| (Just(limit), history(limit, usual_hits(limit), true)))
    ) {
        models::same_answers(limit, &events)?;
    }

    // Refunds and reported costs apart: of entries that became one, a refund takes as if all had the later time.
    #[test]
    fn a_log_answers_as_its_plain_model_with_refunds(
        (limit, events) in any_limit(Just(SlidingLog))
            .prop_flat_map(|limit| (Just(limit), history(limit, usual_hits(limit), false)))
    ) {
        models::same_answers(limit, &events)?;
    }

    #[test]
    fn a_log_answers_as_its_plain_model_with_reported_costs(
        (limit, events) in any_limit(Just(SlidingLog)).prop_flat_map(|limit| (Just(limit), history(limit, 0i64..9, true)))
    ) {
        models::same_answers(limit, &events)?;
    }

    #[test]
    fn a_bucket_admits_what_an_exact_one_would((limit, events) in honest_case(&[TokenBucket, LeakyBucket], 30)) {
        models::within_a_unit_of_exact(limit, &events)?;
    }

    #[test]
    fn a_bucket_admits_at_most_its_burst_and_what_drains((limit, events) in honest_case(&[TokenBucket, LeakyBucket], 30)) {
        models::burst_and_refill(limit, &events)?;
    }

    #[test]
    fn a_refused_cost_is_admitted_at_its_reset_and_not_before(
        (limit, events) in any_case(any_algorithm()), hits in 1i64..45, set_back in prop_oneof![3 => Just(0), 1 => 0u64..500, 1 => 0u64..1 << 50]
    ) {
        let (mut counter, now) = played(limit, &events);
        let now = now - set_back;
        let refused = counter.hit(now, hits);
        if !refused.admitted && can_pass(&limit, hits as u64) {
            kept(&counter, now, hits, refused.reset.0)?;
        }
    }

    #[test]
    fn a_clock_that_goes_back_grants_nothing_and_blocks_for_two_windows_at_most(
        (limit, events) in any_case(any_algorithm()),
        report in prop_oneof![1 => Just(0), 1 => 1i64..90, 2 => Just(i64::MAX)],
        back in prop_oneof![1 => Just(0.0), 4 => 0.0..1.2f64, 2 => Just(1.0), 1 => 0.0..50.0], off in 0u64..3,
        hits in prop_oneof![2 => Just(1), 1 => 1i64..45]
    ) {
        let (mut counter, now) = played(limit, &events);
        counter.report(now, report);
        let then = now.saturating_sub((limit.window.0 as f64 * back) as u64 + off);
        set_back::grants_nothing_and_blocks_briefly(counter, now, then, hits)?;
    }

    #[test]
    fn with_none_remaining_one_more_hit_is_admitted_at_reset_and_not_before((limit, events) in any_case(any_algorithm()), hits in -5i64..9) {
        let (mut counter, now) = played(limit, &events);
        let reading = counter.hit(now, hits);
        if reading.admitted && reading.remaining == 0 && can_pass(&limit, 1) {
            kept(&counter, now, 1, reading.reset.0)?;
        }
    }

    #[test]
    fn with_some_remaining_the_counter_is_empty_at_reset_and_not_before((limit, events) in any_case(any_algorithm()), hits in -5i64..9) {
        let (mut counter, now) = played(limit, &events);
        let reading = counter.hit(now, hits);
        if reading.admitted && reading.remaining > 0 && in_reach(now, reading.reset.0) {
            let used = |now: u64| counter.look(now, 0).remaining < Counter::new(limit).look(now, 0).remaining;
            prop_assert!(!used(now + reading.reset.0));
            let was_used = counter.state != State::Empty && reading.reset.0 > 0 && !limit.algorithm.has_burst();
            prop_assert!(!was_used || limit.algorithm == FixedWindow || used(now + reading.reset.0 - 1));
        }
    }

    #[test]
    fn exactly_the_remaining_hits_are_admitted_now((limit, events) in any_case(any_algorithm()), hits in -3i64..9) {
        let (mut counter, now) = played(limit, &events);
        let remaining = counter.hit(now, hits).remaining as i64;
        prop_assert!(remaining == 0 || counter.look(now, remaining).admitted);
        prop_assert!(!counter.look(now, remaining + 1).admitted);
        let ones = (0..100).take_while(|_| counter.hit(now, 1).admitted).count() as i64;
        prop_assert_eq!(ones, remaining.min(100));
    }

    #[test]
    fn a_smaller_cost_is_admitted_where_a_larger_one_is_and_waits_no_longer(
        (limit, events) in any_case(any_algorithm()), larger in 1i64..45, part in 0.0..1.0
    ) {
        let (counter, now) = played(limit, &events);
        let smaller = (larger as f64 * part) as i64;
        let (small, large) = (counter.look(now, smaller), counter.look(now, larger));
        prop_assert!(small.admitted || !large.admitted);
        if !small.admitted && can_pass(&limit, larger as u64) {
            prop_assert!(small.reset <= large.reset, "{smaller}: {small:?}, {larger}: {large:?}");
        }
    }

    #[test]
    fn a_limit_that_changes_keeps_what_was_used((limit, events) in honest_case(&Algorithm::ALL, 5), more in 1u32..50) {
        let (mut counter, now) = played(limit, &events);
        let before = counter.look(now, 0);
        counter.limit.requests += more;
        counter.limit.burst += more;
        // A bucket drains at the new rate since its last hit.
        let after = counter.look(now, 0);
        if limit.algorithm.has_burst() {
            prop_assert!(after.remaining >= before.remaining + u64::from(more));
        } else {
            prop_assert_eq!(after.remaining, before.remaining + u64::from(more));
        }
        counter.limit = limit;
        prop_assert_eq!(counter.look(now, 0), before, "and back");
    }

    #[test]
    fn a_limit_that_is_lowered_keeps_what_was_used_and_what_comes_under_it_stays_when_it_is_raised_again(
        (limit, events) in honest_case(&Algorithm::ALL, 5), less in 0u32..50, hits in 1i64..5
    ) {
        let (mut counter, now) = played(limit, &events);
        let before = counter.look(now, 0).remaining;
        let number = if limit.algorithm.has_burst() { &mut counter.limit.burst } else { &mut counter.limit.requests };
        let less = less.min(*number);
        *number -= less;
        let room = before.saturating_sub(u64::from(less));
        prop_assert_eq!(counter.look(now, 0).remaining, room);
        let admitted = counter.hit(now, hits).admitted;
        prop_assert_eq!(admitted, hits as u64 <= room);
        counter.limit = limit;
        prop_assert_eq!(counter.look(now, 0).remaining, before - if admitted { hits as u64 } else { 0 });
    }

    #[test]
    fn what_is_not_charged_leaves_the_state_as_it_was(
        (limit, events) in any_case(any_algorithm()), gap in 0.0..2.5, hits in prop_oneof![Just(0), 1i64..45]
    ) {
        let (mut counter, now) = played(limit, &events);
        let before = counter.state.clone();
        let reading = counter.hit(now + (limit.window.0 as f64 * gap) as u64, hits);
        let charged = hits > 0 && reading.admitted;
        prop_assert_eq!(counter.state != before, charged, "{:?}", reading);
    }

    #[test]
    fn a_refund_undoes_its_hits((limit, events) in any_case(any_algorithm()), gap in 0u64..1000, hits in 1i64..20) {
        let (mut counter, now) = played(limit, &events);
        let now = now + gap;
        let before = counter.look(now, 0);
        if counter.hit(now, hits).admitted {
            counter.hit(now, -hits);
            prop_assert_eq!(counter.hit(now, 0).remaining, before.remaining);
        }
    }

    #[test]
    fn a_state_survives_packing((limit, events) in any_case(any_algorithm()), behind in prop::collection::vec(any::<u8>(), 0..20)) {
        let (counter, _) = played(limit, &events);
        let mut bytes = Vec::new();
        counter.state.encode(&mut bytes);
        if !bytes.is_empty() {
            bytes.extend(behind);
        }
        prop_assert_eq!(State::decode(&bytes, limit.algorithm), Some(counter.state));
    }

    #[test]
    fn no_bytes_make_a_counter_panic(
        (limit, events) in any_case(any_algorithm()), flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        now in prop_oneof![Just(0), Just(NOW), any::<u64>()], hits in any::<i64>(), charge_denied in any::<bool>()
    ) {
        let (counter, _) = played(limit, &events);
        let mut bytes = Vec::new();
        counter.state.encode(&mut bytes);
        for (at, value) in flips.into_iter().filter(|_| counter.state != State::Empty) {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Some(state) = State::decode(&bytes, limit.algorithm) {
            state.expires(&limit);
            let mut counter = Counter { limit, state };
            counter.put(now, Cost { hits, charge_denied });
            counter.hit(now, -hits.saturating_abs());
        }
    }
}
