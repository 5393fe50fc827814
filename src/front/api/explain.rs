//! Explains how a check would be answered: the limiter's explanation in words and numbers. It knows nothing of gRPC or
//! HTTP.

use std::time::Duration;

use super::{
    self as api, Api, ApiError, CheckRequest, Entry, ExplainResponse, ExplainedCounter, ExplainedDescriptor,
    ExplainedOverride, HeldHits, HeldPart, LimitNumbers, LimitSwitch, MatchStep, ParsedCheck, check, overrides,
    switches,
};
use crate::{
    algorithm::HitGroup,
    clock,
    limit::{Descriptor, Limit, Micros, Request, UnixMicros, moment},
    limiter::{
        Applies, ContentsAt, CounterExplanation, DecideError, DescriptorExplanation, Explanation, Limiter,
        LocalCounter, OverrideExplanation, Snapshot, explain::words,
    },
    rules::{RuleMatch, Rules, StepMatch, WalkStep, rows::Standing},
    store::{Role, StoreError},
};

/// Explains a check. The caller may do so, and the domain is loaded. [`super::ParsedCheck`] makes the limiter's request of
/// it.
pub(super) async fn explain(
    api: &Api,
    snapshot: &Snapshot,
    request: CheckRequest,
) -> Result<ExplainResponse, ApiError> {
    let asked = ParsedCheck::of(api, snapshot, request)?;
    let (words, now) = (asked.to_request(), clock::now());
    // Counts toward the bound of checks, so that explanations don't crowd out decisions. The memory store answers at
    // once.
    let place = api.admission.store_permits.acquire();
    if place.is_none() && api.limiter.is_remote() {
        let look = api.limiter.explain_without_store(&words, StoreError::Overloaded, now).await?;
        return Ok(to_response(&api.limiter, &words, look));
    }
    Ok(explain_request(&api.limiter, &words, now, api.store_timeout).await?)
}

/// The explanation for all callers: those of the API, the admin listener, and the command line with rules of its own.
pub async fn explain_request(
    limiter: &Limiter,
    request: &Request<'_>,
    now: UnixMicros,
    patience: Duration,
) -> Result<ExplainResponse, DecideError> {
    let deadline = (clock::instant() + patience).into();
    let look = limiter.explain(request, now, deadline).await?;
    Ok(to_response(limiter, request, look))
}

fn to_response(limiter: &Limiter, request: &Request<'_>, look: Explanation) -> ExplainResponse {
    let descriptors = request.descriptors.iter().zip(&look.descriptors);
    ExplainResponse {
        descriptors: descriptors.map(|(asked, found)| descriptor(request.domain, asked, found, &look)).collect(),
        rules_version: u32::try_from(look.snapshot.version).unwrap_or(u32::MAX),
        store: limiter.store_name().to_owned(),
        store_error: look.store_error.as_ref().map(ToString::to_string).unwrap_or_default(),
        answer: look.decision.map(|decision| check::answer(&decision).answer),
    }
}

fn descriptor(
    domain: &str,
    asked: &Descriptor<'_>,
    found: &DescriptorExplanation,
    look: &Explanation,
) -> ExplainedDescriptor {
    let rules = &look.snapshot.rules;
    let (met, steps) = rules.explain(domain, &asked.entries);
    let rule = if let RuleMatch::Rule { domain, rule } = met { Some((domain, rule)) } else { None };
    let candidates =
        rule.map(|(domain, rule)| rules.explain_override(domain, rule, &asked.entries, look.wall)).unwrap_or_default();
    // A run-time override beats all files, so no row in a file wins.
    let is_from_file = found.overridden.as_ref().is_some_and(|winner| !winner.location.is_empty());
    let passed_over =
        candidates.iter().filter(|it| !(is_from_file && it.standing == Standing::Wins)).map(|candidate| {
            let why = match found.applies {
                _ if candidate.standing == Standing::Expired => standing(Standing::Expired),
                Applies::Requested => "the limit that came with the request comes first",
                _ => standing(candidate.standing),
            };
            ExplainedOverride { why: why.to_owned(), ..overriding(&OverrideExplanation::of(candidate.row)) }
        });
    ExplainedDescriptor {
        entries: entries(asked.entries.iter().map(|entry| (entry.key, entry.value))),
        steps: steps.iter().map(step).collect(),
        rule: rule.map(|(_, rule)| rule.id.to_string()).unwrap_or_default(),
        place: rule.map(|(_, rule)| format!("{}:{}", rule.file.display(), rule.line)).unwrap_or_default(),
        verdict: words::verdict(found, domain, met, &steps),
        r#override: found.overridden.as_ref().map(overriding),
        counters: found.counters.iter().map(counter).collect(),
        passed_over: passed_over.collect(),
        switches: switched(found, rules, domain),
    }
}

/// Each switch once: one of a rule or a domain may be for several limits.
fn switched(found: &DescriptorExplanation, rules: &Rules, domain: &str) -> Vec<LimitSwitch> {
    let Some(index) = rules.domain(domain) else { return Vec::new() };
    let mut shown: Vec<LimitSwitch> = Vec::new();
    for (_, switch) in &found.switched {
        let one = switches::shown(rules.of(index), switch, false);
        if !shown.contains(&one) {
            shown.push(one);
        }
    }
    shown
}

fn standing(standing: Standing) -> &'static str {
    match standing {
        Standing::Wins => "an override that was set at run time comes first",
        Standing::Expired => "it has ended",
        Standing::FewerKeys => "another names more keys",
        Standing::LaterKey => "another names as many keys, and one further left",
        Standing::NotOfTheRule => "another belongs to the rule, this one to the domain",
        Standing::EarlierPlace => "another matches the same, in a rule file or in a file that is named later",
    }
}

fn overriding(of: &OverrideExplanation) -> ExplainedOverride {
    ExplainedOverride {
        source: if of.id.is_empty() { "file" } else { "run_time" }.to_owned(),
        id: of.id.clone(),
        r#match: entries(of.matches.iter().map(|(key, value)| (&**key, &**value))),
        place: of.location.clone(),
        expires: of.expires.map(moment::write).unwrap_or_default(),
        reason: of.reason.clone(),
        owner: of.owner.clone(),
        warning: of.warning.clone(),
        why: String::new(),
    }
}

fn entries<'e>(pairs: impl Iterator<Item = (&'e str, &'e str)>) -> Vec<Entry> {
    pairs.map(|(key, value)| Entry { key: key.to_owned(), value: value.to_owned() }).collect()
}

fn step(step: &WalkStep<'_>) -> MatchStep {
    let (how, pattern) = match &step.how {
        StepMatch::Exact => ("exact", ""),
        StepMatch::Pattern(pattern) => ("pattern", &**pattern),
        StepMatch::KeyOnly => ("key_only", ""),
        StepMatch::UnknownKey => ("unknown_key", ""),
        StepMatch::UnknownValue => ("unknown_value", ""),
        StepMatch::TooDeep => ("too_deep", ""),
    };
    MatchStep {
        key: step.entry.key.to_owned(),
        value: step.entry.value.to_owned(),
        how: how.to_owned(),
        pattern: pattern.to_owned(),
    }
}

fn counter(counter: &CounterExplanation) -> ExplainedCounter {
    let seconds = |wait: Micros| wait.as_duration().as_secs_f64();
    let Limit { requests, window, algorithm, burst, .. } = counter.limit;
    ExplainedCounter {
        limit_id: counter.limit_id.to_string(),
        limit: Some(LimitNumbers {
            requests,
            window_seconds: seconds(window),
            algorithm: algorithm.name().to_owned(),
            burst: algorithm.has_burst().then_some(burst),
            enforce: !counter.enforce.is_none(),
            enforce_share: overrides::share_text(counter.enforce),
            name: counter.name.as_deref().unwrap_or_default().to_owned(),
            tier: counter.tier.as_deref().unwrap_or_default().to_owned(),
        }),
        key: counter.key.clone(),
        admits: counter.reading.map(|reading| reading.admitted),
        remaining: counter.reading.map(|reading| reading.remaining.min(u64::from(u32::MAX)) as u32),
        reset_seconds: counter.reading.map(|reading| seconds(reading.reset)),
        role: role(counter.role).to_owned(),
        on_store_failure: counter.on_store_failure.name().to_owned(),
        holds: counter.contents.as_ref().map(holds),
        refused_hits: counter.count_denied.name().to_owned(),
        budget: counter.is_budget(),
        budget_since: counter.budget_since.map(moment::write).unwrap_or_default(),
        local: counter.local.as_ref().map(local),
        part: counter.part.map(|part| u32::from(part.number())),
        deferred: Some(counter.deferred).filter(|hits| *hits > 0),
    }
}

fn local(LocalCounter { share, replicas, reading }: &LocalCounter) -> api::LocalCounter {
    api::LocalCounter {
        requests: share.requests,
        burst: share.algorithm.has_burst().then_some(share.burst),
        replicas: *replicas,
        admits: reading.admitted,
        remaining: reading.remaining.min(u64::from(u32::MAX)) as u32,
        reset_seconds: reading.reset.as_duration().as_secs_f64(),
    }
}

fn holds(ContentsAt { contents: held, at }: &ContentsAt) -> HeldHits {
    let part = |part: &HitGroup| HeldPart {
        hits: part.hits,
        since: moment::write(part.since),
        until: moment::write(part.until),
    };
    HeldHits {
        hits: held.hits,
        at: moment::write(*at),
        until: held.until.map(moment::write).unwrap_or_default(),
        parts: held.groups.iter().map(part).collect(),
        left_out: u32::try_from(held.omitted).ok().filter(|entries| *entries > 0),
    }
}

fn role(role: Role) -> &'static str {
    match role {
        Role::Enforced => "enforced",
        Role::Quota => "quota",
        Role::Shadow => "shadow",
    }
}
