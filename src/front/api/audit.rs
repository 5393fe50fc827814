//! Lists the audit. It knows nothing of gRPC or HTTP.

use super::{
    Api, ApiError, AuditEntry, ListAuditRequest, ListAuditResponse, OverrideSpec, overrides,
    page::{bad_token, read_token, write_token},
};
use crate::{limit::moment, run_time::overrides as run_time};

/// Of these `domains` (`None` is all), newest first; `page_size` is 1 to 1,000.
pub(super) async fn list(
    api: &Api,
    request: &ListAuditRequest,
    domains: Option<Vec<&str>>,
) -> Result<ListAuditResponse, ApiError> {
    let kept = &overrides::run_time(api)?.overrides;
    let snapshot = api.limiter.snapshot();
    let loaded = || snapshot.rules.domains().iter().map(|domain| domain.name()).collect();
    let domains: Vec<&str> = domains.unwrap_or_else(loaded);
    let last = read_token(&request.page_token)?;
    // The id of the last entry of the page before, and its domain, which may hold anything.
    let before = match last.as_deref().map(|last| last.split_once(' ')) {
        None => None,
        Some(Some(place)) => Some(place),
        Some(None) => return Err(bad_token()),
    };
    let at_most = request.page_size as usize;
    let entries = kept.audit(&domains, before, at_most).await?;
    let next = entries.last().filter(|_| entries.len() == at_most);
    let next_page_token =
        next.map(|(domain, entry)| write_token(&format!("{} {domain}", entry.id))).unwrap_or_default();
    Ok(ListAuditResponse { entries: entries.into_iter().map(shown).collect(), next_page_token })
}

fn shown((domain, entry): (Box<str>, run_time::AuditEntry)) -> AuditEntry {
    let spec =
        |record: Option<Box<str>>| -> Option<OverrideSpec> { overrides::spec(&serde_json::from_str(&record?).ok()?) };
    AuditEntry {
        id: entry.id,
        at: moment::write(entry.at),
        token: entry.token,
        action: entry.action.name().to_owned(),
        domain: domain.into(),
        target: entry.target,
        before: spec(entry.before),
        after: spec(entry.after),
        reason: entry.reason,
    }
}
