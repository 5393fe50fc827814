//! The line of a decision, as JSON: what was asked, what each limit said, and which of them the answer reports. Its fields
//! are those of the dynamic metadata where that has them, and of what `tollgate replay` reads.

use std::borrow::Cow;

use serde::Serialize;

use super::{Decided, Outcome, Refused};
use crate::{
    limit::{Code, Descriptor, FailurePolicy, Origin},
    limiter::{
        judge,
        notes::overridden,
        plan::{AppliedOverride, PlannedDescriptor},
        top::cut_to,
    },
    metrics::requested_id,
    privacy::Privacy,
    rules::Rule,
    visible,
};

/// Longer keys and values are cut.
const TEXT_BYTES_MAX: usize = 512;

/// Entries of all descriptors of one line together; descriptors beyond them are counted.
const ENTRIES_MAX: usize = 64;

#[derive(Serialize)]
struct DecisionLine<'a> {
    replica: &'a str,
    /// Seconds since the epoch.
    t: f64,
    domain: Cow<'a, str>,
    descriptors: Vec<DescriptorLine<'a>>,
    /// Descriptors that aren't shown.
    #[serde(skip_serializing_if = "is_zero")]
    descriptors_left_out: usize,
    hits: i64,
    origin: &'static str,
    code: &'static str,
    /// The limit that the answer reports.
    #[serde(skip_serializing_if = "Option::is_none")]
    limit_id: Option<String>,
    /// The same, if it denied the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    denied_by: Option<String>,
    #[serde(rename = "override", skip_serializing_if = "Option::is_none")]
    overridden: Option<String>,
    /// The failure policy that answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    degraded: Option<&'static str>,
    rules_version: u64,
}

#[derive(Serialize)]
struct DescriptorLine<'a> {
    entries: Vec<EntryLine<'a>>,
    /// Its own cost; else the request's.
    #[serde(skip_serializing_if = "Option::is_none")]
    hits: Option<i64>,
    /// The limit that it brings itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<OwnLimit>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    unlimited: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    limits: Vec<LimitLine>,
}

#[derive(Serialize)]
struct EntryLine<'a> {
    key: Cow<'a, str>,
    value: Cow<'a, str>,
}

#[derive(Serialize)]
struct OwnLimit {
    requests_per_unit: u32,
    unit: &'static str,
}

#[derive(Serialize)]
struct LimitLine {
    limit_id: String,
    code: &'static str,
    /// Whether its refusal doesn't count.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    shadow: bool,
    requests: u32,
    /// In seconds.
    window: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    remaining: Option<u64>,
    /// In seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    reset: Option<f64>,
    /// The failure policy that answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    degraded: Option<&'static str>,
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}

/// The line, without a line break.
pub(super) fn encode(decided: &Decided<'_, '_, '_>, replica: &str, privacy: &Privacy) -> String {
    let request = decided.request;
    let shown = request.descriptors.iter().enumerate().take(shown_descriptors(&request.descriptors));
    let descriptors: Vec<DescriptorLine<'_>> =
        shown.map(|(place, descriptor)| descriptor_line(decided, place, descriptor, privacy)).collect();
    let decision = decided.outcome.map(|outcome| outcome.decision);
    let reported = decision.and_then(|decision| decision.reported());
    let limit_id = reported.and_then(|place| reported_limit(decided, place));
    let is_denied = decision.is_some_and(|decision| decision.overall == Code::OverLimit);
    let line = DecisionLine {
        replica,
        t: decided.at.0 as f64 / 1e6,
        domain: cut_to(request.domain, TEXT_BYTES_MAX),
        descriptors_left_out: request.descriptors.len() - descriptors.len(),
        descriptors,
        hits: request.hits.max(1),
        origin: origin(request.origin),
        code: code(decision),
        denied_by: limit_id.clone().filter(|_| is_denied),
        limit_id,
        overridden: reported.or(Some(0)).and_then(|place| override_of(decided, place, privacy)),
        degraded: match decision {
            Some(decision) => decision.failure_policy.map(FailurePolicy::name),
            None => Some(FailurePolicy::Error.name()),
        },
        rules_version: decided.rules_version,
    };
    let text = serde_json::to_string(&line).expect("plain fields have a JSON form");
    // Clients' words, which somebody will look at on a terminal.
    match visible::json(&text) {
        Cow::Borrowed(_) => text,
        Cow::Owned(shown) => shown,
    }
}

/// How many of the first descriptors have at most [`ENTRIES_MAX`] entries together.
fn shown_descriptors(descriptors: &[Descriptor<'_>]) -> usize {
    let counts = descriptors.iter().scan(0, |entries, descriptor| {
        *entries += descriptor.entries.len().max(1);
        Some(*entries)
    });
    counts.take_while(|entries| *entries <= ENTRIES_MAX).count()
}

fn code(decision: Option<&super::Decision>) -> &'static str {
    match decision.map(|decision| decision.overall) {
        Some(Code::Ok) => "OK",
        Some(Code::OverLimit) => "OVER_LIMIT",
        None => "ERROR",
    }
}

fn origin(origin: Origin) -> &'static str {
    match origin {
        Origin::Envoy => "envoy",
        Origin::Tool => "tool",
        Origin::Api => "api",
    }
}

fn descriptor_line<'a>(
    decided: &Decided<'_, '_, '_>,
    place: usize,
    descriptor: &'a Descriptor<'_>,
    privacy: &Privacy,
) -> DescriptorLine<'a> {
    let rule = decided.rule(place);
    let entries = descriptor.entries.iter().enumerate();
    let planned = decided.plan.descriptors.get(place);
    DescriptorLine {
        entries: entries
            .map(|(position, entry)| EntryLine {
                key: cut_to(entry.key, TEXT_BYTES_MAX),
                value: shown(rule, position, (entry.key, entry.value), privacy),
            })
            .collect(),
        hits: descriptor.hits,
        limit: descriptor.limit.map(|(requests_per_unit, unit)| OwnLimit { requests_per_unit, unit: unit.name() }),
        unlimited: matches!(planned, Some(PlannedDescriptor::Unlimited(_))),
        limits: limit_lines(decided, place),
    }
}

/// A value as it may be shown: one that the rule names is no client's.
fn shown<'a>(rule: Option<&Rule>, position: usize, (key, value): (&str, &'a str), privacy: &Privacy) -> Cow<'a, str> {
    match rule {
        Some(rule) if rule.names_value(position) => cut_to(value, TEXT_BYTES_MAX),
        _ => match privacy.shown(key, value) {
            Cow::Borrowed(value) => cut_to(value, TEXT_BYTES_MAX),
            hashed => hashed,
        },
    }
}

fn limit_lines(decided: &Decided<'_, '_, '_>, place: usize) -> Vec<LimitLine> {
    let Some(planned) = decided.plan.descriptors.get(place) else { return Vec::new() };
    let line = |(position, index): (usize, usize)| {
        let limit = decided.plan.checks[index].limit;
        let policy = decided.outcome.and_then(|outcome| outcome.policies.get(index).copied());
        let refused = decided.refusal(index);
        // An open policy reads no counter, nor does a closed one.
        let has_read = !matches!(policy, Some(policy) if policy != FailurePolicy::Local);
        let reading = decided.outcome.map(|outcome: Outcome<'_>| outcome.readings[index]).filter(|_| has_read);
        LimitLine {
            limit_id: limit_id(decided, planned, position),
            code: match (decided.outcome, refused) {
                (None, _) => "ERROR",
                (_, Some(_)) => "OVER_LIMIT",
                (_, None) => "OK",
            },
            shadow: refused == Some(Refused::Shadow),
            requests: limit.requests,
            window: limit.window.0 as f64 / 1e6,
            remaining: reading.map(|reading| if reading.admitted { reading.remaining } else { 0 }),
            reset: reading.map(|reading| reading.reset.0 as f64 / 1e6),
            degraded: policy.map(FailurePolicy::name),
        }
    };
    planned.checks().enumerate().map(line).collect()
}

/// The id under which a descriptor's check counts.
pub(super) fn limit_id(decided: &Decided<'_, '_, '_>, planned: &PlannedDescriptor<'_>, position: usize) -> String {
    match planned {
        PlannedDescriptor::Ruled { applied, .. } => {
            applied.counted_as(position).map(|limit| limit.id.to_string()).unwrap_or_default()
        }
        _ => requested_id(decided.request.domain),
    }
}

fn reported_limit(decided: &Decided<'_, '_, '_>, place: usize) -> Option<String> {
    let planned = &decided.plan.descriptors[place];
    let checks = planned.checks();
    let outcome = decided.outcome.filter(|_| !checks.is_empty())?;
    let reported = judge::reported_check(&decided.plan.checks[checks.clone()], &outcome.readings[checks]);
    Some(limit_id(decided, planned, reported))
}

fn override_of(decided: &Decided<'_, '_, '_>, place: usize, privacy: &Privacy) -> Option<String> {
    let row: AppliedOverride<'_> = match decided.plan.descriptors.get(place)? {
        PlannedDescriptor::Ruled { applied, .. } => applied.overridden_by?,
        PlannedDescriptor::Unlimited(row) => (*row)?,
        PlannedDescriptor::Requested { .. } => return Some("request".to_owned()),
        _ => return None,
    };
    Some(cut_to(&overridden(row).shown(privacy), TEXT_BYTES_MAX).into_owned())
}
