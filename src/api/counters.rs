//! Counters forgotten on demand. Knows nothing of gRPC or HTTP.

use super::{Api, ApiError, Caller, CounterReset, ResetCounterRequest, ResetCounterResponse, overrides};
use crate::{
    clock,
    limit::{Descriptor, Entry, Request},
    limiter::Snapshot,
};

/// The caller may, the domain is loaded, and the entries are within bounds.
pub(super) async fn reset(
    api: &Api,
    _snapshot: &Snapshot,
    caller: &Caller,
    request: ResetCounterRequest,
) -> Result<ResetCounterResponse, ApiError> {
    let run_time = overrides::run_time(api)?;
    let ResetCounterRequest { domain, entries, limit_id, dry_run, reason } = request;
    let named = entries.iter().map(|entry| Entry { key: &entry.key, value: &entry.value });
    let descriptor = Descriptor { entries: named.collect(), ..Descriptor::default() };
    let asked =
        Request { domain: &domain, descriptors: [descriptor].into_iter().collect(), hits: 1, ..Request::default() };
    let only = Some(&*limit_id).filter(|id| !id.is_empty());
    let now = clock::now();
    let counters = api.limiter.reset(run_time, &asked, (only, dry_run), now).await?;
    if counters.is_empty() {
        let target = target(&entries);
        return Err(ApiError::NotFound(match only {
            Some(id) => format!("{target} is not counted by a limit `{id}`"),
            None => format!("no limit counts {target}"),
        }));
    }
    if !dry_run {
        run_time.overrides.note_reset(&domain, &target(&entries), (&caller.name, &reason), now).await?;
    }
    let shown = |counter: crate::limiter::ResetCounter| CounterReset {
        limit_id: counter.limit_id.to_string(),
        key: counter.key,
    };
    Ok(ResetCounterResponse { counters: counters.into_iter().map(shown).collect() })
}

/// `(user=alice)(endpoint=/login)`.
fn target(entries: &[super::Entry]) -> String {
    entries.iter().map(|entry| format!("({}={})", entry.key, entry.value)).collect()
}
