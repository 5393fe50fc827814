//! What changed of late, in one list: the reloads of this replica's rules, and what the audit has of overrides, switches
//! and resets. Knows nothing of gRPC or HTTP.

use super::{Api, ApiError, Change, ListChangesRequest, ListChangesResponse, overrides};
use crate::{
    clock,
    limit::{UnixMicros, moment},
    limiter::Snapshot,
    rules::{self, LimitChange},
    run_time::{
        fleet,
        overrides::{AuditEntry, OverridesError, Record},
        reloads::Reload,
        switches::{Switch, stored_id},
    },
};

/// Of these `domains` (`None` is all), newest first; `page_size` is 1 to 1,000.
pub(super) async fn list(
    api: &Api,
    snapshot: &Snapshot,
    request: &ListChangesRequest,
    domains: Option<Vec<&str>>,
) -> Result<ListChangesResponse, ApiError> {
    let run_time = overrides::run_time(api)?;
    let wall = run_time.overrides.wall(clock::now());
    let since = match &*request.since {
        "" => UnixMicros(0),
        text => {
            let wrong = |why| ApiError::invalid("since", why, "write it as `30m`, `4h` or `7d`");
            UnixMicros(wall.0.saturating_sub(rules::duration(text).map_err(wrong)?.0))
        }
    };
    let at_most = request.page_size as usize;
    let loaded = || snapshot.rules.domains().iter().map(|domain| domain.name()).collect();
    let audited = domains.clone().unwrap_or_else(loaded);
    // Reloads are told all the same: they are what there is to know while Redis is away.
    let (entries, partial) = match run_time.overrides.audit(&audited, None, at_most).await {
        Ok(entries) => (entries, String::new()),
        Err(OverridesError::Store(error)) => (Vec::new(), fleet::why_partial(&error)),
        Err(error) => return Err(error.into()),
    };
    let mut changes: Vec<(UnixMicros, Change)> = entries
        .into_iter()
        .filter(|(_, entry)| entry.at >= since)
        .map(|(domain, entry)| (entry.at, of_entry(&domain, entry)))
        .collect();
    for reload in run_time.reloads.since(since) {
        changes.extend(of_reload(&reload, domains.as_deref()).into_iter().map(|change| (reload.at, change)));
    }
    // A stable order: what one reload changed stays together.
    changes.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
    changes.truncate(at_most);
    Ok(ListChangesResponse { changes: changes.into_iter().map(|(_, change)| change).collect(), partial })
}

fn of_entry(domain: &str, entry: AuditEntry) -> Change {
    let words = |record: Option<Box<str>>| record.map(|record| in_words(&entry.target, &record)).unwrap_or_default();
    Change {
        at: moment::write(entry.at),
        action: entry.action.name().to_owned(),
        domain: domain.to_owned(),
        by: entry.token,
        reason: entry.reason,
        before: words(entry.before.clone()),
        after: words(entry.after.clone()),
        target: entry.target.clone(),
    }
}

/// What a stored record says.
fn in_words(target: &str, record: &str) -> String {
    if let Some(switch) = Switch::read(&stored_id(target), 0, record) {
        return format!("{} until {}", switch.mode, moment::write(switch.ends));
    }
    let Ok(record) = serde_json::from_str::<Record>(record) else { return String::new() };
    let matched = record.written["match"].to_string();
    let until = record.written["expires"].as_str().map(|end| format!(" until {end}")).unwrap_or_default();
    format!("{matched}: {}{until}", record.written["limit"])
}

/// The changes of these domains by a reload; where all may be seen, one that changed no limit is told as a whole.
fn of_reload(reload: &Reload, domains: Option<&[&str]>) -> Vec<Change> {
    let whole = |after: String| Change {
        at: moment::write(reload.at),
        action: "rules.reload".to_owned(),
        after,
        ..Change::default()
    };
    let of_limit = |change: &LimitChange| Change {
        domain: change.domain.to_string(),
        target: change.limit_id.to_string(),
        before: change.before.as_deref().unwrap_or_default().to_owned(),
        ..whole(match (&change.after, change.counts()) {
            (Some(after), Some(counts)) => format!("{after}, {counts}"),
            (after, _) => after.as_deref().unwrap_or_default().to_owned(),
        })
    };
    let is_meant = |change: &&LimitChange| domains.is_none_or(|domains| domains.contains(&&*change.domain));
    let mut changes: Vec<Change> = reload.changes.iter().filter(is_meant).map(of_limit).collect();
    if domains.is_none() && reload.more > 0 {
        changes.push(whole(format!("rules {} ({} further limits changed)", reload.hash, reload.more)));
    }
    if domains.is_none() && reload.changes.is_empty() {
        changes.push(whole(format!("rules {} (no limit changed)", reload.hash)));
    }
    changes
}
