//! Answers requests while the store can't: by each limit's failure policy, and by this replica's memory for limits that
//! go on locally. It doesn't know why the store failed.

use std::sync::Arc;

use smallvec::SmallVec;

use super::{
    plan::{Plan, PlannedDescriptor},
    replicas::Replicas,
};
use crate::{
    limit::{FailurePolicy, Limit, Micros, Reading, SECOND, UnixMicros},
    store::{
        CounterCheck, Gate, Readings, Role, StoreError, deferred::DeferredCharges, denied, memory::Memory, refusing,
    },
};

/// The failure policy of each check of a request, in order.
pub(super) type Policies = SmallVec<[FailurePolicy; 4]>;

/// Answers requests by the limits' failure policies while the store can't. There is one for the whole process, so that
/// all cores share the local counters.
pub struct Fallback {
    local: Arc<Memory>,
    /// Number of replicas that share a limit in fallback mode; each gets an equal share of it.
    pub replicas: Replicas,
    /// Hits that were admitted here and are charged in the store once it is back.
    pub deferred: Arc<DeferredCharges>,
}

/// What the failure policies answer, for an explanation.
pub(super) struct FallbackView {
    pub(super) readings: Readings,
    pub(super) policies: Policies,
    /// For each check its counter in this replica's memory, if that decides it.
    pub(super) local: Vec<Option<LocalCounter>>,
    /// Whether a limit that may deny has the policy `error`.
    pub(super) is_error: bool,
}

/// A counter in this replica's memory that decides while the store can't.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LocalCounter {
    /// This replica's share of the limit.
    pub share: Limit,
    /// Number of replicas that share it.
    pub replicas: u32,
    pub reading: Reading,
}

impl Fallback {
    /// A fallback with a fixed number of replicas and no deferred charges, for a store that isn't shared.
    pub fn new(local: Arc<Memory>, replicas: u32) -> Fallback {
        Fallback::with_deferred(local, Replicas::new(Some(replicas)), Arc::new(DeferredCharges::new(UnixMicros(0))))
    }

    /// A fallback whose local charges are charged in the store later, by way of `deferred`.
    pub fn with_deferred(local: Arc<Memory>, replicas: Replicas, deferred: Arc<DeferredCharges>) -> Fallback {
        Fallback { local, replicas, deferred }
    }

    /// Answers a request by its limits' failure policies. A definite denial wins, then `closed`, then `error`, then
    /// `open`. A request that isn't admitted charges no local counter.
    pub(super) fn answer(
        &self,
        plan: &Plan<'_>,
        default: FailurePolicy,
        error: StoreError,
        now: UnixMicros,
    ) -> Result<(Readings, Policies), StoreError> {
        let policies = policies(plan, default);
        let is_error = failing_of(plan, &policies).is_some();
        let mut local = self.check_locally(plan, &policies, now).into_iter();
        let mut readings = Readings::new();
        for policy in &policies {
            readings.push(match policy {
                FailurePolicy::Open => OPEN,
                FailurePolicy::Closed => CLOSED,
                // Decided as if it were admitted, so that only a definite denial hides the error.
                FailurePolicy::Error => OPEN,
                FailurePolicy::Local => local.next().unwrap_or(OPEN),
            });
        }
        let answers = plan.checks.iter().zip(&readings).map(|(check, reading)| (check.role, reading.admitted));
        let is_denied = denied(plan.gate, answers);
        self.defer_charges(plan, &policies, &readings, is_denied || is_error);
        if is_error && !is_denied {
            return Err(error);
        }
        Ok((readings, policies))
    }

    /// What [`Fallback::answer`] would answer now, without charging anything.
    pub(super) fn look(&self, plan: &Plan<'_>, default: FailurePolicy, now: UnixMicros) -> FallbackView {
        let policies = policies(plan, default);
        let replicas = self.replicas.count();
        let local = plan.checks.iter().zip(&policies).map(|(check, policy)| {
            let share = self.share(check.limit);
            let is_local = *policy == FailurePolicy::Local;
            let reading = is_local.then(|| self.local.peek(&[CounterCheck { limit: share, ..*check }], now)[0]);
            reading.map(|reading| LocalCounter { share, replicas, reading })
        });
        let local: Vec<Option<LocalCounter>> = local.collect();
        let mut readings = Readings::new();
        for (policy, local) in policies.iter().zip(&local) {
            readings.push(match (policy, local) {
                (FailurePolicy::Closed, _) => CLOSED,
                (FailurePolicy::Local, Some(local)) => local.reading,
                _ => OPEN,
            });
        }
        let is_error = failing_of(plan, &policies).is_some();
        FallbackView { readings, policies, local, is_error }
    }

    /// Defers what the local counters were charged, to be charged in the store. For a request that isn't admitted, that
    /// is only what is charged in spite of a denial.
    fn defer_charges(&self, plan: &Plan<'_>, policies: &Policies, readings: &Readings, is_refused: bool) {
        for ((check, policy), reading) in plan.checks.iter().zip(policies).zip(readings) {
            let is_charged = check.cost.charge_denied || (reading.admitted && (!is_refused || plan.gate.never_deny));
            if *policy == FailurePolicy::Local && is_charged {
                self.deferred.add(check);
            }
        }
    }

    /// The readings of the checks whose limits count locally, in order. Of the limits with other policies, those that
    /// may deny are represented by checks with the same result (a limit of 0 for a refusal), so that the local counters
    /// are charged exactly if the request as a whole is admitted.
    fn check_locally(&self, plan: &Plan<'_>, policies: &Policies, now: UnixMicros) -> Readings {
        let local = plan.checks.iter().zip(policies).filter(|(_, policy)| **policy == FailurePolicy::Local);
        let mut checks: SmallVec<[CounterCheck<'_>; 4]> =
            local.map(|(check, _)| CounterCheck { limit: self.share(check.limit), ..*check }).collect();
        if checks.is_empty() {
            return Readings::new();
        }
        let has = |role, policy| plan.checks.iter().zip(policies).any(|(check, p)| (check.role, *p) == (role, policy));
        // One refusing check of each role is enough. An error isn't an admission either, whatever role its limit has.
        if has(Role::Enforced, FailurePolicy::Closed) || failing_of(plan, policies).is_some() {
            checks.push(refusing(&checks[0]));
        }
        if has(Role::Quota, FailurePolicy::Closed) {
            checks.push(CounterCheck { role: Role::Quota, ..refusing(&checks[0]) });
        }
        let quota_open = plan.gate.quota_open || has(Role::Quota, FailurePolicy::Open);
        self.local.apply(&checks, Gate { quota_open, ..plan.gate }, now)
    }

    /// This replica's share of a limit: at least 1 hit, but a limit of 0 stays 0.
    fn share(&self, limit: Limit) -> Limit {
        let replicas = self.replicas.count();
        let part = |number: u32| if number == 0 { 0 } else { (number / replicas).max(1) };
        Limit { requests: part(limit.requests), burst: part(limit.burst), ..limit }
    }
}

const OPEN: Reading = Reading { admitted: true, remaining: 0, reset: Micros(0) };
const CLOSED: Reading = Reading { admitted: false, remaining: 0, reset: SECOND };

/// Position of the first check that may deny the request and whose failure policy is `error`.
pub(super) fn failing(plan: &Plan<'_>, default: FailurePolicy) -> Option<usize> {
    failing_of(plan, &policies(plan, default))
}

fn failing_of(plan: &Plan<'_>, policies: &Policies) -> Option<usize> {
    let says = |index: &usize| plan.checks[*index].role != Role::Shadow;
    (0..policies.len()).filter(says).find(|index| policies[*index] == FailurePolicy::Error)
}

fn policies(plan: &Plan<'_>, default: FailurePolicy) -> Policies {
    let of = |planned: &PlannedDescriptor<'_>| -> Policies {
        match planned {
            PlannedDescriptor::UnknownDomain
            | PlannedDescriptor::NoMatch
            | PlannedDescriptor::NoLimit
            | PlannedDescriptor::Unlimited(_) => Policies::new(),
            PlannedDescriptor::Requested { .. } => Policies::from_slice(&[default]),
            PlannedDescriptor::Ruled { applied: counted, .. } => counted.policies(default).collect(),
        }
    };
    plan.descriptors.iter().flat_map(of).collect()
}
