//! Resets counters by the descriptor that they count: the same matching as in a decision finds them.

use std::sync::Arc;

use smallvec::SmallVec;

use super::{
    DecideError, Limiter,
    plan::{Plan, PlannedDescriptor},
    snapshot::InForce,
};
use crate::{
    limit::{Request, UnixMicros},
    metrics::requested_id,
    run_time::{RunTime, overrides::OverridesError, reset::Author},
    store::CounterCheck,
};

/// Why nothing, or not all of it, began afresh.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResetError {
    #[error(transparent)]
    Request(#[from] DecideError),
    #[error(transparent)]
    Kept(#[from] OverridesError),
}

/// A counter that was begun afresh, or would be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResetCounter {
    pub limit_id: Arc<str>,
    /// Its key in Redis.
    pub key: String,
}

impl Limiter {
    /// Begins the counters of a request's descriptors afresh: those of the limits in force, and where an override is in
    /// force also those of the rule, which count again once it ends; and that of the caller's own limit, if the request
    /// brings one. `only` one limit, by its id. Without an author it is a dry run, which only tells.
    pub async fn reset(
        &self,
        run_time: &RunTime,
        request: &Request<'_>,
        (only, author): (Option<&str>, Option<Author<'_>>),
        now: UnixMicros,
    ) -> Result<Vec<ResetCounter>, ResetError> {
        let seen = InForce::to_keep(&self.snapshot, Some(run_time));
        let rules_alone = seen.rules_alone();
        let (mut in_force, mut by_rule) = (Plan::new(self.modes), Plan::new(self.modes));
        self.fill(&mut in_force, &seen, request, now)?;
        // By the rules alone: far in the future every override has ended.
        rules_alone.fill(&mut by_rule, (request, now), self.modes, || UnixMicros(u64::MAX - 1))?;
        let mut counters: Vec<ResetCounter> = Vec::new();
        let mut checks: SmallVec<[CounterCheck<'_>; 4]> = SmallVec::new();
        for (limit_id, check) in limits(&in_force, request).into_iter().chain(limits(&by_rule, request)) {
            let key = self.store.counter_name(&check);
            if only.is_none_or(|only| *only == *limit_id) && counters.iter().all(|known| known.key != key) {
                counters.push(ResetCounter { limit_id, key });
                checks.push(check);
            }
        }
        if let Some(author) = author.filter(|_| !checks.is_empty()) {
            run_time.reset(request.domain, &checks, author, now).await?;
        }
        Ok(counters)
    }
}

/// Each ask with the id of its limit.
fn limits<'a>(plan: &Plan<'a>, request: &Request<'_>) -> Vec<(Arc<str>, CounterCheck<'a>)> {
    let mut limits = Vec::new();
    for planned in &plan.descriptors {
        for (nth, check) in plan.checks[planned.checks()].iter().enumerate() {
            let id = match planned {
                PlannedDescriptor::Ruled { applied: counted, .. } => {
                    counted.counted_as(nth).map(|limit| Arc::clone(&limit.id))
                }
                _ => Some(requested_id(request.domain).into()),
            };
            limits.extend(id.map(|id| (id, *check)));
        }
    }
    limits
}
