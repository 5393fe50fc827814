//! The span of a call of the store, with the attributes of envoyproxy/ratelimit. Only for sampled requests.

use std::time::Instant;

use crate::{
    limit::SECOND,
    store::{Ask, Store, StoreError},
    trace::Here,
};

/// Adds the store's call to the trace: from `began` until now.
pub(super) fn asked(here: &Here, store: &Store, asks: &[Ask<'_>], began: Instant, error: Option<&StoreError>) {
    let is_per_second = |ask: &&Ask<'_>| matches!(store, Store::Split(_)) && ask.limit.window == SECOND;
    let per_second = asks.iter().filter(is_per_second).count();
    let mut span = here.store_asked("Redis Pipeline Execution", began);
    span.set_int("pipeline length", (asks.len() - per_second) as i64);
    span.set_int("perSecondPipeline length", per_second as i64);
    if let Some(error) = error {
        span.fail(error.to_string());
    }
}
