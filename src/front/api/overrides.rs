//! Run-time overrides: reading, writing, listing them for the calls. Knows nothing of gRPC or HTTP.

use std::{borrow::Cow, sync::Arc};

use super::{
    Api, ApiError, Caller, DeleteOverrideRequest, DeleteOverrideResponse, GetOverrideRequest, LimitNumbers,
    ListOverridesRequest, ListOverridesResponse, Override, OverrideSpec, SetOverrideRequest, SetOverrideResponse,
    TouchedRule, bounds, invalid_fields, page,
};
use crate::{
    clock,
    limit::{EnforcedShare, Micros, UnixMicros, moment},
    limiter::Snapshot,
    rules::{self, RuleLimit, rows, star},
    run_time::{
        RunTime,
        overrides::{ChangeRequest, Condition, Filter, OverridesError, RECORD_MAX, Record, ResolvedOverride},
    },
    store::StoreError,
};

/// Creates or replaces. The caller may, the domain is loaded, and ids and sizes are within bounds.
pub(super) async fn set(
    api: &Api,
    snapshot: &Snapshot,
    caller: &Caller,
    request: SetOverrideRequest,
) -> Result<SetOverrideResponse, ApiError> {
    let run_time = run_time(api)?;
    let SetOverrideRequest { domain, id, spec, dry_run, if_match, create_only } = request;
    let condition = condition(&if_match, create_only)?;
    let now = clock::now();
    let wall = run_time.overrides.wall(now);
    let spec = spec.unwrap_or_default();
    let reason = spec.reason.clone();
    let record = record(snapshot, &domain, spec, caller, wall)?;
    if dry_run {
        let there = run_time.overrides.get(&domain, &id).map(|row| row.version);
        if !condition.holds(there) {
            return Err(OverridesError::Changed { version: there }.into());
        }
        let row = run_time.overrides.read(&domain, &id, there.unwrap_or_default(), &record);
        let touched = touched(snapshot, run_time, &domain, &row, wall);
        let saved = touched.of(shown(run_time, &domain, &row, wall));
        return Ok(SetOverrideResponse { saved: Some(saved), created: there.is_none() });
    }
    let change = ChangeRequest {
        domain: &domain,
        id: &id,
        record: Some(&record),
        condition,
        token: &caller.name,
        reason: &reason,
    };
    // What holds until now is only known before.
    let touched = touched(snapshot, run_time, &domain, &run_time.overrides.read(&domain, &id, 0, &record), wall);
    let written = run_time.overrides.write(&change, now).await?;
    let row = run_time.overrides.read(&domain, &id, written.version, &record);
    let saved = touched.of(shown(run_time, &domain, &row, wall));
    Ok(SetOverrideResponse { saved: Some(saved), created: written.before.is_none() })
}

pub(super) async fn get(api: &Api, _snapshot: &Snapshot, request: GetOverrideRequest) -> Result<Override, ApiError> {
    let run_time = run_time(api)?;
    let row = run_time.overrides.get(&request.domain, &request.id).ok_or_else(|| missing(&request.id))?;
    Ok(shown(run_time, &request.domain, &row, run_time.overrides.wall(clock::now())))
}

/// `page_size` is 1 to 1,000.
pub(super) async fn list(
    api: &Api,
    _snapshot: &Snapshot,
    request: ListOverridesRequest,
) -> Result<ListOverridesResponse, ApiError> {
    let run_time = run_time(api)?;
    let after = page::read_token(&request.page_token)?;
    // A prefix may end within what is written as two characters.
    let prefix = star::read(&request.value_prefix).unwrap_or(Cow::Borrowed(&request.value_prefix));
    let filter = Filter { key: &request.key, value_prefix: &prefix };
    let page = run_time.overrides.list(&request.domain, filter, after.as_deref(), request.page_size as usize);
    let wall = run_time.overrides.wall(clock::now());
    Ok(ListOverridesResponse {
        overrides: page.rows.iter().map(|row| shown(run_time, &request.domain, row, wall)).collect(),
        next_page_token: page.next.as_deref().map(page::write_token).unwrap_or_default(),
    })
}

pub(super) async fn delete(
    api: &Api,
    _snapshot: &Snapshot,
    caller: &Caller,
    request: DeleteOverrideRequest,
) -> Result<DeleteOverrideResponse, ApiError> {
    let run_time = run_time(api)?;
    let DeleteOverrideRequest { domain, id, dry_run, if_match, reason } = request;
    let condition = condition(&if_match, false)?;
    let now = clock::now();
    let wall = run_time.overrides.wall(now);
    let there: Option<Arc<ResolvedOverride>> = run_time.overrides.get(&domain, &id);
    if dry_run {
        let row = there.ok_or_else(|| missing(&id))?;
        if !condition.holds(Some(row.version)) {
            return Err(OverridesError::Changed { version: Some(row.version) }.into());
        }
        return Ok(DeleteOverrideResponse { deleted: Some(shown(run_time, &domain, &row, wall)) });
    }
    let change =
        ChangeRequest { domain: &domain, id: &id, record: None, condition, token: &caller.name, reason: &reason };
    let written = match run_time.overrides.write(&change, now).await {
        Err(OverridesError::Missing) => return Err(missing(&id)),
        written => written?,
    };
    let version = there.map_or(0, |row| row.version);
    let row = run_time.overrides.read(&domain, &id, version, written.before.as_deref().unwrap_or_default());
    Ok(DeleteOverrideResponse { deleted: Some(shown(run_time, &domain, &row, wall)) })
}

/// What can be changed while the service runs; a library without it answers so.
pub(super) fn run_time(api: &Api) -> Result<&RunTime, ApiError> {
    let hint = "this service keeps nothing that could be changed at run time";
    api.limiter.run_time().ok_or_else(|| ApiError::Unimplemented(hint.into()))
}

fn missing(id: &str) -> ApiError {
    ApiError::NotFound(format!("there is no override `{}`", bounds::shown(id)))
}

fn condition(if_match: &str, create_only: bool) -> Result<Condition, ApiError> {
    Ok(match (if_match, create_only) {
        ("", false) => Condition::None,
        ("", true) => Condition::Absent,
        (_, true) => {
            let what = "an override can't have an etag and not be there yet";
            return Err(ApiError::invalid("if_match", what, "send one of both"));
        }
        ("*", false) => Condition::Exists,
        // What is no version is no version of this override.
        (etag, false) => Condition::Version(etag.parse().unwrap_or(u64::MAX)),
    })
}

/// What is stored of a spec, checked as a row of a rule file is.
fn record(
    snapshot: &Snapshot,
    domain: &str,
    mut spec: OverrideSpec,
    caller: &Caller,
    wall: UnixMicros,
) -> Result<String, ApiError> {
    if !spec.r#for.is_empty() {
        let lasts = rules::duration(&spec.r#for);
        let Micros(lasts) = lasts.map_err(|why| ApiError::invalid("for", why, "write it as `30m`, `4h` or `7d`"))?;
        spec.expires = moment::write(UnixMicros(wall.0.saturating_add(lasts)));
        spec.r#for.clear();
    }
    if spec.limit.iter().any(|limit| limit.enforce.is_some() && !limit.enforce_share.is_empty()) {
        let what = "`enforce` and `enforce_share` both say whom the limit denies";
        return Err(ApiError::invalid("limit.enforce_share", what, "send one of them"));
    }
    let written = serde_json::to_value(&spec).map_err(|error| ApiError::Unavailable(error.to_string()))?;
    let loaded = snapshot.rules.domain(domain);
    let rules = loaded.map(|index| snapshot.rules.of(index)).ok_or_else(|| ApiError::NotFound(domain.to_owned()))?;
    let row = rules.read_override(&written).map_err(|problems| ApiError::Invalid(invalid_fields(&problems)))?;
    if let Some(expires) = row.expires.filter(|expires| *expires <= wall) {
        let what = format!("`{}` is past: it would never have an effect", moment::write(expires));
        return Err(ApiError::invalid("expires", what, "send a later moment, or `for`"));
    }
    let record = Record::new(stored(spec, written), &row, &caller.name, wall.0).write();
    if record.len() > RECORD_MAX {
        let what = format!("it takes {} bytes, and may take {RECORD_MAX}", record.len());
        return Err(ApiError::invalid("override", what, "shorten its values or its reason"));
    }
    Ok(record)
}

/// Values are stored as they are meant, as they were before stars were written with a backslash: so replicas of before
/// read them too, and what they stored is read the same.
fn stored(mut spec: OverrideSpec, written: serde_json::Value) -> serde_json::Value {
    let mut has_stars = false;
    for entry in &mut spec.r#match {
        if let Some(Cow::Owned(value)) = star::read(&entry.value) {
            (entry.value, has_stars) = (value, true);
        }
    }
    // Otherwise it is the same.
    let stored = has_stars.then(|| serde_json::to_value(&spec).ok()).flatten();
    stored.unwrap_or(written)
}

/// The rules that an override is for, with what held there.
struct Touched(Vec<TouchedRule>, usize);

/// As many are told.
const TOUCHED_MAX: usize = 100;

impl Touched {
    fn of(self, saved: Override) -> Override {
        let Touched(touches, left_out) = self;
        let touches_left_out = u32::try_from(left_out).ok().filter(|rules| *rules > 0);
        Override { touches, touches_left_out, ..saved }
    }
}

fn touched(snapshot: &Snapshot, run_time: &RunTime, domain: &str, row: &ResolvedOverride, wall: UnixMicros) -> Touched {
    let (Some(index), Some(matches)) = (snapshot.rules.domain(domain), &row.matches) else {
        return Touched(Vec::new(), 0);
    };
    let rules = snapshot.rules.touched(index, &matches.shape, &matches.values);
    let loaded = &snapshot.rules.domains()[index.0 as usize];
    let view = run_time.overrides.view();
    let before = |it: &rows::TouchedRule<'_>| -> Vec<LimitNumbers> {
        let of_override = it.descriptor.as_ref().and_then(|entries| {
            let set = view
                .domain(domain)
                .and_then(|changes| changes.overrides.as_ref()?.find(loaded, it.rule, entries, || wall));
            let set = set.map(|(row, _)| row.limits.limits().iter().map(numbers).collect());
            let in_file = || snapshot.rules.override_of(index, it.rule, entries, || wall);
            set.or_else(|| in_file().map(|(row, _)| row.limits().limits().iter().map(numbers).collect()))
        });
        of_override.unwrap_or_else(|| it.rule.limits.iter().map(numbers).collect())
    };
    let touches = rules.iter().take(TOUCHED_MAX);
    let touches = touches.map(|it| TouchedRule { rule: it.rule.id.to_string(), before: before(it) }).collect();
    Touched(touches, rules.len().saturating_sub(TOUCHED_MAX))
}

fn shown(run_time: &RunTime, domain: &str, row: &ResolvedOverride, wall: UnixMicros) -> Override {
    let record: Option<Record> = serde_json::from_str(&row.record).ok();
    let mut warnings: Vec<String> = row.warning.iter().map(ToString::to_string).collect();
    if row.is_expired(wall) {
        warnings.push("it has ended, and has no effect any more".into());
    }
    if !run_time.overrides.is_kept() {
        warnings.push("it is kept in memory only, and ends with this process: --state-dir keeps it".into());
    }
    let is_read = row.matches.is_some();
    Override {
        domain: domain.to_owned(),
        id: row.id.to_string(),
        spec: record.as_ref().and_then(spec),
        etag: row.version.to_string(),
        limits: row.limits.limits().iter().map(numbers).collect(),
        unlimited: is_read && row.limits.limits().is_empty(),
        updated_at: record.as_ref().map(|record| moment::write(UnixMicros(record.at))).unwrap_or_default(),
        updated_by: record.map(|record| record.by).unwrap_or_default(),
        warnings,
        touches: Vec::new(),
        touches_left_out: None,
    }
}

/// What was stored, as it is written.
pub(super) fn spec(record: &Record) -> Option<OverrideSpec> {
    let mut spec: OverrideSpec = serde_json::from_value(record.written.clone()).ok()?;
    for entry in &mut spec.r#match {
        if let Cow::Owned(value) = star::write(&entry.value) {
            entry.value = value;
        }
    }
    Some(spec)
}

pub(super) fn numbers(limit: &RuleLimit) -> LimitNumbers {
    let numbers = &limit.limit;
    LimitNumbers {
        requests: numbers.requests,
        window_seconds: numbers.window.0 as f64 / 1e6,
        algorithm: numbers.algorithm.name().to_owned(),
        burst: numbers.algorithm.has_burst().then_some(numbers.burst),
        enforce: !limit.enforce.is_none(),
        enforce_share: share_text(limit.enforce),
        name: limit.name.as_deref().unwrap_or_default().to_owned(),
        tier: limit.tier.as_deref().unwrap_or_default().to_owned(),
    }
}

/// As [`LimitNumbers::enforce_share`]: empty where all clients are denied, or nobody is.
pub(super) fn share_text(share: EnforcedShare) -> String {
    if share.is_partial() { share.to_string() } else { String::new() }
}

impl From<OverridesError> for ApiError {
    fn from(error: OverridesError) -> ApiError {
        let said = error.to_string();
        match error {
            OverridesError::Changed { .. } => ApiError::Conflict(said),
            OverridesError::Missing => ApiError::NotFound(said),
            OverridesError::Full => ApiError::Exhausted(said),
            OverridesError::Restoring => ApiError::Unavailable(said),
            OverridesError::Store(StoreError::Timeout(_)) => {
                let what =
                    "Redis gave no answer, and refuses what it comes to later: look whether it was done, and try again";
                ApiError::Unavailable(what.into())
            }
            OverridesError::Store(StoreError::Refused(why)) => {
                tracing::error!(error = why, "Redis refused to write a run-time override");
                ApiError::Unavailable("Redis refused: nothing was changed, and the log says why".into())
            }
            OverridesError::Store(_) => {
                ApiError::Unavailable("Redis can't be reached: nothing was changed, try again".into())
            }
            OverridesError::Disk(why) => {
                tracing::error!(error = why, "can't write a run-time override to the state directory");
                ApiError::Unavailable("it can't be kept, so nothing was changed; the log says why".into())
            }
        }
    }
}
