//! Makes a decision of the readings: one status for each descriptor, and one answer for the request.

use std::cmp::Reverse;

use super::{
    decision::{Decision, ShownLimit, Status},
    plan::{Plan, Planned},
};
use crate::{
    limit::{Code, FailurePolicy, Reading, Unit},
    store::{self, Ask, Gate, Role},
};

/// Makes the decision from the readings. `policies` has one entry for each check if the store failed, and is empty if
/// the store answered.
pub(super) fn judge(plan: &Plan<'_>, readings: &[Reading], policies: &[FailurePolicy]) -> Decision {
    let answers = plan.asks.iter().zip(readings).map(|(ask, reading)| (ask.role, reading.admitted));
    let overall = if store::denied(plan.gate, answers) { Code::OverLimit } else { Code::Ok };
    let statuses = plan.descriptors.iter().map(|planned| status(planned, plan, readings, policies)).collect();
    Decision { overall, statuses, degraded: degraded(plan, readings, policies), notes: None }
}

/// Whether the request would be denied without global SHADOW_MODE.
pub(super) fn would_deny(plan: &Plan<'_>, readings: &[Reading]) -> bool {
    let answers = plan.asks.iter().zip(readings).map(|(ask, reading)| (ask.role, reading.admitted));
    store::denied(Gate { never_deny: false, ..plan.gate }, answers)
}

fn status(planned: &Planned<'_>, plan: &Plan<'_>, readings: &[Reading], policies: &[FailurePolicy]) -> Status {
    let rule = match planned {
        Planned::UnknownDomain | Planned::NoMatch | Planned::Free => return Status::FREE,
        Planned::Unlimited(_) => return Status::UNLIMITED,
        Planned::Requested { .. } => None,
        Planned::Ruled { rule, counted, .. } => Some((rule, counted)),
    };
    let range = planned.asks();
    let told = told(&plan.asks[range.clone()], &readings[range.clone()]);
    let (ask, reading) = (&plan.asks[range.start + told], &readings[range.start + told]);
    if policies.get(range.start + told) == Some(&FailurePolicy::Open) {
        // The status names no limit, because no counter was checked: Envoy would print a remaining that isn't true.
        return Status::FREE;
    }
    let name = rule.map_or("", |(rule, counted)| {
        counted.limit(told).and_then(|limit| limit.name.as_deref()).unwrap_or(&rule.name)
    });
    let refused = !reading.admitted;
    Status {
        code: if refused && ask.role != Role::Shadow { Code::OverLimit } else { Code::Ok },
        quota: ask.role == Role::Quota,
        limit: Some(ShownLimit {
            requests: ask.limit.requests,
            unit: Unit::of(ask.limit.window),
            name: name.to_string(),
        }),
        remaining: if refused { 0 } else { reading.remaining.min(u64::from(u32::MAX)) as u32 },
        reset: Some(reading.reset),
    }
}

/// The failure policy that decided, if one did.
fn degraded(plan: &Plan<'_>, readings: &[Reading], policies: &[FailurePolicy]) -> Option<FailurePolicy> {
    (!policies.is_empty()).then(|| policies[deciding(plan, readings)])
}

/// Position of the check that decided: the first one that refuses, else the first.
pub(super) fn deciding(plan: &Plan<'_>, readings: &[Reading]) -> usize {
    let refuses = |index: &usize| !readings[*index].admitted && plan.asks[*index].role != Role::Shadow;
    (0..readings.len()).find(refuses).unwrap_or(0)
}

/// Position of the check that a descriptor's status reports: the refusing one with the longest wait, else the one with
/// the fewest hits remaining. A shadow limit is reported only if the descriptor has no other.
pub(super) fn told(asks: &[Ask<'_>], readings: &[Reading]) -> usize {
    let order = |index: &usize| {
        let (ask, reading) = (&asks[*index], &readings[*index]);
        let says = ask.role != Role::Shadow;
        let refused = !reading.admitted;
        (
            Reverse(says),
            Reverse(refused),
            if refused { Reverse(reading.reset.0) } else { Reverse(0) },
            reading.remaining,
        )
    };
    (0..asks.len()).min_by_key(order).unwrap_or(0)
}
