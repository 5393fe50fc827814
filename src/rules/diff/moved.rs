//! Rules whose limits stand under another place: what would otherwise read as some that are gone and others that are new.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use super::Rules;
use crate::{
    limit::{CountDenied, EnforcedShare, Limit},
    rules::{
        Level, Rule, RuleLimit,
        changes::{Terms, UNLIMITED},
        name::rule_id,
    },
};

/// A rule whose limits stand under another place, with the rules below it that went along.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MovedRule {
    /// The id that it had.
    pub before: Arc<str>,
    pub after: Arc<str>,
    /// Its limits, in words.
    pub words: Box<str>,
    /// The ids of the rule and of those below it that went along, before and after.
    pub rules: Vec<(Arc<str>, Arc<str>)>,
    /// The ids of all their limits, before and after.
    pub limit_ids: Vec<Arc<str>>,
}

impl std::fmt::Display for MovedRule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} → {}, {}", self.before, self.after, self.words)?;
        match self.rules.len() - 1 {
            0 => {}
            1 => f.write_str(", with a rule below it")?,
            below => write!(f, ", with {below} rules below it")?,
        }
        if &*self.words == UNLIMITED { Ok(()) } else { f.write_str(", counts begin afresh") }
    }
}

/// A rule with the name of its domain.
type Placed<'r> = (&'r str, &'r Rule);

/// What must be the same of a rule that only moved. Its failure policy is mostly a default's.
#[derive(PartialEq, Eq, Hash)]
struct Says {
    limits: Vec<(Limit, EnforcedShare, CountDenied, Box<str>)>,
    is_unlimited: bool,
    modes: (bool, bool),
}

/// Of rules that are gone and rules that are new, those that say the same. One whose last level is the same too goes first.
pub(super) fn moved(before: &Rules, after: &Rules) -> Vec<MovedRule> {
    let (gone, new) = (only_in(before, after), only_in(after, before));
    let mut candidates: HashMap<(Says, Option<&Level>), Vec<usize>> = HashMap::new();
    for (at, (_, rule)) in new.iter().enumerate().rev() {
        for level in [rule.path.last().map(|level| &**level), None] {
            candidates.entry((says(rule), level)).or_default().push(at);
        }
    }
    let (mut taken, mut pairs) = (HashSet::new(), vec![None; gone.len()]);
    for has_level in [true, false] {
        for ((_, rule), pair) in gone.iter().zip(&mut pairs).filter(|(_, pair)| pair.is_none()) {
            let level = rule.path.last().map(|level| &**level).filter(|_| has_level);
            let Some(alike) = candidates.get_mut(&(says(rule), level)) else { continue };
            while let Some(candidate) = alike.pop().filter(|_| pair.is_none()) {
                *pair = taken.insert(candidate).then(|| new[candidate]);
            }
        }
    }
    fold(gone.into_iter().zip(pairs).filter_map(|(old, new)| Some((old, new?))).collect())
}

/// Rules with limits whose ids the other set doesn't have.
fn only_in<'r>(rules: &'r Rules, other: &Rules) -> Vec<Placed<'r>> {
    let known: HashSet<&str> =
        other.domains().iter().flat_map(|domain| domain.rules().iter().map(|rule| &*rule.id)).collect();
    let own = rules.domains().iter().flat_map(|domain| domain.rules().iter().map(|rule| (domain.name(), rule)));
    own.filter(|(_, rule)| (rule.unlimited || !rule.limits.is_empty()) && !known.contains(&*rule.id)).collect()
}

fn says(rule: &Rule) -> Says {
    let name = |limit: &'_ RuleLimit| limit.name.clone().unwrap_or_default();
    let limits = rule.limits.iter().map(|limit| {
        let RuleLimit { limit: numbers, enforce, count_denied, .. } = limit;
        (*numbers, *enforce, *count_denied, name(limit))
    });
    Says { limits: limits.collect(), is_unlimited: rule.unlimited, modes: (rule.shadow_mode, rule.quota_mode) }
}

fn words(rule: &Rule) -> String {
    let words = |limit| Terms::of_rule(rule, limit).in_words();
    match rule.limits.as_slice() {
        [] => UNLIMITED.to_owned(),
        limits => limits.iter().map(words).collect::<Vec<_>>().join(" and "),
    }
}

/// Puts rules that went along with one above them below that.
fn fold(pairs: Vec<(Placed<'_>, Placed<'_>)>) -> Vec<MovedRule> {
    let (mut moved, mut heads): (Vec<MovedRule>, HashMap<(String, String), usize>) = (Vec::new(), HashMap::new());
    for ((old_domain, old), (new_domain, new)) in pairs {
        let same_tail = old.path.iter().rev().zip(new.path.iter().rev()).take_while(|(old, new)| old == new).count();
        let above = |levels: usize| {
            let cut = |path: &'_ [Arc<Level>]| path.len() - levels;
            let old = rule_id(old_domain, &old.path[..cut(&old.path)]);
            heads.get(&(old, rule_id(new_domain, &new.path[..cut(&new.path)]))).copied()
        };
        let at = (1..=same_tail).find_map(above).unwrap_or_else(|| {
            moved.push(MovedRule {
                before: Arc::clone(&old.id),
                after: Arc::clone(&new.id),
                words: words(old).into(),
                rules: Vec::new(),
                limit_ids: Vec::new(),
            });
            moved.len() - 1
        });
        heads.insert((old.id.to_string(), new.id.to_string()), at);
        moved[at].rules.push((Arc::clone(&old.id), Arc::clone(&new.id)));
        for rule in [old, new] {
            let unlimited = rule.unlimited.then(|| Arc::clone(&rule.id));
            moved[at].limit_ids.extend(rule.limits.iter().map(|limit| Arc::clone(&limit.id)).chain(unlimited));
        }
    }
    moved
}
