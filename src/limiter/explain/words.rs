//! Why a request is answered as it is, in words and numbers: which rule it meets and how, by the walk that decisions
//! take. Reads, and changes nothing.

#[cfg(test)]
mod tests;

use crate::{
    limit::{FailurePolicy, Micros},
    limiter::{Applies, CounterExplanation, DescriptorExplanation, LocalCounter},
    rules::{RuleMatch, StepMatch, WalkStep},
    store::Role,
};

/// The way to a rule, or where it ended, on one line.
pub(crate) fn in_words(domain: &str, found: RuleMatch<'_>, steps: &[WalkStep<'_>]) -> String {
    match found {
        RuleMatch::UnknownDomain => format!("there is no domain {domain}"),
        RuleMatch::Rule { rule, .. } => {
            let place = match rule.line {
                0 => rule.file.display().to_string(),
                line => format!("{}:{line}", rule.file.display()),
            };
            format!("{} meets {} ({place})", path(steps), rule.id)
        }
        RuleMatch::NoMatch => match steps.split_last() {
            Some((last, before)) => format!("{} meets no rule: {}", path(steps), dead_end(last, before)),
            None => "a descriptor without entries meets no rule".to_owned(),
        },
    }
}

/// What applies to a descriptor and why, in a sentence: whether it passes by itself, and if not, when it does.
pub(crate) fn verdict(
    lookup: &DescriptorExplanation,
    domain: &str,
    found: RuleMatch<'_>,
    steps: &[WalkStep<'_>],
) -> String {
    let by = match &lookup.overridden {
        Some(_) => "by an override",
        None => "by its rule",
    };
    match lookup.applies {
        Applies::Nothing => format!("passes: {}", in_words(domain, found, steps)),
        Applies::NoLimit => match found {
            RuleMatch::Rule { rule, .. } if rule.limits.is_empty() && lookup.overridden.is_none() => {
                "passes: its rule has no limit".to_owned()
            }
            _ if !lookup.switched.is_empty() => "passes: its limits are switched off".to_owned(),
            _ => "passes: the limits of another descriptor replace those of its rule".to_owned(),
        },
        Applies::Unlimited => format!("passes: unlimited {by}"),
        Applies::Limits | Applies::Requested => of_counters(&lookup.counters),
    }
}

/// A limit that denies, the one with the longest wait, is told of before one that admits, the one with least left; and one
/// that is only tried out after both.
fn of_counters(counters: &[CounterExplanation]) -> String {
    if counters.iter().any(|counter| counter.reading.is_none()) {
        return without_store(counters);
    }
    let refusing = |is_shadow: bool| {
        let refuses = |it: &&CounterExplanation| {
            it.reading.is_some_and(|reading| !reading.admitted) && (it.role == Role::Shadow) == is_shadow
        };
        counters.iter().filter(refuses).max_by_key(|it| it.reading.map(|reading| reading.reset))
    };
    if let Some(counter) = refusing(false) {
        let together = if counter.role == Role::Quota { ", if all other quotas refuse too" } else { "" };
        return format!("refused by {}{together}: {}", counter.limit_id, when(counter));
    }
    if let Some(counter) = refusing(true) {
        return format!("passes, though {} refuses: it is only tried out ({})", counter.limit_id, when(counter));
    }
    match counters.iter().min_by_key(|it| it.reading.map(|reading| reading.remaining)) {
        Some(counter) => format!("passes: {} of {} left", left(counter), counter.limit_id),
        None => "passes".to_owned(),
    }
}

/// The store can't say: the failure policies decide, and what this replica counts by itself.
fn without_store(counters: &[CounterExplanation]) -> String {
    let may_refuse = || counters.iter().filter(|it| it.role != Role::Shadow);
    let refuses = |it: &&CounterExplanation| match it.on_store_failure {
        FailurePolicy::Closed => true,
        FailurePolicy::Local => it.local.is_some_and(|local| !local.reading.admitted),
        FailurePolicy::Open | FailurePolicy::Error => false,
    };
    let wait_of = |it: &&CounterExplanation| it.local.map(|local| local.reading.reset);
    if let Some(counter) = may_refuse().filter(refuses).max_by_key(wait_of) {
        return match counter.local {
            Some(LocalCounter { reading, .. }) => format!(
                "refused by this replica's own share of {} while the store fails: {} left, passes again in {}",
                counter.limit_id,
                reading.remaining,
                rounded_wait(reading.reset)
            ),
            None => format!("refused: {} is closed while the store fails", counter.limit_id),
        };
    }
    if let Some(counter) = may_refuse().find(|it| it.on_store_failure == FailurePolicy::Error) {
        return format!("not decided: {} answers with an error while the store fails", counter.limit_id);
    }
    let local = may_refuse().filter_map(|it| Some((it, it.local?)));
    match local.min_by_key(|(_, local)| local.reading.remaining) {
        Some((counter, local)) => format!(
            "passes while the store fails: {} left of this replica's own share of {}",
            local.reading.remaining, counter.limit_id
        ),
        None => "passes: nothing limits it while the store fails".to_owned(),
    }
}

fn left(counter: &CounterExplanation) -> u64 {
    counter.reading.map_or(0, |reading| reading.remaining)
}

fn when(counter: &CounterExplanation) -> String {
    let most = if counter.limit.algorithm.has_burst() { counter.limit.burst } else { counter.limit.requests };
    match counter.reading {
        _ if most == 0 => "its limit is 0, nothing passes".to_owned(),
        Some(reading) => format!("{} left, passes again in {}", reading.remaining, rounded_wait(reading.reset)),
        None => "the store can't say".to_owned(),
    }
}

/// `(user=alice)(endpoint=/login)`.
pub(crate) fn path(steps: &[WalkStep<'_>]) -> String {
    steps.iter().map(|step| format!("({}={})", step.entry.key, step.entry.value)).collect()
}

/// Why the last of some steps led nowhere.
pub(crate) fn dead_end(last: &WalkStep<'_>, before: &[WalkStep<'_>]) -> String {
    let place = match before {
        [] => "at the first level".to_owned(),
        before => format!("below {}", path(before)),
    };
    let (key, value) = (last.entry.key, last.entry.value);
    match last.how {
        StepMatch::UnknownKey => format!("no rule {place} has the key {key}"),
        StepMatch::UnknownValue => format!("no rule {place} is for {key}={value}, nor for any {key}"),
        StepMatch::TooDeep => format!("there are no rules {place}"),
        // Each of its entries was met, but nothing was left to stop at: a descriptor without entries.
        StepMatch::Exact | StepMatch::Pattern(_) | StepMatch::KeyOnly => format!("no rule {place}"),
    }
}

/// A wait, beyond a second to the next millisecond: the same wherever it is told.
pub(crate) fn rounded_wait(Micros(micros): Micros) -> String {
    wait(Micros(if micros > 1_000_000 { micros.div_ceil(1_000) * 1_000 } else { micros }))
}

/// A length of time as rule files write it: `1h30m`, `61s875ms`.
pub(crate) fn wait(wait: Micros) -> String {
    const UNITS: [(&str, u64); 6] =
        [("d", 86_400_000_000), ("h", 3_600_000_000), ("m", 60_000_000), ("s", 1_000_000), ("ms", 1_000), ("us", 1)];
    let (mut left, mut text) = (wait.0, String::new());
    for (unit, micros) in UNITS {
        if left >= micros {
            text += &format!("{}{unit}", left / micros);
            left %= micros;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}
