//! Counters begun afresh, by the descriptor that they count: the same matching as a decision's says which they are.

use std::sync::Arc;

use smallvec::SmallVec;

use super::{
    Limiter,
    plan::{Plan, Planned},
};
use crate::{
    limit::{Request, UnixMicros},
    overrides::RunTime,
    store::Ask,
};

/// A counter that was begun afresh, or would be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResetCounter {
    pub limit_id: Arc<str>,
    /// Its key in Redis.
    pub key: String,
}

impl Limiter {
    /// Begins the counters of a request's descriptors afresh: those of the limits in force, and where an override is in
    /// force also those of the rule, which count again once it ends. `only` one limit, by its id. A dry run only tells.
    pub async fn reset(
        &self,
        run_time: &RunTime,
        request: &Request<'_>,
        (only, is_dry): (Option<&str>, bool),
        now: UnixMicros,
    ) -> Result<Vec<ResetCounter>, super::DecideError> {
        let snapshot = self.snapshot.load_full();
        let view = run_time.overrides.view_to_keep();
        let in_force = snapshot.plan(request, view.domain(request.domain), self.modes, || self.wall(now))?;
        // By the rules alone: far in the future every override has ended.
        let by_rule = snapshot.plan(request, None, self.modes, || UnixMicros(u64::MAX - 1))?;
        let mut counters: Vec<ResetCounter> = Vec::new();
        let mut asks: SmallVec<[Ask<'_>; 4]> = SmallVec::new();
        for (limit_id, ask) in limits(&in_force).into_iter().chain(limits(&by_rule)) {
            let key = self.store.counter_name(&ask);
            if only.is_none_or(|only| *only == *limit_id) && counters.iter().all(|known| known.key != key) {
                counters.push(ResetCounter { limit_id, key });
                asks.push(ask);
            }
        }
        if !is_dry {
            run_time.resets.reset(&asks).await?;
        }
        Ok(counters)
    }
}

/// Each ask with the id of its limit.
fn limits<'a>(plan: &Plan<'a>) -> Vec<(Arc<str>, Ask<'a>)> {
    let mut limits = Vec::new();
    for planned in &plan.descriptors {
        let Planned::Ruled { counted, asks, .. } = planned else { continue };
        for (nth, ask) in plan.asks[asks.clone()].iter().enumerate() {
            limits.extend(counted.known_as(nth).map(|limit| (Arc::clone(&limit.id), *ask)));
        }
    }
    limits
}
