//! Makes a decision of the readings: one status for each descriptor, and one answer for the request.

use std::cmp::Reverse;

use super::{
    decision::{Decision, ShownLimit, Status},
    plan::{Plan, PlannedDescriptor},
};
use crate::{
    limit::{Code, FailurePolicy, Reading, Unit},
    store::{self, CounterCheck, Gate, Role},
};

/// Makes the decision from the readings. `policies` has one entry for each check if the store failed, and is empty if
/// the store answered.
pub(super) fn judge(plan: &Plan<'_>, readings: &[Reading], policies: &[FailurePolicy]) -> Decision {
    let overall = overall(plan, readings);
    let statuses = plan.descriptors.iter().map(|planned| status(planned, plan, readings, policies)).collect();
    Decision { overall, statuses, failure_policy: policy_used(plan, readings, policies), notes: None }
}

/// The answer to the whole request.
pub(super) fn overall(plan: &Plan<'_>, readings: &[Reading]) -> Code {
    let answers = plan.checks.iter().zip(readings).map(|(check, reading)| (check.role, reading.admitted));
    if store::denied(plan.gate, answers) { Code::OverLimit } else { Code::Ok }
}

/// Whether the request would be denied without global SHADOW_MODE.
pub(super) fn would_deny(plan: &Plan<'_>, readings: &[Reading]) -> bool {
    let answers = plan.checks.iter().zip(readings).map(|(check, reading)| (check.role, reading.admitted));
    store::denied(Gate { never_deny: false, ..plan.gate }, answers)
}

fn status(
    planned: &PlannedDescriptor<'_>,
    plan: &Plan<'_>,
    readings: &[Reading],
    policies: &[FailurePolicy],
) -> Status {
    let rule = match planned {
        PlannedDescriptor::UnknownDomain | PlannedDescriptor::NoMatch | PlannedDescriptor::NoLimit => {
            return Status::FREE;
        }
        PlannedDescriptor::Unlimited(_) => return Status::UNLIMITED,
        PlannedDescriptor::Requested { .. } => None,
        PlannedDescriptor::Ruled { rule, applied: counted, .. } => Some((rule, counted)),
    };
    let range = planned.checks();
    let reported = reported_check(&plan.checks[range.clone()], &readings[range.clone()]);
    let (check, reading) = (&plan.checks[range.start + reported], &readings[range.start + reported]);
    if policies.get(range.start + reported) == Some(&FailurePolicy::Open) {
        // The status names no limit, because no counter was checked: Envoy would print a remaining that isn't true.
        return Status::FREE;
    }
    let name = rule.map_or("", |(rule, counted)| {
        counted.limit(reported).and_then(|limit| limit.name.as_deref()).unwrap_or(&rule.name)
    });
    let refused = !reading.admitted;
    Status {
        code: if refused && check.role != Role::Shadow { Code::OverLimit } else { Code::Ok },
        quota: check.role == Role::Quota,
        limit: Some(ShownLimit {
            requests: check.limit.requests,
            unit: Unit::of(check.limit.window),
            name: name.to_string(),
        }),
        remaining: if refused { 0 } else { reading.remaining.min(u64::from(u32::MAX)) as u32 },
        reset: Some(reading.reset),
    }
}

/// The failure policy that decided, if one did.
fn policy_used(plan: &Plan<'_>, readings: &[Reading], policies: &[FailurePolicy]) -> Option<FailurePolicy> {
    (!policies.is_empty()).then(|| policies[deciding_check(plan, readings)])
}

/// Position of the check that decided: the first one that refuses, else the first.
pub(super) fn deciding_check(plan: &Plan<'_>, readings: &[Reading]) -> usize {
    let refuses = |index: &usize| !readings[*index].admitted && plan.checks[*index].role != Role::Shadow;
    (0..readings.len()).find(refuses).unwrap_or(0)
}

/// Position of the check that a descriptor's status reports: the refusing one with the longest wait, else the one with
/// the fewest hits remaining. A shadow limit is reported only if the descriptor has no other.
pub(super) fn reported_check(checks: &[CounterCheck<'_>], readings: &[Reading]) -> usize {
    let order = |index: &usize| {
        let (check, reading) = (&checks[*index], &readings[*index]);
        let says = check.role != Role::Shadow;
        let refused = !reading.admitted;
        (
            Reverse(says),
            Reverse(refused),
            if refused { Reverse(reading.reset.0) } else { Reverse(0) },
            reading.remaining,
        )
    };
    (0..checks.len()).min_by_key(order).unwrap_or(0)
}
