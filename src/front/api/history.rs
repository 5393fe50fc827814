//! The last hour of this replica in lists of numbers. Knows nothing of gRPC or HTTP.

use std::sync::Arc;

use super::{Api, ApiError, GetHistoryRequest, GetHistoryResponse, top::require_limit};
use crate::{
    blocking::blocking,
    clock,
    limit::{SECOND, moment},
    limiter::history::{LimitRates, SLOT, SlotRates},
};

/// The caller may see these `domains` (`None` is all).
pub(super) async fn get(
    api: &Api,
    request: GetHistoryRequest,
    domains: Option<&[&str]>,
) -> Result<GetHistoryResponse, ApiError> {
    let snapshot = api.limiter.snapshot();
    let mut limit = None;
    if !request.limit.is_empty() {
        require_limit(&request.limit, &snapshot, domains)?;
        let limits = snapshot.rules.domains().iter().flat_map(|domain| domain.rules()).flat_map(|rule| &rule.limits);
        // What is counted of limits that no rule has isn't kept over time.
        limit = Some(limits.into_iter().find(|limit| *limit.id == *request.limit).map_or(0, |limit| limit.id_hash));
    }
    let (history, limiter) = (Arc::clone(&api.insight.history), api.limiter.clone());
    let view = blocking(move || history.read(limit, clock::now(), limiter.metrics(), &snapshot)).await;
    let slots = |of: fn(&SlotRates) -> f64| view.slots.iter().map(|slot| rounded(of(slot))).collect();
    let limits = |of: fn(&LimitRates) -> f32| view.limit.iter().map(|slot| known(slot, of)).collect();
    Ok(GetHistoryResponse {
        begins: moment::write(view.begins),
        slot_seconds: (SLOT.0 / SECOND.0) as u32,
        requests: slots(|slot| slot.requests.into()),
        refused: slots(|slot| slot.refused.into()),
        degraded: slots(|slot| slot.degraded.into()),
        store_errors: slots(|slot| slot.store_errors.into()),
        decision_p50_ms: slots(|slot| ms(slot.decision_p50_us)),
        decision_p99_ms: slots(|slot| ms(slot.decision_p99_us)),
        store_p99_ms: slots(|slot| ms(slot.store_p99_us)),
        limit_requests: limits(|slot| slot.requests),
        limit_refused: limits(|slot| slot.refused),
        limit_shadow: limits(|slot| slot.shadow),
    })
}

fn ms(us: u32) -> f64 {
    f64::from(us) / 1e3
}

/// -1 is not known.
pub(super) fn known(slot: &Option<LimitRates>, of: fn(&LimitRates) -> f32) -> f64 {
    slot.as_ref().map_or(-1.0, |rates| rounded(of(rates).into()))
}

/// Three digits are enough for a graph, and keep the answer short.
pub(super) fn rounded(number: f64) -> f64 {
    (number * 1e3).round() / 1e3
}
