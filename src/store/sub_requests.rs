//! Splits a request that no single script can decide, because its counters are in several Redis or too many, into
//! sub-requests that one script can each decide. `partwise` goes through them: over two Redis (`split`), or over the
//! lanes of one (`redis/spread`). It asks no store.
//!
//! The checks are sorted by phase, then by place (which Redis, which node, or which bucket), then by their number. Neighbours with
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

use super::counter_check::{CounterCheck, Role};
use crate::{
    algorithm::charged_at,
    limit::{Algorithm, COUNTERS_MAX, Limit, Reading, SUB_WINDOWS_DEFAULT, UnixMicros},
};

#[cfg(test)]
mod tests;

/// Time that a refund may take beyond the request's deadline. If it were given up earlier, the counters would stay too
/// high for a window.
pub(super) const REFUND_PATIENCE: Duration = Duration::from_millis(250);

/// The order in which checks are decided. First those whose refusal denies the request, so that there is little to give
/// back; then the quotas, which deny only together; last those that never deny.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum DecisionPhase {
    Enforced,
    Quota,
    Rest,
}

impl DecisionPhase {
    pub(super) const ALL: [DecisionPhase; 3] = [DecisionPhase::Enforced, DecisionPhase::Quota, DecisionPhase::Rest];

    fn of(check: &CounterCheck<'_>) -> DecisionPhase {
        match check.role {
            Role::Quota => DecisionPhase::Quota,
            // A denied request gives nothing back, so its refunds wait for the decision.
            Role::Enforced if check.cost.hits >= 0 => DecisionPhase::Enforced,
            Role::Enforced | Role::Shadow => DecisionPhase::Rest,
        }
    }
}

/// How long one check of such a limit keeps Redis busy at most, by which scripts are bounded: 1 is up to some 10 µs,
/// which is a sliding window of 32 sub-windows that refuses. A log takes the same time whatever its length, but is read
/// and written in several calls.
pub(super) fn weight(limit: &Limit) -> usize {
    match limit.algorithm {
        Algorithm::SlidingLog => LOG_WEIGHT,
        Algorithm::SlidingWindow if limit.sub_windows > SUB_WINDOWS_DEFAULT => 2,
        _ => 1,
    }
}

/// The largest weight of one check.
const LOG_WEIGHT: usize = 4;

/// Whether a request's checks weigh more than one script may take, which is some 2 ms of Redis' time.
pub(super) fn outgrows_script(checks: &[CounterCheck<'_>]) -> bool {
    // A request with few checks can't weigh too much, so that most requests need no sum.
    checks.len() > COUNTERS_MAX / LOG_WEIGHT
        && checks.iter().map(|check| weight(&check.limit)).sum::<usize>() > COUNTERS_MAX
}

/// The checks of a request that one script decides: of one phase, in one place, and at most [`COUNTERS_MAX`] of weight
/// together. `checks` are their positions in the request.
#[derive(Debug)]
pub(super) struct SubRequest<P> {
    pub phase: DecisionPhase,
    pub place: P,
    pub checks: SmallVec<[usize; 4]>,
}

/// The sub-requests of the checks `among` those of a request, in the order in which they are decided, which is the same
/// on all replicas.
pub(super) fn sub_requests<P: Copy + Ord>(
    checks: &[CounterCheck<'_>],
    among: impl IntoIterator<Item = usize>,
    place: impl Fn(usize) -> P,
) -> Vec<SubRequest<P>> {
    let mut placed: SmallVec<[(DecisionPhase, P, usize); 8]> =
        among.into_iter().map(|nth| (DecisionPhase::of(&checks[nth]), place(nth), nth)).collect();
    placed.sort_unstable();
    let mut parts: Vec<SubRequest<P>> = Vec::new();
    let mut left = 0;
    for (phase, place, nth) in placed {
        let weight = weight(&checks[nth].limit);
        match parts.last_mut() {
            Some(last) if (last.phase, last.place) == (phase, place) && weight <= left => {
                last.checks.push(nth);
                left -= weight;
            }
            _ => {
                parts.push(SubRequest { phase, place, checks: SmallVec::from_slice(&[nth]) });
                left = COUNTERS_MAX - weight;
            }
        }
    }
    parts
}

/// What a check charged: the instant at which it was sent, and the time of the charge by its Redis' clock.
pub(super) struct Charge {
    pub nth: usize,
    begun: Instant,
    pub at: UnixMicros,
}

impl Charge {
    /// The charge of the `nth` check, whose sub-request was sent at `begun` and decided at `now` of its Redis; `None`
    /// if it charged nothing. `admits` says that its sub-request was not denied.
    pub(super) fn of(
        (nth, check): (usize, &CounterCheck<'_>),
        reading: &Reading,
        (begun, now): (Instant, UnixMicros),
        admits: bool,
    ) -> Option<Charge> {
        let is_charged = check.cost.hits > 0 && (check.cost.charge_denied || (reading.admitted && admits));
        let at = if reading.admitted { charged_at(&check.limit, reading, now) } else { now };
        is_charged.then_some(Charge { nth, begun, at })
    }

    /// Whether there is something to give back. What was charged a window ago no longer counts, and in a bucket the
    /// refund would take back hits of others.
    pub(super) fn counts(&self, check: &CounterCheck<'_>) -> bool {
        self.begun.elapsed() < check.limit.window.as_duration()
    }
}
