//! The algorithms once more, as plainly as can be: every hit in a list, fractions exact. Slow, and only to compare with.

use proptest::test_runner::TestCaseError;

use super::*;
use crate::algorithm::bucket::UNIT;

/// Every admitted hit with its time, oldest first, less what was given back.
#[derive(Default)]
pub(super) struct Ledger(Vec<(u64, u64)>);

impl Ledger {
    /// Notes what was admitted; a refund takes the oldest hits that still count.
    pub(super) fn note(&mut self, limit: &Limit, now: u64, hits: i64) {
        if hits >= 0 {
            self.0.push((now, hits.unsigned_abs()));
            return;
        }
        let mut back = hits.unsigned_abs();
        for (_, hits) in self.0.iter_mut().filter(|(time, _)| leaves(limit, *time) > now) {
            let taken = back.min(*hits);
            *hits -= taken;
            back -= taken;
        }
    }

    /// Hits in the window that ends at `now`.
    pub(super) fn held(&self, now: u64, window: u64) -> u64 {
        self.0.iter().filter(|(time, _)| time + window > now).map(|(_, hits)| hits).sum()
    }

    fn used(&self, limit: &Limit, now: u64) -> u64 {
        self.0.iter().filter(|(time, _)| leaves(limit, *time) > now).map(|(_, hits)| hits).sum()
    }

    /// The least time from `now` on at which at most `most` hits are in use.
    fn until_used(&self, limit: &Limit, now: u64, most: u64) -> u64 {
        let moments = self.0.iter().map(|(time, _)| leaves(limit, *time)).filter(|time| *time > now);
        moments.chain([now]).filter(|time| self.used(limit, *time) <= most).min().expect("at its last, none is in use")
    }
}

/// When a hit of `time` stops to count.
fn leaves(limit: &Limit, time: u64) -> u64 {
    let (n, window) = (u64::from(limit.sub_windows), limit.window.0);
    match limit.algorithm {
        SlidingWindow => (time / window.div_ceil(n) + n + 1) * window.div_ceil(n),
        FixedWindow => (time / window + 1) * window,
        SlidingLog => time + window,
        TokenBucket | LeakyBucket => unreachable!("buckets drain"),
    }
}

/// Plays a history at a window algorithm and at its plain model.
pub(super) fn same_answers(limit: Limit, events: &[Event]) -> Result<(), TestCaseError> {
    let (mut counter, mut model, mut now) = (Counter::new(limit), Ledger::default(), NOW);
    let (requests, window) = (u64::from(limit.requests), limit.window.0);
    for (nth, event) in events.iter().enumerate() {
        now += event.gap;
        let (hits, cost) = (event.hits, event.hits.max(0) as u64);
        let admitted = hits < 0 || model.used(&limit, now) + cost <= requests;
        let before = model.used(&limit, now);
        if admitted || event.charge_denied {
            model.note(&limit, now, hits);
        }
        let used = if admitted { model.used(&limit, now) } else { before };
        let remaining = requests.saturating_sub(used);
        let reset = if cost > requests {
            window
        } else if limit.algorithm == FixedWindow {
            leaves(&limit, now) - now
        } else if !admitted {
            model.until_used(&limit, now, requests - cost) - now
        } else if remaining > 0 {
            model.until_used(&limit, now, 0) - now
        } else if requests == 0 {
            window
        } else {
            model.until_used(&limit, now, requests - 1) - now
        };
        let reading = counter.put(now, Cost { hits, charge_denied: event.charge_denied });
        let expected = Reading { admitted, remaining, reset: Micros(reset) };
        prop_assert_eq!(reading, expected, "event {} at {}", nth, now);
    }
    Ok(())
}

/// Plays a history at a bucket and at an exact one: what the exact one refuses is refused, and what is refused would
/// not fit by more than the unit that each charge may have lost.
pub(super) fn within_a_unit_of_exact(limit: Limit, events: &[Event]) -> Result<(), TestCaseError> {
    let (mut counter, mut now) = (Counter::new(limit), NOW);
    let (requests, window) = (u128::from(limit.requests), u128::from(limit.window.0));
    // In hits / (UNIT * window), so that every amount is whole.
    let (hit, unit) = (u128::from(UNIT) * window, window);
    let (mut level, mut charges) = (0u128, 0u128);
    for event in events {
        now += event.gap;
        level = level.saturating_sub(u128::from(event.gap) * requests * u128::from(UNIT));
        let asked = level + event.hits as u128 * hit;
        let burst = u128::from(limit.burst) * hit;
        if counter.hit(now, event.hits).admitted {
            prop_assert!(asked <= burst + unit / 1024, "admitted {} over", asked - burst);
            level = asked;
            charges += 1;
        } else {
            prop_assert!(requests == 0 || asked + charges * unit > burst, "refused with {} free", burst - asked);
        }
    }
    Ok(())
}

/// In any stretch of time, no more than the burst and what drains meanwhile.
pub(super) fn burst_and_refill(limit: Limit, events: &[Event]) -> Result<(), TestCaseError> {
    let (mut counter, mut now, mut admitted) = (Counter::new(limit), NOW, Vec::new());
    for event in events {
        now += event.gap;
        if counter.hit(now, event.hits).admitted {
            admitted.push((now, event.hits as u128));
        }
    }
    for (nth, &(start, _)) in admitted.iter().enumerate() {
        let mut sum = 0;
        for &(end, hits) in &admitted[nth..] {
            sum += hits;
            let window = u128::from(limit.window.0);
            let room = u128::from(limit.burst) * window + u128::from(end - start) * u128::from(limit.requests);
            prop_assert!(sum * window <= room, "{sum} hits from {start} to {end}");
        }
    }
    Ok(())
}
