//! Splits a request that no single script can decide, because its counters are in several Redis or too many, into
//! sub-requests that one script can each decide. What the two ways of going through them share is here: over two Redis
//! (`split`), and over the lanes of one (`redis/spread`). It asks no store.
//!
//! The checks are sorted by phase, then by place (which Redis, or which bucket), then by their number. Neighbours with
//! the same phase and place become one sub-request, as long as they weigh at most [`COUNTERS_MAX`] together. The
//! sub-requests are decided one after the other, phase by phase: first the checks whose refusal denies the request, then
//! the quotas, which deny only together, and last what can't deny.
//!
//! Invariants: (1) every check is in exactly one sub-request; (2) the order is the same on all replicas; (3) a request
//! never gets more than its limits: what is charged before a denial is given back, so until the refund arrives its
//! counters are too high, never too low.
//!
//! Example: the checks are 0 enforced in bucket 7, 1 quota in bucket 3, 2 enforced in bucket 2 and 3 shadow in bucket 7.
//! The sub-requests are 2, 0, 1, 3. If Redis refuses check 0, what check 2 charged is given back (unless it counts
//! refused hits), and checks 1 and 3 are still sent, as parts of a denied request: they charge only what counts refused
//! hits.

use std::time::Duration;

use smallvec::SmallVec;
use tokio::time::Instant;

use super::{Ask, Role};
use crate::{
    algorithm::charged_at,
    limit::{Algorithm, COUNTERS_MAX, Limit, Reading, SUB_WINDOWS_DEFAULT, UnixMicros},
};

#[cfg(test)]
mod tests;

/// A refund may arrive after the answer has left; without it the counters would stay too high for a window.
pub(super) const REFUND_PATIENCE: Duration = Duration::from_millis(250);

/// Those whose refusal denies come first, so that there is little to give back; then the quotas, which deny only
/// together; last what never denies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    Enforced,
    Quota,
    Rest,
}

impl Phase {
    pub(super) const ALL: [Phase; 3] = [Phase::Enforced, Phase::Quota, Phase::Rest];

    fn of(ask: &Ask<'_>) -> Phase {
        match ask.role {
            Role::Quota => Phase::Quota,
            // A refund of a denied request doesn't happen, so it waits for the verdict.
            Role::Enforced if ask.cost.hits >= 0 => Phase::Enforced,
            Role::Enforced | Role::Shadow => Phase::Rest,
        }
    }
}

/// What a counter of such a limit takes of Redis at most, about, by which scripts are bounded: 1 is up to some 10 µs. Of a
/// sliding window that is what one of 32 sub-windows takes where it refuses. A log takes as much whatever its length, but is
/// read and written in several calls.
pub(super) fn weight(limit: &Limit) -> usize {
    match limit.algorithm {
        Algorithm::SlidingLog => LOG_WEIGHT,
        Algorithm::SlidingWindow if limit.sub_windows > SUB_WINDOWS_DEFAULT => 2,
        _ => 1,
    }
}

/// The heaviest there is.
const LOG_WEIGHT: usize = 4;

/// Whether a request takes more of Redis than one script may: some 2 ms.
pub(super) fn outgrows_script(asks: &[Ask<'_>]) -> bool {
    // Most requests have a few counters, whatever these weigh.
    asks.len() > COUNTERS_MAX / LOG_WEIGHT && asks.iter().map(|ask| weight(&ask.limit)).sum::<usize>() > COUNTERS_MAX
}

/// What one script decides: asks of one phase in one place, which weigh at most [`COUNTERS_MAX`] together.
#[derive(Debug)]
pub(super) struct Part<P> {
    pub phase: Phase,
    pub place: P,
    pub asks: SmallVec<[usize; 4]>,
}

/// The parts of a request in the order in which they are asked, which is the same for all replicas. `one_by_one` keeps even
/// the asks of one place apart.
pub(super) fn parts<P: Copy + Ord>(asks: &[Ask<'_>], place: impl Fn(usize) -> P, one_by_one: bool) -> Vec<Part<P>> {
    let mut placed: SmallVec<[(Phase, P, usize); 8]> =
        asks.iter().enumerate().map(|(nth, ask)| (Phase::of(ask), place(nth), nth)).collect();
    placed.sort_unstable();
    let mut parts: Vec<Part<P>> = Vec::new();
    let mut left = 0;
    for (phase, place, nth) in placed {
        let weight = weight(&asks[nth].limit);
        match parts.last_mut() {
            Some(last) if !one_by_one && (last.phase, last.place) == (phase, place) && weight <= left => {
                last.asks.push(nth);
                left -= weight;
            }
            _ => {
                parts.push(Part { phase, place, asks: SmallVec::from_slice(&[nth]) });
                left = COUNTERS_MAX - weight;
            }
        }
    }
    parts
}

/// What an ask charged, since when by the clock here and as of when by that of its Redis.
pub(super) struct Charge {
    pub nth: usize,
    begun: Instant,
    pub at: UnixMicros,
}

impl Charge {
    /// Of the `nth` ask, whose part was sent at `begun` and answered at `now` of its Redis; `None` if it charged nothing.
    /// `admits` is whether its part was not denied.
    pub(super) fn of(
        (nth, ask): (usize, &Ask<'_>),
        reading: &Reading,
        (begun, now): (Instant, UnixMicros),
        admits: bool,
    ) -> Option<Charge> {
        let is_charged = ask.cost.hits > 0 && (ask.cost.charge_denied || (reading.admitted && admits));
        let at = if reading.admitted { charged_at(&ask.limit, reading, now) } else { now };
        is_charged.then_some(Charge { nth, begun, at })
    }

    /// Whether there is something to give back: what was charged a window ago counts no more, and of a bucket a refund would
    /// take others' hits.
    pub(super) fn counts(&self, ask: &Ask<'_>) -> bool {
        self.begun.elapsed() < ask.limit.window.as_duration()
    }
}
