//! The rules in force with what was resolved of them at load, and the run-time overrides beside them: all that a request is
//! matched against.

use std::{borrow::Borrow, ops::Deref, sync::Arc};

use arc_swap::{ArcSwap, Guard};

use super::{
    budgets::Budgets,
    decision::DecideError,
    modes::Modes,
    plan::{Plan, PlanInputs},
};
use crate::{
    limit::{Request, UnixMicros},
    metrics::Meters,
    rules::{LoadedTexts, Problems, Rules},
    run_time::{RunTime, overrides::View},
};

/// The rules and their meters. They are swapped as a whole, so that a request sees exactly one version of both.
pub struct Snapshot {
    /// Number of the version in this process, from 1; 0 before there are rules.
    pub version: u64,
    pub rules: Rules,
    /// The meters of each limit, resolved at load.
    pub meters: Meters,
    /// Which of their limits are budgets.
    pub budgets: Budgets,
    /// Problems of the files as they are now. Domains with errors are in `kept_domains`.
    pub problems: Problems,
    /// Domains that keep their last good rules.
    pub kept_domains: Vec<Box<str>>,
    /// What their files say.
    pub texts: LoadedTexts,
    pub loaded_at: UnixMicros,
}

/// What one request sees: rules and run-time overrides of one moment.
pub(super) struct InForce<S> {
    snapshot: S,
    view: Option<View>,
}

impl InForce<Guard<Arc<Snapshot>>> {
    /// For a decision that waits for nothing.
    pub(super) fn now(snapshot: &ArcSwap<Snapshot>, run_time: Option<&RunTime>) -> Self {
        let snapshot = snapshot.load();
        // Read after the rules: the set of overrides knows the rules in force, newer ones, and those before them.
        InForce { snapshot, view: run_time.map(|run_time| run_time.overrides.view()) }
    }
}

impl InForce<Arc<Snapshot>> {
    /// For one that waits for something: costs a reference count more.
    pub(super) fn to_keep(snapshot: &ArcSwap<Snapshot>, run_time: Option<&RunTime>) -> Self {
        let snapshot = snapshot.load_full();
        // As above.
        InForce { snapshot, view: run_time.map(|run_time| run_time.overrides.view_across_await()) }
    }

    pub(super) fn into_snapshot(self) -> Arc<Snapshot> {
        self.snapshot
    }
}

impl<S> InForce<S> {
    /// Rules that nothing changes while they run.
    pub(super) fn of_rules(snapshot: S) -> Self {
        InForce { snapshot, view: None }
    }
}

impl<S: Deref<Target: Borrow<Snapshot>>> InForce<S> {
    pub(super) fn snapshot(&self) -> &Snapshot {
        (*self.snapshot).borrow()
    }

    /// The same rules without the overrides that are set at run time.
    pub(super) fn rules_alone(&self) -> InForce<&Snapshot> {
        InForce::of_rules(self.snapshot())
    }

    /// Matches `request`, which arrived at `now`, and fills an empty `plan` in place. `wall` returns the time by which
    /// overrides end.
    pub(super) fn fill<'r>(
        &'r self,
        plan: &mut Plan<'r>,
        (request, now): (&'r Request<'_>, UnixMicros),
        modes: Modes,
        wall: impl Fn() -> UnixMicros + Copy,
    ) -> Result<(), DecideError> {
        // Before any rules are loaded nothing can be decided: an answer would admit what the rules refuse.
        if self.snapshot().version == 0 {
            return Err(DecideError::NoRules);
        }
        plan.fill(request, self.inputs(request.domain, now), modes, wall)
    }

    /// What a request of `domain` that arrived at `now` is matched against.
    #[inline]
    pub(super) fn inputs(&self, domain: &str, now: UnixMicros) -> PlanInputs<'_> {
        let changes = self.view.as_ref().and_then(|view| view.domain(domain));
        let Snapshot { rules, budgets, .. } = self.snapshot();
        PlanInputs { rules, changes, budgets, now }
    }
}
