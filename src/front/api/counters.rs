//! Resets counters on demand. It knows nothing of gRPC or HTTP.

use super::{
    Api, ApiError, Caller, CheckRequest, CounterReset, Descriptor, ParsedCheck, ResetCounterRequest,
    ResetCounterResponse, bounds, overrides,
};
use crate::{
    clock,
    limiter::{ResetCounter, Snapshot},
    run_time::reset::Author,
};

/// Resets counters. The caller may do so, and the domain is loaded.
pub(super) async fn reset(
    api: &Api,
    snapshot: &Snapshot,
    caller: &Caller,
    request: ResetCounterRequest,
) -> Result<ResetCounterResponse, ApiError> {
    bounds::check_words("reason", &request.reason)?;
    let run_time = overrides::run_time(api)?;
    let asked = ParsedCheck::of(api, snapshot, counted(&request)?)?;
    let target = target(&request);
    let only = Some(&*request.limit_id).filter(|id| !id.is_empty());
    let author = Author { token: &caller.name, target: &target, reason: &request.reason };
    let author = Some(author).filter(|_| !request.dry_run);
    let counters = api.limiter.reset(run_time, &asked.to_request(), (only, author), clock::now()).await?;
    if counters.is_empty() {
        return Err(ApiError::NotFound(match only {
            Some(id) => format!("{target} is not counted by a limit `{}`", bounds::shown(id)),
            None => format!("no limit counts {target}"),
        }));
    }
    let shown = |counter: ResetCounter| CounterReset { limit_id: counter.limit_id.to_string(), key: counter.key };
    Ok(ResetCounterResponse { counters: counters.into_iter().map(shown).collect() })
}

/// The check whose counters are reset.
fn counted(request: &ResetCounterRequest) -> Result<CheckRequest, ApiError> {
    let ResetCounterRequest { domain, entries, user, endpoint, action, limit, window_seconds, .. } = request.clone();
    let check = CheckRequest { domain, user, endpoint, action, limit, window_seconds, ..CheckRequest::default() };
    let is_short = check != CheckRequest { domain: check.domain.clone(), ..CheckRequest::default() };
    if is_short && entries.is_empty() {
        return Ok(check);
    }
    if is_short {
        let what = "`entries` and the short forms of a check both say what is counted";
        return Err(ApiError::invalid("entries", what, "send `entries`, or `user` and its kin"));
    }
    bounds::check_entries("entries", &entries)?;
    Ok(CheckRequest { descriptors: vec![Descriptor { entries, hits: None }], ..check })
}

/// `(user=alice)(endpoint=/login)`.
fn target(request: &ResetCounterRequest) -> String {
    let entries = request.entries.iter().map(|entry| (&*entry.key, entry.value.clone()));
    let short = [
        ("user", request.user.clone()),
        ("endpoint", request.endpoint.clone()),
        ("action", request.action.clone()),
        ("limit", request.limit.map(|limit| limit.to_string())),
        ("window_seconds", request.window_seconds.map(|seconds| seconds.to_string())),
    ];
    let short = short.into_iter().filter_map(|(name, value)| Some((name, value?)));
    entries.chain(short).map(|(key, value)| format!("({key}={value})")).collect()
}
