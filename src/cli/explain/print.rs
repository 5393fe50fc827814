//! An explanation for people.

use std::fmt::Write as _;

use crate::{
    cli::{
        limits,
        show::{self, Paint, Tone},
    },
    front::api::{
        ExplainResponse, ExplainedCounter, ExplainedDescriptor, ExplainedOverride, LimitNumbers, LocalCounter,
        MatchStep,
    },
    limit::{EnforcedShare, Entry, Micros, PARTS, UnixMicros, written},
    limiter::explain::words,
    visible,
};

/// `alone`: no service was asked, and what counters hold says nothing.
pub(super) fn in_words(answer: &ExplainResponse, alone: bool, (paint, now): (Paint, UnixMicros)) -> String {
    let mut out = String::new();
    for descriptor in &answer.descriptors {
        of_descriptor(&mut out, descriptor, alone, now);
    }
    if !answer.store_error.is_empty() {
        let failed = format!("the store failed: {}", visible::text(&answer.store_error));
        let _ = writeln!(out, "{}", paint.on(Tone::Attention, &failed));
    }
    if let Some(check) = answer.answer.as_ref().filter(|_| !alone) {
        let retry = check.retry_after_seconds.map(|seconds| format!(", until {} from now", wait(seconds)));
        let (tone, word) = if check.allowed { (Tone::Good, "admitted") } else { (Tone::Bad, "refused") };
        let word = paint.on(tone, word);
        let _ = writeln!(out, "this request would be {word}{}", retry.unwrap_or_default());
    }
    out
}

fn of_descriptor(out: &mut String, it: &ExplainedDescriptor, alone: bool, now: UnixMicros) {
    let entries: String = it.entries.iter().map(|entry| format!("({}={})", entry.key, entry.value)).collect();
    let _ = writeln!(out, "{}", visible::text(&entries));
    for step in &it.steps {
        line(out, "entry", &of_step(step));
    }
    if !it.rule.is_empty() {
        line(out, "rule", &format!("{} ({})", it.rule, it.place));
    }
    if let Some(found) = &it.r#override {
        line(out, "override", &of_override(found, now));
    }
    for other in &it.passed_over {
        line(out, "not", &format!("{}: {}", of_override(other, now), other.why));
    }
    for switch in &it.switches {
        line(out, "switched", &limits::in_words(switch));
    }
    for counter in &it.counters {
        of_counter(out, counter, alone);
    }
    // Counters that nobody has hit say nothing of what will be.
    if !alone || it.counters.is_empty() {
        line(out, "so", &it.verdict);
    }
}

fn line(out: &mut String, what: &str, text: &str) {
    let _ = writeln!(out, "  {what:<9} {}", visible::text(text));
}

fn of_step(step: &MatchStep) -> String {
    let MatchStep { key, value, how, pattern } = step;
    let how = match how.as_str() {
        "exact" => "a rule for this very value".to_owned(),
        "pattern" => format!("the first pattern that matches is {pattern}"),
        "key_only" => format!("the rule for any {key}"),
        "unknown_key" => format!("no rule here has the key {key}"),
        "unknown_value" => format!("no rule here is for this value, nor for any {key}"),
        "too_deep" => "no rules are below the one before".to_owned(),
        other => other.to_owned(),
    };
    format!("{key}={value}: {how}")
}

fn of_override(it: &ExplainedOverride, now: UnixMicros) -> String {
    let matches = it.r#match.iter().map(|entry| Entry { key: &entry.key, value: &entry.value });
    let place = if it.id.is_empty() { it.place.clone() } else { format!("set at run time as {}", it.id) };
    let mut text = format!("{} ({place})", written::write_entries(matches));
    for (what, said) in
        [("ends", &show::moment(&it.expires, now)), ("because", &it.reason), ("of", &it.owner), ("but", &it.warning)]
    {
        if !said.is_empty() {
            let _ = write!(text, ", {what} {said}");
        }
    }
    text
}

fn of_counter(out: &mut String, it: &ExplainedCounter, alone: bool) {
    let limit = it.limit.as_ref().map(of_limit).unwrap_or_default();
    let role = match (&*it.role, it.limit.as_ref().is_none_or(|limit| limit.enforce)) {
        ("shadow", false) => ", not enforced",
        ("shadow", true) => ", in shadow mode",
        ("quota", _) => ", a quota",
        _ => "",
    };
    let left = match (it.remaining, it.reset_seconds) {
        (Some(remaining), Some(reset)) if !alone => {
            let then = match it.admits {
                Some(true) if remaining > 0 => "empty in",
                _ => "admits again in",
            };
            format!("; {remaining} left, {then} {}", wait(reset))
        }
        _ => String::new(),
    };
    line(out, "limit", &format!("{}: {limit}{role}{left}", it.limit_id));
    if let Some(share) = it.limit.as_ref().map(|limit| &limit.enforce_share).filter(|share| !share.is_empty()) {
        line(out, "share", &of_share(share, it.part));
    }
    line(out, "counter", &it.key);
    if !alone && it.admits.is_some() {
        print_contents(out, it);
    }
    // A service of before says nothing of it.
    if !it.refused_hits.is_empty() {
        line(out, "refused", &of_refused(it, alone));
    }
    if let Some(local) = &it.local {
        line(out, "local", &of_local(it, local));
    }
    if let Some(hits) = it.deferred {
        let noun = if hits == 1 { "hit" } else { "hits" };
        line(
            out,
            "owed",
            &format!("{hits} {noun} that this replica admitted and charges in Redis with the next request"),
        );
    }
    line(out, "on error", &format!("{}, where the store fails", it.on_store_failure));
}

/// Whether a client is in the share of those whom a limit denies.
fn of_share(share: &str, part: Option<u32>) -> String {
    let Some(part) = part else {
        return format!("denies {share} of clients, but all share this counter, and so nobody");
    };
    let parts = EnforcedShare::parse(share).map_or(0, EnforcedShare::parts);
    let inside = if part < u32::from(parts) { "inside" } else { "outside" };
    format!("denies {share} of clients: this one is in part {part} of {PARTS}, {inside} the first {parts}")
}

/// What is charged for hits that it refuses.
fn of_refused(it: &ExplainedCounter, alone: bool) -> String {
    const BUDGET: &str = "hits are free, but those that Envoy reports: a budget";
    match (&*it.refused_hits, it.budget) {
        // Nobody has asked yet.
        ("auto", _) if alone => "hits are free, but those that Envoy reports, if it asks as about a budget".to_owned(),
        ("auto", Some(true)) => format!("{BUDGET} since {}", it.budget_since),
        ("reported", _) => BUDGET.to_owned(),
        ("true", _) => "hits are charged".to_owned(),
        _ => "hits are free".to_owned(),
    }
}

/// So many parts are told at each end of a long list; `--json` has more.
const PARTS_TOLD: usize = 4;

fn print_contents(out: &mut String, it: &ExplainedCounter) {
    let Some(held) = &it.holds else {
        return line(out, "holds", "unknown: it could not be read in time");
    };
    let until = match it.limit.as_ref().map(|limit| limit.algorithm.as_str()) {
        _ if held.until.is_empty() => "nothing is counted".to_owned(),
        Some("token_bucket") => format!("full again at {}", held.until),
        Some("leaky_bucket") => format!("empty at {}", held.until),
        _ => format!("the last until {}", held.until),
    };
    let hits = (held.hits * 1e3).round() / 1e3;
    line(out, "holds", &format!("{hits} {}, {until}", if hits == 1.0 { "hit" } else { "hits" }));
    let middle = PARTS_TOLD..held.parts.len().saturating_sub(PARTS_TOLD);
    for (nth, part) in held.parts.iter().enumerate() {
        if nth == middle.start && !middle.is_empty() {
            let parts = middle.len() + held.left_out.unwrap_or_default() as usize;
            line(out, "", &format!("… {parts} more between these"));
        }
        if !middle.contains(&nth) {
            line(out, "", &format!("{} since {}, until {}", part.hits, part.since, part.until));
        }
    }
}

fn of_limit(limit: &LimitNumbers) -> String {
    let burst = limit.burst.map(|burst| format!(", burst {burst}")).unwrap_or_default();
    let tier = if limit.tier.is_empty() { String::new() } else { format!(", tier {}", limit.tier) };
    format!("{} in {}, {}{burst}{tier}", limit.requests, wait(limit.window_seconds), limit.algorithm)
}

/// The counter of this replica alone, which decides while the store fails.
fn of_local(it: &ExplainedCounter, local: &LocalCounter) -> String {
    let window = it.limit.as_ref().map_or(0.0, |limit| limit.window_seconds);
    let burst = local.burst.map(|burst| format!(", burst {burst}")).unwrap_or_default();
    let share = match local.replicas {
        1 => "for this one replica".to_owned(),
        replicas => format!("for each of {replicas} replicas"),
    };
    let then = if local.admits && local.remaining > 0 { "empty in" } else { "admits again in" };
    let (requests, left, reset) = (local.requests, local.remaining, wait(local.reset_seconds));
    format!("{requests} in {}{burst} {share}; {left} left, {then} {reset}", wait(window))
}

fn wait(seconds: f64) -> String {
    words::rounded_wait(Micros((seconds * 1e6).round() as u64))
}
