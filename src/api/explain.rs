//! What a check would be answered, and why. Knows nothing of gRPC or HTTP.

use super::{Api, ApiError, CheckRequest, ExplainResponse};
use crate::limiter::Snapshot;

/// The caller may, and the domain is loaded. [`super::Asked`] makes the limiter's words of the request.
pub(super) async fn explain(
    _api: &Api,
    _snapshot: &Snapshot,
    _request: CheckRequest,
) -> Result<ExplainResponse, ApiError> {
    Err(ApiError::Unimplemented("explanations aren't there yet".into()))
}
