//! Who changed what. Knows nothing of gRPC or HTTP.

use super::{Api, ApiError, ListAuditRequest, ListAuditResponse};

/// Newest first; `page_size` is 1 to 1,000. The caller may see that domain, or all where none is named.
pub(super) async fn list(_api: &Api, _request: ListAuditRequest) -> Result<ListAuditResponse, ApiError> {
    Err(ApiError::Unimplemented("the audit isn't there yet".into()))
}
