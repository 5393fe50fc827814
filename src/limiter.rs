//! Decides requests: matches the rules, plans the counter checks, charges the hits in the store, and makes a decision
//! of the readings. It knows neither tonic nor YAML, gets the time as an argument, and sees one snapshot of the rules
//! for each request.

mod budgets;
mod decision;
pub mod decision_feed;
pub(crate) mod explain;
mod fallback;
pub mod history;
mod judge;
mod modes;
mod notes;
mod plan;
pub mod replay;
mod replicas;
mod reset;
mod snapshot;
mod switched;
#[cfg(test)]
pub(crate) mod tests;
pub mod top;
mod traced;

use std::{
    borrow::Borrow,
    ops::{Deref, Range},
    sync::Arc,
};

use arc_swap::{ArcSwap, Guard};

pub use crate::limiter::explain::{
    Applies, ContentsAt, CounterExplanation, DescriptorExplanation, Explanation, OverrideExplanation,
};
pub use budgets::{Budgets, Learned, RequestedBudgets, RequestedKind};
pub use decision::{DecideError, Decision, Note, NotedOverride, Notes, ShownLimit, Status};
pub use fallback::{Fallback, LocalCounter};
pub use modes::Modes;
pub use replicas::Replicas;
pub use reset::{ResetCounter, ResetError};
pub use snapshot::Snapshot;

use crate::{
    clock,
    limit::{Code, FailurePolicy, Reading, Request, UnixMicros},
    metrics::{HitCounts, LimitOutcome, Meters, Metrics},
    run_time::RunTime,
    store::{Deadline, Readings, Role, Store, StoreError},
    trace,
};
use decision_feed::{Decided, DecisionFeed, Outcome};
use fallback::Policies;
use plan::{Plan, PlannedDescriptor};
use snapshot::InForce;
use top::CoreTop;

/// Decides requests. Cheap to clone; each core has one with its own way to the store.
#[derive(Clone)]
pub struct Limiter {
    snapshot: Arc<ArcSwap<Snapshot>>,
    store: Store,
    fallback: Arc<Fallback>,
    modes: Modes,
    metrics: Arc<Metrics>,
    run_time: Option<RunTime>,
    /// Where this core counts who is refused most; `None` where nobody wants to know.
    top: Option<CoreTop>,
    /// Who wants to see each decision; `None` where nobody ever does.
    feed: Option<Arc<DecisionFeed>>,
}

impl Limiter {
    pub fn new(
        snapshot: Arc<ArcSwap<Snapshot>>,
        store: Store,
        fallback: Arc<Fallback>,
        modes: Modes,
        metrics: Arc<Metrics>,
    ) -> Limiter {
        Limiter { snapshot, store, fallback, modes, metrics, run_time: None, top: None, feed: None }
    }

    /// This limiter, with run-time overrides and resets.
    pub fn with_run_time(mut self, run_time: RunTime) -> Limiter {
        self.run_time = Some(run_time);
        self
    }

    /// This limiter, which counts in `top`.
    pub fn with_top(mut self, top: Option<CoreTop>) -> Limiter {
        self.top = top;
        self
    }

    /// This limiter, whose decisions are told to `feed`.
    pub fn with_feed(mut self, feed: Arc<DecisionFeed>) -> Limiter {
        self.feed = Some(feed);
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
        let answer = self.store.apply(&plan.checks, plan.gate, now, deadline).await;
        self.metrics.store.record(asked.elapsed());
        if let Some(trace) = trace::current() {
            traced::trace_store_call(&trace, &self.store, &plan.checks, asked, answer.as_ref().err());
        }
        let is_overdue = matches!(answer, Err(StoreError::Timeout(_)));
        let (readings, policies) = match answer {
            Ok(readings) => (readings, Policies::new()),
            Err(error) => self.answer_by_policy(request, &plan, snapshot, error, now)?,
        };
        let decision = self.conclude(request, &plan, snapshot, (&readings, &policies), now);
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
        let (readings, policies) = self.answer_by_policy(request, &plan, in_force.snapshot(), why, now)?;
        Ok(self.conclude(request, &plan, in_force.snapshot(), (&readings, &policies), now))
    }

    /// Answers by the limits' failure policies; with the store's error, if that is the policy.
    fn answer_by_policy(
        &self,
        request: &Request<'_>,
        plan: &Plan<'_>,
        snapshot: &Snapshot,
        error: StoreError,
        now: UnixMicros,
    ) -> Result<(Readings, Policies), StoreError> {
        self.metrics.store_failed(&error);
        self.fallback.answer(plan, self.modes.on_store_failure, error, now).inspect_err(|_| {
            self.metrics.answered_by_policy();
            if let Some(index) = fallback::failing(plan, self.modes.on_store_failure) {
                count_policy_answer(plan, index, FailurePolicy::Error, &snapshot.meters);
            }
            if self.metrics.reference.near_ratio().is_some() {
                self.count_hits(request, plan, &snapshot.meters, |_, hits| (0, HitCounts::failed(hits)));
                if self.store.is_remote() && self.metrics.reference.has_local_cache() {
                    self.count_lookups(plan, |_| false);
                }
            }
            self.tell((request, plan), None, snapshot.version, now);
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
        let readings = memory.apply(&plan.checks, plan.gate, now);
        Some(Ok(self.conclude(request, &plan, in_force.snapshot(), (&readings, &Policies::new()), now)))
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
        (readings, policies): (&Readings, &Policies),
        now: UnixMicros,
    ) -> Decision {
        let mut decision = judge::judge(plan, readings, policies);
        if self.modes.notes || trace::is_sampled() {
            decision.notes = Some(Box::new(Notes::of(request, plan, readings, snapshot.version)));
        }
        self.metrics.decided(decision.overall);
        let meters = &snapshot.meters;
        if let Some(policy) = decision.failure_policy {
            self.metrics.answered_by_policy();
            count_policy_answer(plan, judge::deciding_check(plan, readings), policy, meters);
        }
        self.count(request, plan, readings, meters);
        if let Some(top) = &self.top {
            top.count(request, plan, readings, now);
        }
        self.tell((request, plan), Some(Outcome { decision: &decision, readings, policies }), snapshot.version, now);
        if let Some(near_ratio) = self.metrics.reference.near_ratio() {
            let has_local_cache = self.store.is_remote() && self.metrics.reference.has_local_cache();
            let is_from_cache = readings.is_from_cache && has_local_cache;
            if has_local_cache {
                let is_found =
                    |checks: &Range<usize>| is_from_cache && readings[checks.clone()].iter().any(|of| !of.admitted);
                self.count_lookups(plan, is_found);
            }
            self.count_hits(request, plan, meters, |checks, hits| {
                let reported = judge::reported_check(&plan.checks[checks.clone()], &readings[checks.clone()]);
                let (check, reading) = (&plan.checks[checks.start + reported], readings[checks.start + reported]);
                match policies.is_empty() {
                    true if is_from_cache => {
                        (reported, HitCounts::of(check, reading, hits, near_ratio).answered_from_cache())
                    }
                    true => (reported, HitCounts::of(check, reading, hits, near_ratio)),
                    false => (reported, HitCounts::without_reading(check, reading, hits)),
                }
            });
            if plan.gate.never_deny && judge::would_deny(plan, readings) {
                self.metrics.reference.shadowed();
            }
        }
        decision
    }

    /// Tells whoever wants to see it what a request was answered.
    fn tell(
        &self,
        (request, plan): (&Request<'_>, &Plan<'_>),
        outcome: Option<Outcome<'_>>,
        rules_version: u64,
        now: UnixMicros,
    ) {
        if let Some(feed) = &self.feed
            && feed.is_wanted()
        {
            feed.tell(&Decided { request, plan, outcome, rules_version, at: self.wall(now) });
        }
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
    pub fn with_notes(&self) -> Limiter {
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
        let outcome = |index: usize| match (readings[index].admitted, plan.checks[index].role) {
            (true, _) => LimitOutcome::Ok,
            (false, Role::Shadow) => LimitOutcome::Shadow,
            (false, Role::Enforced | Role::Quota) => LimitOutcome::OverLimit,
        };
        for (descriptor, planned) in request.descriptors.iter().zip(&plan.descriptors) {
            match planned {
                PlannedDescriptor::Ruled { domain, rule, applied: counted, checks } => {
                    for (place, index) in counted.rule_positions().zip(checks.clone()) {
                        meters.count(*domain, rule, place, outcome(index));
                    }
                }
                PlannedDescriptor::Requested { domain, checks } => {
                    meters.count_requested(*domain, outcome(checks.start));
                    if descriptor.limit.is_some_and(|(requests, _)| plan::outgrows_log(requests, self.modes)) {
                        self.metrics.log_fallback();
                    }
                }
                PlannedDescriptor::NoMatch => self.metrics.unmatched.count(request.domain, &descriptor.entries),
                PlannedDescriptor::UnknownDomain => self.metrics.unknown_domain(request.domain),
                PlannedDescriptor::NoLimit | PlannedDescriptor::Unlimited(_) => {}
            }
        }
    }

    /// Counts a look-up in the local cache of envoyproxy/ratelimit for each descriptor that met a limit, whatever the
    /// result.
    fn count_lookups(&self, plan: &Plan<'_>, is_found: impl Fn(&Range<usize>) -> bool) {
        let (mut lookups, mut hits) = (0, 0);
        for planned in &plan.descriptors {
            if let PlannedDescriptor::Ruled { checks, .. } | PlannedDescriptor::Requested { checks, .. } = planned {
                lookups += 1;
                hits += u64::from(is_found(checks));
            }
        }
        self.metrics.reference.looked_up(lookups, hits);
    }

    /// Counts hits as envoyproxy/ratelimit does, whose rules have one limit: of several limits, the one that the status
    /// reports counts. `counts` gets a descriptor's checks and their hits, and returns which check it counted.
    fn count_hits(
        &self,
        request: &Request<'_>,
        plan: &Plan<'_>,
        meters: &Meters,
        counts: impl Fn(&Range<usize>, i64) -> (usize, HitCounts),
    ) {
        let reference = &self.metrics.reference;
        for (descriptor, planned) in request.descriptors.iter().zip(&plan.descriptors) {
            let hits = request.hits_of(descriptor);
            match planned {
                PlannedDescriptor::Ruled { domain, rule, applied: counted, checks } => {
                    let (reported, counts) = counts(checks, hits);
                    let place = counted.rule_positions().nth(reported).flatten();
                    let domain = (*domain, request.domain);
                    reference.ruled(meters, domain, (rule, place), &descriptor.entries, counts);
                }
                PlannedDescriptor::Requested { checks, .. } if request.caller_limit.is_some() => {
                    reference.own(request.domain, &descriptor.entries, counts(checks, hits).1);
                }
                PlannedDescriptor::Requested { checks, .. } => {
                    reference.requested(request.domain, &descriptor.entries, counts(checks, hits).1);
                }
                _ => {}
            }
        }
    }
}

/// Counts a request that was decided by the failure policy of one limit, that of the check at `index`.
fn count_policy_answer(plan: &Plan<'_>, index: usize, policy: FailurePolicy, meters: &Meters) {
    match plan.descriptors.iter().find(|planned| planned.checks().contains(&index)) {
        Some(PlannedDescriptor::Ruled { domain, rule, applied: counted, checks }) => {
            let place = counted.rule_positions().nth(index - checks.start).flatten();
            meters.count_degraded(*domain, Some((rule, place)), policy);
        }
        Some(PlannedDescriptor::Requested { domain, .. }) => meters.count_degraded(*domain, None, policy),
        // These have no checks.
        Some(
            PlannedDescriptor::UnknownDomain
            | PlannedDescriptor::NoMatch
            | PlannedDescriptor::NoLimit
            | PlannedDescriptor::Unlimited(_),
        )
        | None => {}
    }
}
