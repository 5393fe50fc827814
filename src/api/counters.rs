//! Counters forgotten on demand. Knows nothing of gRPC or HTTP.

use super::{Api, ApiError, Caller, ResetCounterRequest, ResetCounterResponse};
use crate::limiter::Snapshot;

/// The caller may, the domain is loaded, and the entries are within bounds.
pub(super) async fn reset(
    _api: &Api,
    _snapshot: &Snapshot,
    _caller: &Caller,
    _request: ResetCounterRequest,
) -> Result<ResetCounterResponse, ApiError> {
    Err(ApiError::Unimplemented("resets aren't there yet".into()))
}
