//! What a new set of rules changes: which limits are added, removed or other than before, in words, and whether their
//! counts go on. It compares rules that were read, and knows no files.

#[cfg(test)]
mod tests;

use std::{collections::HashMap, fmt, sync::Arc};

use super::{Rule, RuleLimit, Rules};
use crate::limit::{Algorithm, Limit, SECOND, Unit};

/// A limit that a new set of rules adds, removes or changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitChange {
    pub domain: Box<str>,
    pub limit_id: Arc<str>,
    /// What it was, in words: `20 a minute`; `None` for one that is new.
    pub before: Option<Box<str>>,
    /// What it is; `None` for one that is gone.
    pub after: Option<Box<str>>,
    /// Whether its counters count on. Of one that is new or gone there is nothing to go on.
    pub counts_go_on: bool,
}

/// `api/user: 20 → 30 a minute, counts go on`.
impl fmt::Display for LimitChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = if self.counts_go_on { "counts go on" } else { "counts begin afresh" };
        match (&self.before, &self.after) {
            (Some(before), Some(after)) => {
                // `20 → 30 a minute`: what both say is said once.
                let shorter = before.split_once(' ').filter(|(_, rest)| {
                    !rest.contains(',') && after.split_once(' ').is_some_and(|(_, other)| *rest == other)
                });
                let before = shorter.map_or(&**before, |(number, _)| number);
                write!(f, "{}: {before} → {after}, {counts}", self.limit_id)
            }
            (None, Some(after)) => write!(f, "{}: added, {after}", self.limit_id),
            (Some(before), None) => write!(f, "{}: removed, was {before}", self.limit_id),
            (None, None) => f.write_str(&self.limit_id),
        }
    }
}

/// The limits that differ, in order of their ids.
pub fn limit_changes(before: &Rules, after: &Rules) -> Vec<LimitChange> {
    let mut old: HashMap<&str, (&Rule, &RuleLimit)> =
        before.limits().map(|(_, rule, limit)| (&*limit.id, (rule, limit))).collect();
    let mut changes = Vec::new();
    for (domain, rule, limit) in after.limits() {
        let change = |before: Option<Box<str>>, words: Box<str>, counts_go_on| LimitChange {
            domain: after.of(domain).name().into(),
            limit_id: Arc::clone(&limit.id),
            before,
            after: Some(words),
            counts_go_on,
        };
        match old.remove(&*limit.id) {
            None => changes.push(change(None, limit_in_words(rule, limit).into(), false)),
            Some((old_rule, old_limit)) => {
                let (was, is) = difference((old_rule, old_limit), (rule, limit));
                if was != is {
                    changes.push(change(Some(was.into()), is.into(), is_same_counter(old_limit, limit)));
                }
            }
        }
    }
    for (domain, _, limit) in before.limits() {
        if let Some((rule, limit)) = old.remove(&*limit.id) {
            changes.push(LimitChange {
                domain: before.of(domain).name().into(),
                limit_id: Arc::clone(&limit.id),
                before: Some(limit_in_words(rule, limit).into()),
                after: None,
                counts_go_on: false,
            });
        }
    }
    changes.sort_by(|one, other| one.limit_id.cmp(&other.limit_id));
    changes
}

/// Whether a counter of the one is a counter of the other: how many hits it admits is no part of its key.
fn is_same_counter(before: &RuleLimit, after: &RuleLimit) -> bool {
    let layout = |limit: &RuleLimit| {
        let Limit { window, algorithm, sub_windows, .. } = limit.limit;
        (window, algorithm, if algorithm == Algorithm::SlidingWindow { sub_windows } else { 0 })
    };
    layout(before) == layout(after) && before.key_name == after.key_name
}

/// What differs of both, in words; the same words where nothing does.
fn difference((old_rule, old): (&Rule, &RuleLimit), (new_rule, new): (&Rule, &RuleLimit)) -> (String, String) {
    let (mut was, mut is) = (Vec::new(), Vec::new());
    let mut note = |before: String, after: String| {
        if before != after {
            was.push(before);
            is.push(after);
        }
    };
    note(rate(&old.limit), rate(&new.limit));
    note(old.limit.algorithm.name().to_owned(), new.limit.algorithm.name().to_owned());
    if old.limit.algorithm == new.limit.algorithm {
        let sub_windows = |limit: &Limit| match limit.algorithm {
            Algorithm::SlidingWindow => format!("sub_windows {}", limit.sub_windows),
            _ => String::new(),
        };
        note(sub_windows(&old.limit), sub_windows(&new.limit));
        // That of a token bucket is mostly its rate.
        let burst = |limit: &Limit| match limit.algorithm {
            Algorithm::TokenBucket if limit.burst == limit.requests => String::new(),
            Algorithm::TokenBucket | Algorithm::LeakyBucket => format!("burst {}", limit.burst),
            _ => String::new(),
        };
        note(burst(&old.limit), burst(&new.limit));
    }
    note(effect(old_rule, old), effect(new_rule, new));
    note(format!("count_denied {}", old.count_denied.name()), format!("count_denied {}", new.count_denied.name()));
    let policy = |limit: &RuleLimit| limit.on_store_failure.map_or_else(String::new, |policy| policy.name().to_owned());
    note(format!("on_store_failure {}", policy(old)), format!("on_store_failure {}", policy(new)));
    let joined = |parts: Vec<String>| parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ");
    (joined(was), joined(is))
}

/// `20 a minute, sliding_window`.
pub fn limit_in_words(rule: &Rule, limit: &RuleLimit) -> String {
    let effect = match &*effect(rule, limit) {
        "enforced" => String::new(),
        other => format!(", {other}"),
    };
    format!("{}, {}{effect}", rate(&limit.limit), limit.limit.algorithm.name())
}

/// `20 a minute`, `100 in 90 s`.
fn rate(limit: &Limit) -> String {
    let requests = limit.requests;
    match Unit::of(limit.window) {
        Some(Unit::Hour) => format!("{requests} an hour"),
        Some(unit) => format!("{requests} a {}", unit.name()),
        None if limit.window.0.is_multiple_of(SECOND.0) => format!("{requests} in {} s", limit.window.0 / SECOND.0),
        None => format!("{requests} in {} µs", limit.window.0),
    }
}

/// `enforced`, `shadow`, `enforced for 10%`.
fn effect(rule: &Rule, limit: &RuleLimit) -> String {
    let effect = if rule.quota_mode { "quota" } else { "enforced" };
    match limit.enforce {
        share if rule.shadow_mode || share.is_none() => "shadow".to_owned(),
        share if share.is_partial() => format!("{effect} for {share}"),
        _ => effect.to_owned(),
    }
}
