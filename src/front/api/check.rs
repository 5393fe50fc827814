//! A check in plain words: the descriptors of its short forms, the decision, and the answer in numbers. It knows
//! neither headers nor statuses of a transport.

#[cfg(test)]
mod tests;

use std::{borrow::Cow, time};

use crate::{
    front::{decider::Decider, escape},
    limit::{self, Algorithm, Code, Limit, Micros, Origin, SLIDING_LOG_MAX, WINDOW_MAX},
    limiter::{Decision, Snapshot, Status},
    rules::{RuleMatch, Rules},
};

use super::{
    Api, CheckRequest, CheckResponse, Descriptor, Entry, bounds,
    problem::{ApiError, InvalidField},
};

/// Descriptors of one check; with more of them, send several checks.
const DESCRIPTORS_MAX: usize = 256;

/// A check as the limiter gets it; it owns the text that [`ParsedCheck::to_request`] borrows.
#[derive(Clone, Debug, PartialEq)]
pub struct ParsedCheck {
    domain: String,
    descriptors: Vec<Descriptor>,
    hits: u32,
    /// The caller's own limit, by which the last descriptor is counted.
    caller_limit: Option<Limit>,
}

/// The answer, and what the headers need besides.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckAnswer {
    pub answer: CheckResponse,
    /// The limits that apply; the one that the answer reports is first.
    pub policies: Vec<QuotaPolicy>,
}

/// A limit and how much of it is left.
#[derive(Clone, Debug, PartialEq)]
pub struct QuotaPolicy {
    pub limit_id: String,
    pub requests: u32,
    pub window: Micros,
    pub remaining: u32,
    pub reset: Micros,
}

/// As [`ParsedCheck::of`], and counts a check that can't be read.
pub(super) fn read(api: &Api, snapshot: &Snapshot, request: CheckRequest) -> Result<ParsedCheck, ApiError> {
    ParsedCheck::of(api, snapshot, request).inspect_err(|_| api.limiter.metrics().invalid())
}

/// Bounded as Envoy's requests are: what can't wait for the store gets its limits' policies at once.
pub(super) async fn check(
    api: &Api,
    limit_request: &limit::Request<'_>,
    arrived: time::Instant,
) -> Result<CheckAnswer, ApiError> {
    let decider =
        Decider { limiter: &api.limiter, permits: &api.admission.store_permits, store_timeout: api.store_timeout };
    let decided = match decider.decide_now(limit_request, arrived) {
        Some(decided) => decided,
        None => decider.decide_later(limit_request, arrived, None).await,
    };
    Ok(answer(&decided?))
}

impl CheckRequest {
    /// Escapes text that looks like an escape: a client's text must never mean bytes that came from Envoy. For checks
    /// that come in as text; explanations, overrides and resets use the shown form.
    pub(crate) fn escaped(mut self) -> CheckRequest {
        let entries = self.descriptors.iter_mut().flat_map(|descriptor| &mut descriptor.entries);
        let short = [&mut self.user, &mut self.endpoint, &mut self.action].into_iter().flatten();
        let texts = entries.flat_map(|entry| [&mut entry.key, &mut entry.value]).chain(short).chain([&mut self.domain]);
        for text in texts {
            if let Cow::Owned(escaped) = escape::text(text) {
                *text = escaped;
            }
        }
        self
    }
}

impl ParsedCheck {
    /// Reads a check in any of its forms, against the shortcuts of its domain.
    pub fn of(api: &Api, snapshot: &Snapshot, request: CheckRequest) -> Result<ParsedCheck, ApiError> {
        let domain = api.domain(&request.domain, snapshot)?.to_owned();
        let own = caller_limit(&request, api.limiter.modes().algorithm)?;
        let hits = request.hits.unwrap_or(1);
        if !request.descriptors.is_empty() {
            full_form_only(&request)?;
            return Ok(ParsedCheck { domain, descriptors: request.descriptors, hits, caller_limit: None });
        }
        let forms = short_form(&domain, &snapshot.rules, &request)?;
        let Some(limit) = own else { return Ok(ParsedCheck { domain, descriptors: forms, hits, caller_limit: None }) };
        let last = forms.last().cloned().unwrap_or_default();
        // A limit of the caller's own needs no rule, so a missing one isn't reported as unmatched.
        let is_ruled = |form: &Descriptor| matches!(find(&snapshot.rules, &domain, form), RuleMatch::Rule { .. });
        let mut descriptors: Vec<Descriptor> = forms.into_iter().filter(is_ruled).collect();
        // A bucket drains at the rate of the limit that reads it. Another limit must not empty it, so it gets a bucket
        // of its own.
        let value = if limit.algorithm.has_burst() { format!("check/{}", limit.requests) } else { "check".into() };
        let marked = [Entry { key: String::new(), value }].into_iter().chain(last.entries);
        descriptors.push(Descriptor { entries: marked.collect(), hits: None });
        Ok(ParsedCheck { domain, descriptors, hits, caller_limit: Some(limit) })
    }

    /// The check as the limiter's request.
    pub fn to_request(&self) -> limit::Request<'_> {
        let looks = self.hits == 0;
        limit::Request {
            domain: &self.domain,
            descriptors: self.descriptors.iter().map(|descriptor| to_descriptor(descriptor, looks)).collect(),
            hits: i64::from(self.hits.max(1)),
            caller_limit: self.caller_limit.as_ref(),
            origin: Origin::Api,
        }
    }
}

fn to_descriptor(descriptor: &Descriptor, looks: bool) -> limit::Descriptor<'_> {
    let entries = descriptor.entries.iter().map(|entry| limit::Entry { key: &entry.key, value: &entry.value });
    let hits = descriptor.hits.map(i64::from).or(looks.then_some(0));
    limit::Descriptor { entries: entries.collect(), hits, limit: None }
}

fn find<'r>(rules: &'r Rules, domain: &str, descriptor: &Descriptor) -> RuleMatch<'r> {
    rules.find(domain, &to_descriptor(descriptor, false).entries)
}

/// A check with descriptors has nothing of the short forms.
fn full_form_only(request: &CheckRequest) -> Result<(), ApiError> {
    let short = [
        ("user", request.user.is_some()),
        ("endpoint", request.endpoint.is_some()),
        ("action", request.action.is_some()),
        ("limit", request.limit.is_some()),
        ("window_seconds", request.window_seconds.is_some()),
    ];
    let mut faults: Vec<InvalidField> = short
        .into_iter()
        .filter(|(_, is_there)| *is_there)
        .map(|(place, _)| InvalidField {
            place: place.into(),
            what: "it has no meaning beside `descriptors`".into(),
            hint: Some("send `user` and its kin, or `descriptors`".into()),
        })
        .collect();
    if request.descriptors.len() > DESCRIPTORS_MAX {
        faults.push(InvalidField {
            place: "descriptors".into(),
            what: format!("a check has at most {DESCRIPTORS_MAX}"),
            hint: Some("split the request".into()),
        });
    }
    // Descriptors beyond the bound are reported once, as too many.
    let within = request.descriptors.iter().take(DESCRIPTORS_MAX).enumerate();
    for (index, _) in within.filter(|(_, it)| it.entries.is_empty()) {
        faults.push(InvalidField {
            place: format!("descriptors[{index}].entries"),
            what: "a descriptor without entries meets no rule".into(),
            hint: Some("such as {\"user\": \"alice\"}".into()),
        });
    }
    if faults.is_empty() { Ok(()) } else { Err(ApiError::Invalid(faults)) }
}

/// The descriptors that a short form means in its domain.
fn short_form(domain: &str, rules: &Rules, request: &CheckRequest) -> Result<Vec<Descriptor>, ApiError> {
    for (place, text) in [("user", &request.user), ("endpoint", &request.endpoint), ("action", &request.action)] {
        if let Some(text) = text {
            bounds::check_filled(place, text)?;
        }
    }
    let Some(user) = &request.user else {
        return Err(ApiError::invalid("user", "the check names nobody", "send `user`, or `descriptors`"));
    };
    let index = rules.domain(domain).ok_or_else(|| ApiError::NotFound(format!("no rule file is for `{domain}`")))?;
    let shortcuts = rules.domains()[index.0 as usize].shortcuts();
    let (forms, second) = match (&request.endpoint, &request.action) {
        (None, None) => (&shortcuts.user, None),
        (Some(endpoint), None) => (&shortcuts.endpoint, Some(endpoint)),
        (None, Some(action)) => (&shortcuts.action, Some(action)),
        (Some(_), Some(_)) => {
            let what = "`endpoint` and `action` are different forms of a check";
            return Err(ApiError::invalid("action", what, "send one of them, or `descriptors`"));
        }
    };
    let values = || [user].into_iter().chain(second);
    let entries = |keys: &[Box<str>]| {
        keys.iter().zip(values()).map(|(key, value)| Entry { key: key.to_string(), value: value.clone() }).collect()
    };
    Ok(forms.iter().map(|keys| Descriptor { entries: entries(keys), hits: None }).collect())
}

/// The caller's own limit, counted as limits are that name no algorithm.
fn caller_limit(request: &CheckRequest, algorithm: Algorithm) -> Result<Option<Limit>, ApiError> {
    let (requests, seconds) = match (request.limit, request.window_seconds) {
        (None, None) => return Ok(None),
        (Some(requests), Some(seconds)) => (requests, seconds),
        (Some(_), None) => {
            return Err(ApiError::invalid("window_seconds", "a limit needs its window", "such as 60"));
        }
        (None, Some(_)) => return Err(ApiError::invalid("limit", "a window needs its limit", "such as 100")),
    };
    let micros = seconds * 1e6;
    // NaN is in no range.
    if !(1_000.0..=WINDOW_MAX.0 as f64).contains(&micros) {
        let what = format!("{seconds} seconds are no window");
        return Err(ApiError::invalid("window_seconds", what, "from 0.001 to ten years"));
    }
    if algorithm == Algorithm::SlidingLog && requests > SLIDING_LOG_MAX {
        let what = format!("a sliding_log, the default here, remembers every hit: at most {SLIDING_LOG_MAX}");
        return Err(ApiError::invalid("limit", what, "ask for less, or make a rule of it"));
    }
    Ok(Some(Limit::new(requests, Micros(micros.round() as u64), algorithm)))
}

pub(super) fn answer(decision: &Decision) -> CheckAnswer {
    let allowed = decision.overall == Code::Ok;
    let mut policies: Vec<QuotaPolicy> = Vec::new();
    for index in order(decision) {
        // A limit that several descriptors have is listed once, with its tightest counter, which comes first.
        if let Some(policy) = policy(decision, index).filter(|one| policies.iter().all(|p| p.limit_id != one.limit_id))
        {
            policies.push(policy);
        }
    }
    let seconds = |time: Micros| time.as_duration().as_secs_f64();
    let told = policies.first();
    let answer = CheckResponse {
        allowed,
        limit: told.map(|policy| policy.requests),
        window_seconds: told.map(|policy| seconds(policy.window)),
        remaining: told.map(|policy| policy.remaining),
        reset_seconds: told.map(|policy| seconds(policy.reset)),
        retry_after_seconds: told.filter(|_| !allowed).map(|policy| seconds(policy.reset)),
        limit_id: told.map(|policy| policy.limit_id.clone()).unwrap_or_default(),
        degraded: decision.failure_policy.map(|policy| policy.name().to_owned()).unwrap_or_default(),
    };
    CheckAnswer { answer, policies }
}

/// Positions of the descriptors that have limits: the refusing ones first if the request is denied, longest wait first,
/// and then the ones with the fewest hits remaining.
fn order(decision: &Decision) -> Vec<usize> {
    let denied = decision.overall == Code::OverLimit;
    let rank = |status: &Status| {
        let denies = denied && status.code == Code::OverLimit;
        let wait = if denies { status.reset } else { None };
        // Quotas decide together, and only where nothing else does.
        (!denies, denies && status.quota, std::cmp::Reverse(wait), status.remaining)
    };
    let mut positions: Vec<usize> =
        (0..decision.statuses.len()).filter(|index| decision.statuses[*index].limit.is_some()).collect();
    positions.sort_by_key(|index| rank(&decision.statuses[*index]));
    positions
}

fn policy(decision: &Decision, index: usize) -> Option<QuotaPolicy> {
    let status = &decision.statuses[index];
    let note = decision.notes.as_ref()?.descriptors.get(index)?;
    Some(QuotaPolicy {
        limit_id: note.limit_id.as_deref()?.to_owned(),
        requests: status.limit.as_ref()?.requests,
        window: note.window?,
        remaining: status.remaining,
        reset: status.reset?,
    })
}
