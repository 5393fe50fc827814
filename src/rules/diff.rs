//! Two sets of rules, compared for people who are about to swap them: limits, what else rules say, tiers and what they
//! reach, override rows, defaults, and which requests would meet another rule. It compares rules that were read, at a
//! moment that it is given, and knows no files.

mod defaults;
mod moved;
mod other_rules;
mod overrides;
mod rules;
#[cfg(test)]
mod tests;
mod tiers;

use std::collections::HashSet;

pub use self::{
    moved::MovedRule,
    other_rules::{OtherRule, OtherRules},
    overrides::{OverrideChange, OverrideChangeKind, OverrideChanges, OverrideGroup, OverrideTerms},
    tiers::TierChange,
};
use super::{Domain, LimitChange, Rules, limit_changes};
use crate::limit::UnixMicros;

/// Everything that differs between two sets of rules.
pub struct RulesDiff<'r> {
    /// Domains that only the new rules have.
    pub domains_added: Vec<&'r str>,
    pub domains_removed: Vec<&'r str>,
    /// The limits that differ, without those of rules that only moved.
    pub limits: Vec<LimitChange>,
    pub moved: Vec<MovedRule>,
    /// What differs of rules besides their limits.
    pub rules: Vec<SettingChange>,
    pub tiers: Vec<TierChange>,
    pub overrides: OverrideChanges<'r>,
    /// What differs of the defaults and the shortcuts of domains.
    pub defaults: Vec<SettingChange>,
    pub other_rules: OtherRules,
}

/// Something that a set of rules says, and that another says otherwise or not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingChange {
    pub domain: Box<str>,
    /// The id of a rule, or what a domain calls it: `default algorithm`.
    pub what: Box<str>,
    /// In words; `None` where it wasn't there.
    pub before: Option<Box<str>>,
    pub after: Option<Box<str>>,
}

impl<'r> RulesDiff<'r> {
    /// Compares two sets of rules as they are at `now`, when some overrides have ended. Of each kind of change to override
    /// rows `rows_max` are named, and all are counted.
    pub fn new(before: &'r Rules, after: &'r Rules, now: UnixMicros, rows_max: usize) -> RulesDiff<'r> {
        let names = |rules: &'r Rules, other: &Rules| -> Vec<&'r str> {
            let own = rules.domains().iter().map(|domain| domain.name());
            own.filter(|name| other.domain(name).is_none()).collect()
        };
        let moved = moved::moved(before, after);
        let gone_along: HashSet<&str> = moved.iter().flat_map(|moved| moved.limit_ids.iter().map(|id| &**id)).collect();
        let mut limits = limit_changes(before, after);
        limits.retain(|change| !gone_along.contains(&*change.limit_id));
        RulesDiff {
            domains_added: names(after, before),
            domains_removed: names(before, after),
            rules: rules::changes(before, after, &moved),
            tiers: tiers::changes(before, after, now),
            overrides: overrides::changes(before, after, now, rows_max),
            defaults: defaults::changes(before, after),
            other_rules: other_rules::find(before, after),
            limits,
            moved,
        }
    }

    /// Whether the two would answer every request alike, as far as can be told.
    pub fn is_empty(&self) -> bool {
        let RulesDiff { domains_added, domains_removed, limits, moved, rules, tiers, overrides, defaults, other_rules } =
            self;
        domains_added.is_empty()
            && domains_removed.is_empty()
            && limits.is_empty()
            && moved.is_empty()
            && rules.is_empty()
            && tiers.is_empty()
            && overrides.differing() == 0
            && defaults.is_empty()
            && other_rules.found.is_empty()
    }
}

/// Each domain of either set, by name, with what it was and what it is.
fn domains<'r>(before: &'r Rules, after: &'r Rules) -> Vec<(Option<&'r Domain>, Option<&'r Domain>)> {
    let of = |rules: &'r Rules, name: &str| rules.domain(name).map(|index| &**rules.of(index));
    let mut all: Vec<&Domain> = before.domains().iter().map(|domain| &**domain).collect();
    all.extend(after.domains().iter().map(|domain| &**domain).filter(|domain| before.domain(domain.name()).is_none()));
    all.sort_by_key(|domain| domain.name());
    all.into_iter().map(|domain| (of(before, domain.name()), of(after, domain.name()))).collect()
}

/// Notes a setting if both differ; the same words mean the same.
fn note(changes: &mut Vec<SettingChange>, domain: &str, what: &str, before: String, after: String) {
    if before != after {
        let (before, after) = (Some(before.into()), Some(after.into()));
        changes.push(SettingChange { domain: domain.into(), what: what.into(), before, after });
    }
}
