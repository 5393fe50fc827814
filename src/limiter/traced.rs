//! The span of a call of the store, with the attributes of envoyproxy/ratelimit. Only for sampled requests.

use std::time::Instant;

use crate::{
    limit::SECOND,
    store::{CounterCheck, Store, StoreError},
    trace::TraceContext,
};

/// Adds the store's call to the trace: from `began` until now.
pub(super) fn trace_store_call(
    trace: &TraceContext,
    store: &Store,
    checks: &[CounterCheck<'_>],
    began: Instant,
    error: Option<&StoreError>,
) {
    let is_per_second = |check: &&CounterCheck<'_>| matches!(store, Store::Split(_)) && check.limit.window == SECOND;
    let per_second = checks.iter().filter(is_per_second).count();
    let mut span = trace.store_span("Redis Pipeline Execution", began);
    span.set_int("pipeline length", (checks.len() - per_second) as i64);
    span.set_int("perSecondPipeline length", per_second as i64);
    if let Some(error) = error {
        span.fail(error.to_string());
    }
}
