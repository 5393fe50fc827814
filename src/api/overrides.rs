//! Run-time overrides: reading, writing, listing them for the calls. Knows nothing of gRPC or HTTP.

use super::{
    Api, ApiError, Caller, DeleteOverrideRequest, DeleteOverrideResponse, GetOverrideRequest, ListOverridesRequest,
    ListOverridesResponse, Override, SetOverrideRequest, SetOverrideResponse,
};
use crate::limiter::Snapshot;

/// Creates or replaces. The caller may, the domain is loaded, and ids and sizes are within bounds.
pub(super) async fn set(
    _api: &Api,
    _snapshot: &Snapshot,
    _caller: &Caller,
    _request: SetOverrideRequest,
) -> Result<SetOverrideResponse, ApiError> {
    Err(unimplemented())
}

pub(super) async fn get(_api: &Api, _snapshot: &Snapshot, _request: GetOverrideRequest) -> Result<Override, ApiError> {
    Err(unimplemented())
}

/// `page_size` is 1 to 1,000.
pub(super) async fn list(
    _api: &Api,
    _snapshot: &Snapshot,
    _request: ListOverridesRequest,
) -> Result<ListOverridesResponse, ApiError> {
    Err(unimplemented())
}

pub(super) async fn delete(
    _api: &Api,
    _snapshot: &Snapshot,
    _caller: &Caller,
    _request: DeleteOverrideRequest,
) -> Result<DeleteOverrideResponse, ApiError> {
    Err(unimplemented())
}

fn unimplemented() -> ApiError {
    ApiError::Unimplemented("run-time overrides aren't there yet".into())
}
