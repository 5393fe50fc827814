//! Decides requests: matches the rules, plans the counter checks, charges the hits in the store, and makes a decision
//! of the readings. It knows neither tonic nor YAML, gets the time as an argument, and sees one snapshot of the rules
//! for each request.

mod budgets;
mod decision;
mod degraded;
pub(crate) mod explain;
mod judge;
mod modes;
mod notes;
mod plan;
mod replicas;
mod reset;
mod snapshot;
#[cfg(test)]
pub(crate) mod tests;
mod traced;

use std::{
    borrow::Borrow,
    ops::{Deref, Range},
    sync::Arc,
};

use arc_swap::{ArcSwap, Guard};

pub use crate::limiter::explain::{Applies, CounterLook, DescriptorLook, HeldAt, Look, Overriding};
pub use budgets::{Budgets, Kind, Learned, Requested};
pub use decision::{DecideError, Decision, Note, Notes, ShownLimit, Status};
pub use degraded::Degraded;
pub use modes::Modes;
pub use replicas::Replicas;
pub use reset::{ResetCounter, ResetError};
pub use snapshot::Snapshot;

use crate::{
    clock,
    limit::{Code, FailurePolicy, Reading, Request, UnixMicros},
    metrics::{Meters, Metrics, Outcome, Tally},
    run_time::RunTime,
    store::{Deadline, Readings, Role, Store, StoreError},
    trace,
};
use degraded::Policies;
use plan::{Plan, Planned};
use snapshot::InForce;

/// Decides requests. Cheap to clone; each core has one with its own way to the store.
#[derive(Clone)]
pub struct Limiter {
    snapshot: Arc<ArcSwap<Snapshot>>,
    store: Store,
    degraded: Arc<Degraded>,
    modes: Modes,
    metrics: Arc<Metrics>,
    run_time: Option<RunTime>,
}

impl Limiter {
    pub fn new(
        snapshot: Arc<ArcSwap<Snapshot>>,
        store: Store,
        degraded: Arc<Degraded>,
        modes: Modes,
        metrics: Arc<Metrics>,
    ) -> Limiter {
        Limiter { snapshot, store, degraded, modes, metrics, run_time: None }
    }

    /// This limiter, with run-time overrides and resets.
    pub fn with_run_time(mut self, run_time: RunTime) -> Limiter {
        self.run_time = Some(run_time);
        self
    }

    /// Run-time overrides and resets, if the limiter has them.
    pub fn run_time(&self) -> Option<&RunTime> {
        self.run_time.as_ref()
    }

    /// Decides `request`, which arrived at `now`; ends by `deadline` or a little after.
    ///
    /// The cost is a reference count on the snapshot and one call of the store; with Redis also an allocation for the
    /// plan. A request with more than three descriptors allocates for them. No lock is held and no connection is made.
    pub async fn decide(
        &self,
        request: &Request<'_>,
        now: UnixMicros,
        deadline: impl Into<Deadline>,
    ) -> Result<Decision, DecideError> {
        if let Some(decided) = self.decide_now(request, now) {
            return decided;
        }
        let in_force = self.in_force_to_keep();
        // Boxed, so that what waits for the store takes less than a KiB: beyond that each allocation is a slow one.
        let mut plan = Box::new(Plan::new(self.modes));
        self.fill(&mut plan, &in_force, request, now)?;
        let snapshot = in_force.snapshot();
        let asked = clock::instant();
        let answer = self.store.apply(&plan.asks, plan.gate, now, deadline).await;
        self.metrics.store.record(asked.elapsed());
        if let Some(here) = trace::here() {
            traced::asked(&here, &self.store, &plan.asks, asked, answer.as_ref().err());
        }
        let is_overdue = matches!(answer, Err(StoreError::Timeout(_)));
        let (readings, policies) = match answer {
            Ok(readings) => (readings, Policies::new()),
            Err(error) => self.stand_in(request, &plan, snapshot, error, now)?,
        };
        let decision = self.conclude(request, &plan, snapshot, &readings, &policies);
        if is_overdue && decision.overall == Code::Ok {
            self.metrics.admitted_overdue();
        }
        Ok(decision)
    }

    /// Decides by the limits' failure policies, as if the store had failed with `why`. The store isn't called.
    pub fn decide_without_store(
        &self,
        request: &Request<'_>,
        why: StoreError,
        now: UnixMicros,
    ) -> Result<Decision, DecideError> {
        let in_force = self.in_force();
        let mut plan = Plan::new(self.modes);
        self.fill(&mut plan, &in_force, request, now)?;
        let (readings, policies) = self.stand_in(request, &plan, in_force.snapshot(), why, now)?;
        Ok(self.conclude(request, &plan, in_force.snapshot(), &readings, &policies))
    }

    /// Answers by the limits' failure policies; with the store's error, if that is the policy.
    fn stand_in(
        &self,
        request: &Request<'_>,
        plan: &Plan<'_>,
        snapshot: &Snapshot,
        error: StoreError,
        now: UnixMicros,
    ) -> Result<(Readings, Policies), StoreError> {
        self.metrics.store_failed(&error);
        self.degraded.answer(plan, self.modes.on_store_failure, error, now).inspect_err(|_| {
            if let Some(index) = degraded::failing(plan, self.modes.on_store_failure) {
                count_degraded(plan, index, FailurePolicy::Error, &snapshot.meters);
            }
            if self.metrics.reference.near_ratio().is_some() {
                self.count_hits(request, plan, &snapshot.meters, |_, hits| (0, Tally::failed(hits)));
                if self.store.is_remote() && self.metrics.reference.has_local_cache() {
                    self.count_lookups(plan, |_| false);
                }
            }
        })
    }

    /// As [`Limiter::decide`], if the counters are in this process, so that nothing has to be waited for; else `None`.
    /// It is a function of its own because what lives across an await is stored and moved with the request's task,
    /// which is a third of a decision's cost.
    pub fn decide_now(&self, request: &Request<'_>, now: UnixMicros) -> Option<Result<Decision, DecideError>> {
        let Store::Memory(memory) = &self.store else { return None };
        let in_force = self.in_force();
        let mut plan = Plan::new(self.modes);
        if let Err(error) = self.fill(&mut plan, &in_force, request, now) {
            return Some(Err(error));
        }
        #[cfg(test)]
        tests::panic_if_asked_to(request);
        let readings = memory.apply(&plan.asks, plan.gate, now);
        Some(Ok(self.conclude(request, &plan, in_force.snapshot(), &readings, &Policies::new())))
    }

    /// What a request sees that waits for nothing.
    fn in_force(&self) -> InForce<Guard<Arc<Snapshot>>> {
        InForce::now(&self.snapshot, self.run_time.as_ref())
    }

    fn in_force_to_keep(&self) -> InForce<Arc<Snapshot>> {
        InForce::to_keep(&self.snapshot, self.run_time.as_ref())
    }

    /// Matches a request: fills an empty `plan` by what is `in_force`.
    fn fill<'r, S: Deref<Target: Borrow<Snapshot>>>(
        &self,
        plan: &mut Plan<'r>,
        in_force: &'r InForce<S>,
        request: &'r Request<'_>,
        now: UnixMicros,
    ) -> Result<(), DecideError> {
        in_force.fill(plan, (request, now), self.modes, || self.wall(now))
    }

    /// The time by which overrides end: the store's clock, so that all replicas agree.
    pub(crate) fn wall(&self, now: UnixMicros) -> UnixMicros {
        UnixMicros(now.0.saturating_add_signed(self.store.clock_ahead_us()))
    }

    fn conclude(
        &self,
        request: &Request<'_>,
        plan: &Plan<'_>,
        snapshot: &Snapshot,
        readings: &Readings,
        policies: &Policies,
    ) -> Decision {
        let mut decision = judge::judge(plan, readings, policies);
        if self.modes.notes || trace::is_followed() {
            decision.notes = Some(Box::new(Notes::of(request, plan, readings, snapshot.version)));
        }
        self.metrics.decided(decision.overall);
        let meters = &snapshot.meters;
        if let Some(policy) = decision.degraded {
            count_degraded(plan, judge::deciding(plan, readings), policy, meters);
        }
        self.count(request, plan, readings, meters);
        if let Some(near_ratio) = self.metrics.reference.near_ratio() {
            let has_local_cache = self.store.is_remote() && self.metrics.reference.has_local_cache();
            let is_remembered = readings.remembered && has_local_cache;
            if has_local_cache {
                let is_found =
                    |asks: &Range<usize>| is_remembered && readings[asks.clone()].iter().any(|of| !of.admitted);
                self.count_lookups(plan, is_found);
            }
            self.count_hits(request, plan, meters, |asks, hits| {
                let told = judge::told(&plan.asks[asks.clone()], &readings[asks.clone()]);
                let (ask, reading) = (&plan.asks[asks.start + told], readings[asks.start + told]);
                match policies.is_empty() {
                    true if is_remembered => (told, Tally::of(ask, reading, hits, near_ratio).remembered()),
                    true => (told, Tally::of(ask, reading, hits, near_ratio)),
                    false => (told, Tally::unread(ask, reading, hits)),
                }
            });
            if plan.gate.never_deny && judge::would_deny(plan, readings) {
                self.metrics.reference.shadowed();
            }
        }
        decision
    }

    /// Where the counters are: `memory` or `redis`.
    pub fn store_name(&self) -> &'static str {
        self.store.name()
    }

    /// Whether decisions wait for something outside this process.
    pub fn is_remote(&self) -> bool {
        self.store.is_remote()
    }

    /// A limiter with this one's connection to the store, whose decisions carry notes.
    pub fn noting(&self) -> Limiter {
        Limiter { modes: Modes { notes: true, ..self.modes }, ..self.clone() }
    }

    /// The defaults for limits whose rules don't set them.
    pub fn modes(&self) -> Modes {
        self.modes
    }

    /// The meters of this limiter's decisions, with which callers also count their errors.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The rules in force.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    fn count(&self, request: &Request<'_>, plan: &Plan<'_>, readings: &[Reading], meters: &Meters) {
        let outcome = |index: usize| match (readings[index].admitted, plan.asks[index].role) {
            (true, _) => Outcome::Ok,
            (false, Role::Shadow) => Outcome::Shadow,
            (false, Role::Enforced | Role::Quota) => Outcome::OverLimit,
        };
        for (descriptor, planned) in request.descriptors.iter().zip(&plan.descriptors) {
            match planned {
                Planned::Ruled { domain, rule, counted, asks } => {
                    for (place, index) in counted.places().zip(asks.clone()) {
                        meters.count(*domain, rule, place, outcome(index));
                    }
                }
                Planned::Requested { domain, asks } => {
                    meters.count_requested(*domain, outcome(asks.start));
                    if descriptor.limit.is_some_and(|(requests, _)| plan::outgrows_log(requests, self.modes)) {
                        self.metrics.log_fallback();
                    }
                }
                Planned::NoMatch => self.metrics.unmatched.count(request.domain, &descriptor.entries),
                Planned::UnknownDomain => self.metrics.unknown_domain(request.domain),
                Planned::Free | Planned::Unlimited(_) => {}
            }
        }
    }

    /// Counts a look-up in the local cache of envoyproxy/ratelimit for each descriptor that met a limit, whatever the
    /// result.
    fn count_lookups(&self, plan: &Plan<'_>, is_found: impl Fn(&Range<usize>) -> bool) {
        let (mut lookups, mut hits) = (0, 0);
        for planned in &plan.descriptors {
            if let Planned::Ruled { asks, .. } | Planned::Requested { asks, .. } = planned {
                lookups += 1;
                hits += u64::from(is_found(asks));
            }
        }
        self.metrics.reference.looked_up(lookups, hits);
    }

    /// Counts hits as envoyproxy/ratelimit does, whose rules have one limit: of several limits, the one that the status
    /// reports counts. `tally` gets a descriptor's checks and their hits, and returns which check it counted.
    fn count_hits(
        &self,
        request: &Request<'_>,
        plan: &Plan<'_>,
        meters: &Meters,
        tally: impl Fn(&Range<usize>, i64) -> (usize, Tally),
    ) {
        let reference = &self.metrics.reference;
        for (descriptor, planned) in request.descriptors.iter().zip(&plan.descriptors) {
            let hits = request.hits_of(descriptor);
            match planned {
                Planned::Ruled { domain, rule, counted, asks } => {
                    let (told, tally) = tally(asks, hits);
                    let place = counted.places().nth(told).flatten();
                    let domain = (*domain, request.domain);
                    reference.ruled(meters, domain, (rule, place), &descriptor.entries, tally);
                }
                Planned::Requested { asks, .. } if request.own.is_some() => {
                    reference.own(request.domain, &descriptor.entries, tally(asks, hits).1);
                }
                Planned::Requested { asks, .. } => {
                    reference.requested(request.domain, &descriptor.entries, tally(asks, hits).1);
                }
                _ => {}
            }
        }
    }
}

/// Counts a request that was decided by the failure policy of one limit, that of the check at `index`.
fn count_degraded(plan: &Plan<'_>, index: usize, policy: FailurePolicy, meters: &Meters) {
    match plan.descriptors.iter().find(|planned| planned.asks().contains(&index)) {
        Some(Planned::Ruled { domain, rule, counted, asks }) => {
            let place = counted.places().nth(index - asks.start).flatten();
            meters.count_degraded(*domain, Some((rule, place)), policy);
        }
        Some(Planned::Requested { domain, .. }) => meters.count_degraded(*domain, None, policy),
        // These have no checks.
        Some(Planned::UnknownDomain | Planned::NoMatch | Planned::Free | Planned::Unlimited(_)) | None => {}
    }
}
