//! Rules of one key at one level of the tree: which patterns never match because an earlier one does, and which values keep
//! requests from limits that the rule which they would meet otherwise has below it.

use std::collections::HashMap;

use super::{DomainLint, Exhausted, LintBudget};
use crate::rules::{
    LevelValue, Rule,
    tree::{LevelMatch, Pattern, Siblings},
    warning::Warning,
};

/// A value that no rule names, for a level that takes any.
const ANY_VALUE: &str = "\0";

impl DomainLint<'_> {
    pub(super) fn siblings(&mut self) {
        let tree = self.tree;
        for siblings in tree.siblings() {
            let mut last = None;
            let Err(Exhausted) = self.compare(siblings, &mut last) else { continue };
            let Some(rule) = last else { continue };
            let (key, at) = (siblings.key, self.locations.values[rule as usize]);
            let what =
                format!("from here on, the rules of `{key}` weren't compared with each other: they are too many");
            self.warn(rule, at, Warning::UncheckedRules, what)
                .hint("look at them yourself: the first pattern that matches counts, and a value's own rule before it");
        }
    }

    /// Looks at the rules of one key in their order; `last` is the one that it has come to.
    fn compare(&mut self, siblings: Siblings<'_>, last: &mut Option<u32>) -> Result<(), Exhausted> {
        let patterns = siblings.patterns();
        // Rules for single values alone neither cover nor hide each other.
        if patterns.is_empty() && siblings.any().is_none() {
            return Ok(());
        }
        let others = patterns.iter().map(|(_, rule)| *rule).chain(siblings.any());
        let first_limits: HashMap<u32, u32> =
            others.filter_map(|rule| Some((rule, self.first_limit_below(rule)?))).collect();
        let index = PatternIndex::new(patterns);
        for (position, (pattern, rule)) in patterns.iter().enumerate() {
            *last = Some(*rule);
            match index.first(pattern.text(), self.budget)? {
                Some(other) if other < position => self.warn_of_covered(*rule, pattern.text(), &patterns[other]),
                other => {
                    let otherwise = other.map(|other| patterns[other].1).or(siblings.any());
                    self.hidden(*rule, otherwise.and_then(|otherwise| first_limits.get(&otherwise)))?;
                }
            }
        }
        if let Some(any) = siblings.any()
            && let Some(all) = patterns.iter().find(|(pattern, _)| pattern.text().bytes().all(|byte| byte == b'*'))
        {
            *last = Some(any);
            self.warn_of_covered(any, "", all);
        }
        if first_limits.is_empty() {
            return Ok(());
        }
        let mut exact: Vec<(&str, u32)> = siblings.values().collect();
        exact.sort_unstable_by_key(|(_, rule)| *rule);
        for (value, rule) in exact {
            if !matches!(self.rules[rule as usize].path.last().map(|level| &level.value), Some(LevelValue::Exact(_))) {
                continue;
            }
            *last = Some(rule);
            let otherwise = index.first(value, self.budget)?.map(|position| patterns[position].1).or(siblings.any());
            self.hidden(rule, otherwise.and_then(|otherwise| first_limits.get(&otherwise)))?;
        }
        Ok(())
    }

    /// Warns of a pattern, or of a rule for any value (`text` is empty), that comes after one which matches all its values.
    fn warn_of_covered(&mut self, rule: u32, text: &str, (earlier, by): &(Pattern, u32)) {
        let (at, first) = (self.locations.values[rule as usize], self.location(*by, rule));
        let by = earlier.text();
        let (what, hint) = match text {
            "" => (
                format!("this rule for any other value never matches: pattern `{by}` in {first} matches every value"),
                "take one of them out",
            ),
            text => (
                format!("pattern `{text}` never matches: `{by}` in {first} matches all its values first"),
                "patterns are tried in the order in which they stand: put this one before it",
            ),
        };
        self.warn(rule, at, Warning::CoveredPattern, what).hint(hint);
    }

    /// Warns if a rule has nothing for descriptors for which the rule that its requests would meet without it has a limit
    /// below: `first` is the first rule there with one.
    fn hidden(&mut self, rule: u32, first: Option<&u32>) -> Result<(), Exhausted> {
        let Some(first) = first.copied() else { return Ok(()) };
        let own = &self.rules[rule as usize];
        let has_rules_below = self.below(rule).next().is_some();
        // It lets its value pass, and says so.
        if own.limits.is_empty() && !has_rules_below {
            return Ok(());
        }
        let mut hidden = None;
        for index in first..self.rules.len() as u32 {
            let other = &self.rules[index as usize];
            if index > first && other.path.len() <= own.path.len() {
                break;
            }
            self.budget.take(1)?;
            if !other.limits.is_empty() && !self.is_met(rule, other)? {
                hidden = Some(index);
                break;
            }
        }
        let Some(hidden) = hidden else { return Ok(()) };
        let level = own.path.last();
        let named = level.map_or_else(String::new, |level| match level.value.text() {
            Some(value) => format!("`{}={value}`", level.key),
            None => format!("`{}`", level.key),
        });
        let (at, location) = (self.locations.values[rule as usize], self.location(hidden, rule));
        let id = &self.rules[hidden as usize].id;
        let what =
            format!("{named} has no rule for what `{id}` in {location} limits, and matching doesn't go back to that");
        self.warn(rule, at, Warning::HiddenRules, what)
            .hint("repeat those descriptors below it; to change numbers alone, write an override below the other rule");
        Ok(())
    }

    /// Whether descriptors for which `other` has a limit meet a rule below `rule` as well. `other` stands below a rule for
    /// the same key.
    fn is_met(&mut self, rule: u32, other: &Rule) -> Result<bool, Exhausted> {
        let mut at = rule;
        for level in &other.path[self.rules[rule as usize].path.len()..] {
            let value = level.value.text().unwrap_or(ANY_VALUE);
            self.budget.take(1 + self.tree.patterns_at(at, &level.key))?;
            at = match self.tree.step(Some(at), &level.key, value) {
                Some(LevelMatch::Exact(rule) | LevelMatch::Pattern(_, rule) | LevelMatch::KeyOnly(rule)) => rule,
                _ => return Ok(false),
            };
        }
        Ok(true)
    }

    /// The rules below one, which stand behind it.
    fn below(&self, rule: u32) -> impl Iterator<Item = &Rule> {
        let depth = self.rules[rule as usize].path.len();
        self.rules[rule as usize + 1..].iter().take_while(move |below| below.path.len() > depth)
    }

    /// The first rule below one that has a limit.
    fn first_limit_below(&self, rule: u32) -> Option<u32> {
        self.below(rule).find(|below| !below.limits.is_empty()).map(|below| below.index)
    }
}

/// Finds the first pattern that matches a value without trying all of them: by their beginnings and ends, up to the first
/// star and from the last. It finds the pattern that covers another too, if it is asked for that one's text: no part of a
/// pattern between stars has a star in it, so where the other one's stars stand only stars of the pattern can.
pub(super) struct PatternIndex<'p> {
    patterns: &'p [(Pattern, u32)],
    /// Positions, lowest first.
    by_ends: HashMap<(&'p str, &'p str), Vec<u32>>,
    /// Lengths of beginnings and ends, shortest first.
    begins: Vec<usize>,
    ends: Vec<usize>,
}

impl<'p> PatternIndex<'p> {
    pub(super) fn new(patterns: &'p [(Pattern, u32)]) -> PatternIndex<'p> {
        let mut index = PatternIndex { patterns, by_ends: HashMap::new(), begins: Vec::new(), ends: Vec::new() };
        for (position, (pattern, _)) in (0..).zip(patterns) {
            let (begin, end) = ends(pattern.text());
            index.begins.push(begin.len());
            index.ends.push(end.len());
            index.by_ends.entry((begin, end)).or_default().push(position);
        }
        for lengths in [&mut index.begins, &mut index.ends] {
            lengths.sort_unstable();
            lengths.dedup();
        }
        index
    }

    /// The position of the first pattern that matches, besides the one that is written like the value.
    pub(super) fn first(&self, value: &str, budget: &mut LintBudget) -> Result<Option<usize>, Exhausted> {
        let mut first: Option<u32> = None;
        for begin in self.begins.iter().take_while(|length| **length <= value.len()) {
            let Some(begin) = value.get(..*begin) else { continue };
            for end in self.ends.iter().take_while(|length| **length <= value.len()) {
                let Some(end) = value.get(value.len() - end..) else { continue };
                budget.take(1 + (begin.len() + end.len()) / 64)?;
                let Some(positions) = self.by_ends.get(&(begin, end)) else { continue };
                for position in positions.iter().copied() {
                    if first.is_some_and(|first| first <= position) {
                        break;
                    }
                    budget.take(1 + value.len() / 64)?;
                    let pattern = &self.patterns[position as usize].0;
                    if *pattern.text() != *value && pattern.matches(value) {
                        first = Some(position);
                    }
                }
            }
        }
        Ok(first.map(|position| position as usize))
    }
}

/// What a pattern has before its first star, and behind its last.
fn ends(pattern: &str) -> (&str, &str) {
    let begin = pattern.split('*').next().unwrap_or_default();
    let end = pattern.rsplit('*').next().unwrap_or_default();
    (begin, end)
}
