//! Tiers that differ, and whom they reach: the limits and the override rows that name them.

use std::{collections::BTreeMap, sync::Arc};

use super::{Domain, Rules, domains};
use crate::{
    limit::UnixMicros,
    rules::{
        RuleLimit,
        changes::{Terms, UNLIMITED, arrow},
    },
};

/// A tier that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TierChange {
    pub domain: Box<str>,
    pub tier: Box<str>,
    /// In words; `None` where it wasn't there.
    pub before: Option<Box<str>>,
    pub after: Option<Box<str>>,
    /// The ids of the limits that name it, in the new rules, or in the old ones where it is gone.
    pub limits: Vec<Arc<str>>,
    /// Number of override rows in force that name it, of the same rules.
    pub overrides: usize,
}

impl std::fmt::Display for TierChange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: ", self.tier)?;
        match (&self.before, &self.after) {
            (Some(before), Some(after)) => f.write_str(&arrow(before, after)),
            (None, Some(after)) => write!(f, "added, {after}"),
            (Some(before), None) => write!(f, "removed, was {before}"),
            (None, None) => Ok(()),
        }
    }
}

pub(super) fn changes(before: &Rules, after: &Rules, now: UnixMicros) -> Vec<TierChange> {
    let mut changes = Vec::new();
    for (old, new) in domains(before, after) {
        let (was, is) = (old.map(tiers).unwrap_or_default(), new.map(tiers).unwrap_or_default());
        let names = was.keys().chain(is.keys().filter(|name| !was.contains_key(*name)));
        let mut differing: Vec<TierChange> =
            names.filter_map(|name| change(name, was.get(name), is.get(name))).collect();
        differing.sort_by(|one, other| one.tier.cmp(&other.tier));
        let domain = new.or(old).map(Domain::name).unwrap_or_default();
        differing.iter_mut().for_each(|change| change.domain = domain.into());
        for (rules, is_gone) in [(new, false), (old, true)] {
            let wanted = differing.iter_mut().filter(|change| change.after.is_none() == is_gone);
            if let Some(rules) = rules {
                reach(rules, now, wanted.collect());
            }
        }
        changes.extend(differing);
    }
    changes
}

/// The limits that tiers stand for, by name; `None` is unlimited.
fn tiers(domain: &Domain) -> BTreeMap<&str, Option<RuleLimit>> {
    let tiers = domain.defaults.tiers.by_name.iter();
    tiers.map(|(name, tier)| (&**name, tier.limit.as_ref().and_then(|tier| domain.defaults.limit(tier)))).collect()
}

fn change(name: &str, was: Option<&Option<RuleLimit>>, is: Option<&Option<RuleLimit>>) -> Option<TierChange> {
    let words = |limit: &Option<RuleLimit>| {
        limit.as_ref().map_or_else(|| UNLIMITED.to_owned(), |limit| Terms::alone(limit).in_words())
    };
    let (before, after) = match (was, is) {
        (Some(Some(was)), Some(Some(is))) => {
            let (before, after) = Terms::alone(was).difference(&Terms::alone(is));
            (Some(before), Some(after))
        }
        (was, is) => (was.map(words), is.map(words)),
    };
    let change = |before: Option<String>, after: Option<String>| TierChange {
        domain: Box::default(),
        tier: name.into(),
        before: before.map(Into::into),
        after: after.map(Into::into),
        limits: Vec::new(),
        overrides: 0,
    };
    (before != after).then(|| change(before, after))
}

/// Notes whom tiers of a domain reach.
fn reach(domain: &Domain, now: UnixMicros, mut tiers: Vec<&mut TierChange>) {
    if tiers.is_empty() {
        return;
    }
    for limit in domain.rules().iter().flat_map(|rule| &rule.limits) {
        let named = limit.tier.as_deref();
        for change in tiers.iter_mut().filter(|change| named == Some(&*change.tier)) {
            change.limits.push(Arc::clone(&limit.id));
        }
    }
    let table = domain.overrides();
    let mut rows = vec![0; table.limits_len()];
    table.rows().filter(|row| !row.is_expired(now)).for_each(|row| rows[row.limits_number() as usize] += 1);
    for (limits, rows) in table.each_limits().zip(rows) {
        for change in &mut tiers {
            if limits.limits().iter().any(|limit| limit.tier.as_deref() == Some(&*change.tier)) {
                change.overrides += rows;
            }
        }
    }
}
