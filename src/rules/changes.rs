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
    /// What it was called, if another limit of its rule went on with its counters under a new name.
    pub was_called: Option<Arc<str>>,
    /// Whether its counters count on. Of one that is new or gone there is nothing to go on.
    pub counts_go_on: bool,
}

impl LimitChange {
    /// What becomes of its counters, where both sets have some.
    pub fn counts(&self) -> Option<&'static str> {
        let has_counters = |words: &Option<Box<str>>| words.as_deref().is_some_and(|words| words != UNLIMITED);
        let words = if self.counts_go_on { "counts go on" } else { "counts begin afresh" };
        (has_counters(&self.before) && has_counters(&self.after)).then_some(words)
    }
}

/// `api/user: 20 → 30 a minute, counts go on`.
/// A limit of a rule: `20 a minute, sliding_window`.
pub fn limit_in_words(rule: &Rule, limit: &RuleLimit) -> String {
    Terms::of_rule(rule, limit).in_words()
}

impl fmt::Display for LimitChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.limit_id)?;
        if let Some(name) = &self.was_called {
            write!(f, "was called {name}, ")?;
        }
        match (&self.before, &self.after) {
            (Some(before), Some(after)) if before == after => f.write_str(after)?,
            (Some(before), Some(after)) => f.write_str(&arrow(before, after))?,
            (None, Some(after)) => write!(f, "added, {after}")?,
            (Some(before), None) => write!(f, "removed, was {before}")?,
            (None, None) => {}
        }
        self.counts().map_or(Ok(()), |counts| write!(f, ", {counts}"))
    }
}

/// What a rule says that has no limit and counts nothing.
pub(super) const UNLIMITED: &str = "unlimited";

/// `20 → 30 a minute, burst 5 → 9`: part by part where both have as many, and what both say is said once.
pub(super) fn arrow(before: &str, after: &str) -> String {
    let parts = |words: &str| words.split(", ").count();
    if parts(before) != parts(after) {
        return format!("{before} → {after}");
    }
    let parts = before.split(", ").zip(after.split(", ")).map(|(before, after)| {
        if before == after {
            return after.to_owned();
        }
        let (before_parts, after_parts) = (before.split_once(' '), after.split_once(' '));
        match before_parts.zip(after_parts) {
            Some(((number, unit), (_, other))) if unit == other => format!("{number} → {after}"),
            Some(((setting, _), (other, value))) if setting == other && is_setting(setting) => {
                format!("{before} → {value}")
            }
            _ => format!("{before} → {after}"),
        }
    });
    parts.collect::<Vec<_>>().join(", ")
}

/// Whether a word says what the one behind it is.
fn is_setting(word: &str) -> bool {
    word.contains('_') || ["burst", "tier"].contains(&word)
}

/// The limits that differ, in order of their ids. A rule that is unlimited counts as a limit that says so.
pub fn limit_changes(before: &Rules, after: &Rules) -> Vec<LimitChange> {
    let mut old: HashMap<&str, Stated<'_>> = stated(before).map(|stated| (stated.id(), stated)).collect();
    let (mut changes, mut added) = (Vec::new(), Vec::new());
    for new in stated(after) {
        match old.remove(new.id()) {
            None => added.push(new),
            Some(was) => changes.extend(changed(was, new)),
        }
    }
    let mut gone: HashMap<&str, Vec<Stated<'_>>> = HashMap::new();
    for was in stated(before).filter(|was| old.contains_key(was.id())) {
        gone.entry(&was.rule.id).or_default().push(was);
    }
    for new in added {
        let of_rule = gone.get_mut(&*new.rule.id);
        let renamed = of_rule.and_then(|gone| {
            let at = gone.iter().position(|was| was.goes_on_as(new))?;
            Some(gone.remove(at))
        });
        changes.push(match renamed {
            Some(was) => LimitChange {
                before: Some(was.words()),
                was_called: Some(Arc::clone(was.shared_id())),
                counts_go_on: true,
                ..new.added()
            },
            None => new.added(),
        });
    }
    changes.extend(gone.into_values().flatten().map(Stated::removed));
    changes.sort_by(|one, other| one.limit_id.cmp(&other.limit_id));
    changes
}

/// What a rule says of how often it may be met: one of its limits, or that it is unlimited.
#[derive(Clone, Copy)]
struct Stated<'r> {
    domain: &'r str,
    rule: &'r Rule,
    limit: Option<&'r RuleLimit>,
}

fn stated(rules: &Rules) -> impl Iterator<Item = Stated<'_>> {
    rules.domains().iter().flat_map(|domain| {
        domain.rules().iter().flat_map(|rule| {
            let unlimited = rule.unlimited.then_some(None);
            let limits = rule.limits.iter().map(Some).chain(unlimited);
            limits.map(|limit| Stated { domain: domain.name(), rule, limit })
        })
    })
}

impl<'r> Stated<'r> {
    fn shared_id(self) -> &'r Arc<str> {
        self.limit.map_or(&self.rule.id, |limit| &limit.id)
    }

    fn id(self) -> &'r str {
        self.shared_id()
    }

    fn words(self) -> Box<str> {
        self.limit.map_or(UNLIMITED.into(), |limit| Terms::of_rule(self.rule, limit).in_words().into())
    }

    fn added(self) -> LimitChange {
        LimitChange {
            domain: self.domain.into(),
            limit_id: Arc::clone(self.shared_id()),
            before: None,
            after: Some(self.words()),
            was_called: None,
            counts_go_on: false,
        }
    }

    fn removed(self) -> LimitChange {
        LimitChange { before: Some(self.words()), after: None, ..self.added() }
    }

    /// Whether the other, of the same rule, has its counters.
    fn goes_on_as(self, other: Stated<'_>) -> bool {
        let counters = |(old, new)| has_same_counters((self.rule, old), (other.rule, new));
        self.limit.zip(other.limit).is_some_and(counters)
    }
}

fn changed(was: Stated<'_>, new: Stated<'_>) -> Option<LimitChange> {
    let change = |before: Box<str>, after: Box<str>, counts_go_on| LimitChange {
        before: Some(before),
        after: Some(after),
        counts_go_on,
        ..new.added()
    };
    match (was.limit, new.limit) {
        (None, None) => None,
        (Some(old), Some(limit)) => {
            let (before, after) = Terms::of_rule(was.rule, old).difference(&Terms::of_rule(new.rule, limit));
            let counts_go_on = has_same_counters((was.rule, old), (new.rule, limit));
            (before != after).then(|| change(before.into(), after.into(), counts_go_on))
        }
        _ => Some(change(was.words(), new.words(), false)),
    }
}

fn has_same_counters((old_rule, old): (&Rule, &RuleLimit), (new_rule, new): (&Rule, &RuleLimit)) -> bool {
    is_same_counter(old, new) && old_rule.shared == new_rule.shared
}

/// Whether a counter of the one is a counter of the other: how many hits it admits is no part of its key.
pub(super) fn is_same_counter(before: &RuleLimit, after: &RuleLimit) -> bool {
    let layout = |limit: &RuleLimit| {
        let Limit { window, algorithm, sub_windows, .. } = limit.limit;
        (window, algorithm, if algorithm == Algorithm::SlidingWindow { sub_windows } else { 0 })
    };
    layout(before) == layout(after) && before.key_name == after.key_name
}

/// A limit with what its rule adds to it.
pub(super) struct Terms<'l> {
    limit: &'l RuleLimit,
    /// `enforced`, `shadow`, `enforced for 10%`.
    effect: String,
    /// Which values share a counter.
    counters: String,
}

impl<'l> Terms<'l> {
    pub(super) fn of_rule(rule: &Rule, limit: &'l RuleLimit) -> Terms<'l> {
        let shared = rule.path.iter().zip(&rule.shared);
        let shared = shared.filter_map(|(level, shared)| Some(format!("{}={}", level.key, shared.as_ref()?)));
        let counters = match shared.collect::<Vec<_>>().as_slice() {
            [] => "a counter for each value".to_owned(),
            shared => format!("one counter for {}", shared.join(" ")),
        };
        Terms { limit, effect: effect(Some(rule), limit), counters }
    }

    /// Of a tier or an override, which may be for many rules.
    pub(super) fn alone(limit: &'l RuleLimit) -> Terms<'l> {
        Terms { limit, effect: effect(None, limit), counters: String::new() }
    }

    /// `20 a minute, sliding_window`.
    pub(super) fn in_words(&self) -> String {
        let effect = match &*self.effect {
            "enforced" => String::new(),
            other => format!(", {other}"),
        };
        format!("{}, {}{effect}", rate(&self.limit.limit), self.limit.limit.algorithm.name())
    }

    /// What differs of both, in words; the same words where nothing does.
    pub(super) fn difference(&self, new: &Terms<'_>) -> (String, String) {
        let (mut was, mut is) = (Vec::new(), Vec::new());
        let mut note = |before: String, after: String| {
            if before != after {
                was.push(before);
                is.push(after);
            }
        };
        let (old_limit, new_limit) = (&self.limit.limit, &new.limit.limit);
        note(rate(old_limit), rate(new_limit));
        note(old_limit.algorithm.name().to_owned(), new_limit.algorithm.name().to_owned());
        if old_limit.algorithm == new_limit.algorithm {
            note(sub_windows(old_limit), sub_windows(new_limit));
            note(burst(old_limit), burst(new_limit));
        }
        note(self.effect.clone(), new.effect.clone());
        let count_denied = |limit: &RuleLimit| format!("count_denied {}", limit.count_denied.name());
        note(count_denied(self.limit), count_denied(new.limit));
        let policy = |limit: &RuleLimit| {
            let name = limit.on_store_failure.map_or("as the process says", |policy| policy.name());
            format!("on_store_failure {name}")
        };
        note(policy(self.limit), policy(new.limit));
        note(self.counters.clone(), new.counters.clone());
        let tier = |limit: &RuleLimit| limit.tier.as_ref().map_or("no tier".to_owned(), |tier| format!("tier {tier}"));
        note(tier(self.limit), tier(new.limit));
        let joined =
            |parts: Vec<String>| parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ");
        (joined(was), joined(is))
    }
}

fn sub_windows(limit: &Limit) -> String {
    match limit.algorithm {
        Algorithm::SlidingWindow => format!("sub_windows {}", limit.sub_windows),
        _ => String::new(),
    }
}

/// That of a token bucket is mostly its rate.
fn burst(limit: &Limit) -> String {
    match limit.algorithm {
        Algorithm::TokenBucket if limit.burst == limit.requests => String::new(),
        Algorithm::TokenBucket | Algorithm::LeakyBucket => format!("burst {}", limit.burst),
        _ => String::new(),
    }
}

/// `20 a minute`, `100 in 90 s`.
pub(super) fn rate(limit: &Limit) -> String {
    let requests = limit.requests;
    match Unit::of(limit.window) {
        Some(Unit::Hour) => format!("{requests} an hour"),
        Some(unit) => format!("{requests} a {}", unit.name()),
        None if limit.window.0.is_multiple_of(SECOND.0) => format!("{requests} in {} s", limit.window.0 / SECOND.0),
        None => format!("{requests} in {} µs", limit.window.0),
    }
}

/// What it does to whom it may deny.
fn effect(rule: Option<&Rule>, limit: &RuleLimit) -> String {
    let effect = if rule.is_some_and(|rule| rule.quota_mode) { "quota" } else { "enforced" };
    match limit.enforce {
        share if share.is_none() || rule.is_some_and(|rule| rule.shadow_mode) => "shadow".to_owned(),
        share if share.is_partial() => format!("{effect} for {share}"),
        _ => effect.to_owned(),
    }
}
