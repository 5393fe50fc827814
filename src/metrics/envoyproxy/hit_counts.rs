//! The reference's arithmetic: what one cost adds to total_hits, within_limit, near_limit, over_limit, shadow_mode
//! (reference §5, A2 to A8) and total_negative_hits, and the counters that it adds to. Knows one cost and its reading, no rules and no names.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::{
    limit::Reading,
    store::{CounterCheck, Role},
};

#[cfg(test)]
mod tests;

/// What one cost adds. Every hit is either `within` or `beyond`; together they are the reference's total_hits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HitCounts {
    pub within: u64,
    /// Hits of costs that were refused, what would have fitted included, and hits that nobody could answer for.
    pub beyond: u64,
    pub near: u64,
    pub over: u64,
    pub shadow: u64,
    /// Of those over, the ones that a remembered denial answered: the reference's local cache.
    pub from_cache: u64,
    /// Hits that were to be given back; they are none of the others.
    pub negative: u64,
}

impl HitCounts {
    /// Of `hits` put to a counter that answered `reading`. Exact where refused hits are charged, as the reference does.
    /// Where they are free: a refused cost takes nothing, so all of it is over the limit and none of it near; and a
    /// cost that this limit admits is within it though another limit denies the request.
    pub(crate) fn of(check: &CounterCheck<'_>, reading: Reading, hits: i64, near_ratio: f32) -> HitCounts {
        let Ok(hits) = u64::try_from(hits) else { return HitCounts::given_back(hits) };
        let limit = if check.limit.algorithm.has_burst() { check.limit.burst } else { check.limit.requests };
        // In single precision, as the reference has it; the cast rounds down.
        let near = (limit as f32 * near_ratio) as u64;
        let limit = u64::from(limit);
        let count = limit.saturating_sub(reading.remaining);
        if reading.admitted {
            let before = count.saturating_sub(hits);
            let near = match count {
                _ if count <= near => 0,
                _ if before >= near => hits,
                _ => count - near,
            };
            return HitCounts { within: hits, near, ..HitCounts::default() };
        }
        let (over, near) = match reading.remaining {
            room if room > 0 && check.cost.charge_denied => {
                (hits.saturating_sub(room), limit.saturating_sub(near.max(count)))
            }
            _ => (hits, 0),
        };
        let shadow = if check.role == Role::Shadow { over } else { 0 };
        HitCounts { beyond: hits, near, over, shadow, ..HitCounts::default() }
    }

    /// The same, answered by a remembered denial.
    pub(crate) fn answered_from_cache(self) -> HitCounts {
        HitCounts { from_cache: self.over, ..self }
    }

    /// As [`HitCounts::of`], of a limit that a failure policy answered for: how near it is, nobody knows.
    pub(crate) fn without_reading(check: &CounterCheck<'_>, reading: Reading, hits: i64) -> HitCounts {
        let Ok(hits) = u64::try_from(hits) else { return HitCounts::given_back(hits) };
        match reading.admitted {
            true => HitCounts { within: hits, ..HitCounts::default() },
            false => {
                let shadow = if check.role == Role::Shadow { hits } else { 0 };
                HitCounts { beyond: hits, over: hits, shadow, ..HitCounts::default() }
            }
        }
    }

    /// Of hits that were answered with an error: counted as put, as the reference does before it asks its store.
    pub(crate) fn failed(hits: i64) -> HitCounts {
        let Ok(hits) = u64::try_from(hits) else { return HitCounts::given_back(hits) };
        HitCounts { beyond: hits, ..HitCounts::default() }
    }

    /// Counted as asked for, whatever became of it, as the reference does.
    fn given_back(hits: i64) -> HitCounts {
        HitCounts { negative: hits.unsigned_abs(), ..HitCounts::default() }
    }
}

/// The counters of one series key.
#[derive(Default)]
pub(crate) struct HitCounters {
    within: AtomicU64,
    beyond: AtomicU64,
    near: AtomicU64,
    over: AtomicU64,
    shadow: AtomicU64,
    from_cache: AtomicU64,
    negative: AtomicU64,
}

/// The reference's counters of a key, in the order in which its page has them.
pub(crate) const COUNTERS: [&str; 7] = [
    "near_limit",
    "over_limit",
    "shadow_mode",
    "total_hits",
    "within_limit",
    "over_limit_with_local_cache",
    "total_negative_hits",
];

/// Those of [`COUNTERS`] that the reference's mapping for Prometheus knows; the others have a name for each key there.
pub(super) const MAPPED: usize = 5;

impl HitCounters {
    /// One relaxed addition for what passes, two or three for what doesn't.
    pub(crate) fn add(&self, counts: HitCounts) {
        let HitCounts { within, beyond, near, over, shadow, from_cache: remembered, negative } = counts;
        let counters = [
            (&self.within, within),
            (&self.beyond, beyond),
            (&self.near, near),
            (&self.over, over),
            (&self.shadow, shadow),
            (&self.from_cache, remembered),
            (&self.negative, negative),
        ];
        for (counter, by) in counters {
            if by > 0 {
                counter.fetch_add(by, Relaxed);
            }
        }
    }

    /// In the order of [`COUNTERS`].
    pub(crate) fn get(&self) -> [u64; COUNTERS.len()] {
        let [within, beyond, near, over, shadow, remembered, negative] =
            [&self.within, &self.beyond, &self.near, &self.over, &self.shadow, &self.from_cache, &self.negative]
                .map(|counter| counter.load(Relaxed));
        [near, over, shadow, within + beyond, within, remembered, negative]
    }
}
