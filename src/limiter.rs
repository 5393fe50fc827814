//! Decides requests: matches the rules, plans the counter checks, charges the hits in the store, and makes a decision
//! of the readings. It knows neither tonic nor YAML, gets the time as an argument, and sees one snapshot of the rules
//! for each request.

mod budgets;
mod degraded;
pub(crate) mod explain;
mod judge;
mod notes;
mod plan;
mod replicas;
mod reset;
#[cfg(test)]
pub(crate) mod tests;
mod traced;

use std::{ops::Range, sync::Arc};

use arc_swap::ArcSwap;

pub use crate::limiter::explain::{Applies, CounterLook, DescriptorLook, HeldAt, Look, Overriding};
pub use budgets::{Budgets, Kind, Learned, Requested};
pub use degraded::Degraded;
pub use judge::{Decision, ShownLimit, Status};
pub use notes::{Note, Notes};
pub use replicas::Replicas;
pub use reset::{ResetCounter, ResetError};

use crate::{
    clock,
    limit::{Algorithm, Code, CountDenied, FailurePolicy, Reading, Request, UnixMicros},
    metrics::{Meters, Metrics, Outcome, Tally},
    rules::{Problems, Rules},
    run_time::{
        RunTime,
        overrides::{self, View},
    },
    store::{Deadline, Readings, Role, Store, StoreError},
    trace,
};
use degraded::Policies;
use plan::{By, Plan, Planned};

/// The rules and their meters. They are swapped as a whole, so that a request sees exactly one version of both.
pub struct Snapshot {
    /// Number of the version in this process, from 1; 0 before there are rules.
    pub version: u64,
    pub rules: Rules,
    /// The meters of each limit, resolved at load.
    pub meters: Meters,
    /// Which of their limits are budgets.
    pub budgets: Budgets,
    /// Problems of the files as they are now. Domains with errors are in `kept`.
    pub problems: Problems,
    /// Domains that keep their last good rules.
    pub kept: Vec<Box<str>>,
    pub loaded_at: UnixMicros,
}

impl Snapshot {
    fn plan<'r>(
        &'r self,
        (request, now): (&'r Request<'_>, UnixMicros),
        look: Option<&'r overrides::Look>,
        modes: Modes,
        wall: impl Fn() -> UnixMicros + Copy,
    ) -> Result<Plan<'r>, DecideError> {
        self.has_rules()?;
        Plan::of(request, self.by(look, now), modes, wall)
    }

    /// As [`Snapshot::plan`], in place.
    fn fill<'r>(
        &'r self,
        plan: &mut Plan<'r>,
        (request, now): (&'r Request<'_>, UnixMicros),
        look: Option<&'r overrides::Look>,
        modes: Modes,
        wall: impl Fn() -> UnixMicros + Copy,
    ) -> Result<(), DecideError> {
        self.has_rules()?;
        plan.fill(request, self.by(look, now), modes, wall)
    }

    fn by<'r>(&'r self, look: Option<&'r overrides::Look>, now: UnixMicros) -> By<'r> {
        By { rules: &self.rules, look, budgets: &self.budgets, now }
    }

    /// The error before any rules are loaded: an answer would admit what the rules refuse.
    fn has_rules(&self) -> Result<(), DecideError> {
        if self.version == 0 { Err(DecideError::NoRules) } else { Ok(()) }
    }
}

/// The process's defaults for decisions. Rules come first where they may set the same.
#[derive(Clone, Copy, Debug, Default)]
pub struct Modes {
    /// Global SHADOW_MODE: every overall answer is OK. Statuses, counters and metrics are as without it.
    pub shadow: bool,
    /// Global QUOTA_MODE: every rule is as if it had `quota_mode`.
    pub quota: bool,
    /// For limits that come with a request.
    pub algorithm: Algorithm,
    /// For limits that come with a request.
    pub count_denied: CountDenied,
    /// The failure policy of limits whose rules have none.
    pub on_store_failure: FailurePolicy,
    /// Whether decisions carry notes of what they rested on, which costs allocations.
    pub notes: bool,
}

/// Why no decision was made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecideError {
    #[error("no rate limit configuration loaded")]
    NoRules,
    #[error("rate limit domain must not be empty")]
    EmptyDomain,
    #[error("rate limit descriptor list must not be empty")]
    NoDescriptors,
    #[error("the request has more than {max} descriptors", max = crate::limit::DESCRIPTORS_MAX)]
    TooManyDescriptors,
    #[error("the request's descriptors have more than {max} entries", max = crate::limit::ENTRIES_MAX)]
    TooManyEntries,
    #[error(transparent)]
    Store(#[from] StoreError),
}

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
        let snapshot = self.snapshot.load_full();
        // Read after the rules: the set of overrides knows the rules in force, newer ones, and those before them.
        let view = self.run_time.as_ref().map(|run_time| run_time.overrides.view_to_keep());
        let look = view.as_ref().and_then(|view| view.domain(request.domain));
        // Boxed, so that what waits for the store takes less than a KiB: beyond that each allocation is a slow one.
        let mut plan = Box::new(Plan::new(self.modes));
        snapshot.fill(&mut plan, (request, now), look, self.modes, || self.wall(now))?;
        let asked = clock::instant();
        let answer = self.store.apply(&plan.asks, plan.gate, now, deadline).await;
        self.metrics.store.record(asked.elapsed());
        if let Some(here) = trace::here() {
            traced::asked(&here, &self.store, &plan.asks, asked, answer.as_ref().err());
        }
        let is_overdue = matches!(answer, Err(StoreError::Timeout(_)));
        let (readings, policies) = match answer {
            Ok(readings) => (readings, Policies::new()),
            Err(error) => self.stand_in(request, &plan, &snapshot, error, now)?,
        };
        let decision = self.conclude(request, &plan, &snapshot, &readings, &policies);
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
        let snapshot = self.snapshot.load_full();
        let view = self.view();
        let look = view.as_ref().and_then(|view| view.domain(request.domain));
        let plan = snapshot.plan((request, now), look, self.modes, || self.wall(now))?;
        let (readings, policies) = self.stand_in(request, &plan, &snapshot, why, now)?;
        Ok(self.conclude(request, &plan, &snapshot, &readings, &policies))
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
        let snapshot = self.snapshot.load();
        let view = self.view();
        let look = view.as_ref().and_then(|view| view.domain(request.domain));
        let mut plan = Plan::new(self.modes);
        if let Err(error) = snapshot.fill(&mut plan, (request, now), look, self.modes, || self.wall(now)) {
            return Some(Err(error));
        }
        #[cfg(test)]
        tests::panic_if_asked_to(request);
        let readings = memory.apply(&plan.asks, plan.gate, now);
        Some(Ok(self.conclude(request, &plan, &snapshot, &readings, &Policies::new())))
    }

    fn view(&self) -> Option<View> {
        self.run_time.as_ref().map(|run_time| run_time.overrides.view())
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
