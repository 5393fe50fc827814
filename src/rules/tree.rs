//! The tree that descriptors are matched against: hashed by key, then by value. Matching never allocates.

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use super::LevelValue;

/// A value with `*` in it: each star matches any run of characters, also none.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pattern {
    text: Box<str>,
}

impl Pattern {
    pub fn new(text: &str) -> Pattern {
        Pattern { text: text.into() }
    }

    /// The pattern as the rule writes it.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether the pattern matches a value. Both ends are anchored. Text between stars is searched from left to right
    /// and taken where it first occurs, which leaves the most for what follows.
    pub fn matches(&self, value: &str) -> bool {
        let Some((first, rest)) = self.text.split_once('*') else { return *self.text == *value };
        let (middle, last) = rest.rsplit_once('*').unwrap_or(("", rest));
        let Some(value) = value.strip_prefix(first) else { return false };
        let Some(mut value) = value.strip_suffix(last) else { return false };
        for part in middle.split('*') {
            match value.find(part) {
                Some(at) => value = &value[at + part.len()..],
                None => return false,
            }
        }
        true
    }
}

/// The tree of a domain's rules, by position in its list.
#[derive(Default)]
pub(super) struct Tree {
    root: Branch,
    below: Vec<Option<Box<Branch>>>,
}

#[derive(Default)]
struct Branch {
    keys: HashMap<Box<str>, Values, FixedState>,
}

/// The rules of one key at one level.
#[derive(Default)]
struct Values {
    /// Rules by exact value. Patterns are here too, by their text: a value that is written like the pattern matches it
    /// first.
    exact: HashMap<Box<str>, u32, FixedState>,
    /// Rules with patterns in declaration order: the first that matches counts.
    patterns: Vec<(Pattern, u32)>,
    any: Option<u32>,
}

/// What one entry matches at its level.
pub(super) enum LevelMatch<'t> {
    Exact(u32),
    Pattern(&'t Pattern, u32),
    KeyOnly(u32),
    UnknownValue,
    UnknownKey,
}

/// The rules of one key at one level.
#[derive(Clone, Copy)]
pub(super) struct Siblings<'t> {
    pub(super) key: &'t str,
    values: &'t Values,
}

impl<'t> Siblings<'t> {
    /// The rules for single values, in no order, with those of patterns, by their text.
    pub(super) fn values(self) -> impl Iterator<Item = (&'t str, u32)> {
        self.values.exact.iter().map(|(value, rule)| (&**value, *rule))
    }

    /// The rules for patterns, in the order in which they are tried.
    pub(super) fn patterns(self) -> &'t [(Pattern, u32)] {
        &self.values.patterns
    }

    /// The rule for all other values.
    pub(super) fn any(self) -> Option<u32> {
        self.values.any
    }
}

impl Tree {
    /// All rules, those of one key at one level together.
    pub(super) fn siblings(&self) -> impl Iterator<Item = Siblings<'_>> {
        let branches = std::iter::once(&self.root).chain(self.below.iter().flatten().map(|branch| &**branch));
        branches.flat_map(|branch| branch.keys.iter()).map(|(key, values)| Siblings { key, values })
    }

    /// How many patterns a step down with this key may have to try.
    pub(super) fn patterns_at(&self, at: u32, key: &str) -> usize {
        let branch = self.below[at as usize].as_deref();
        branch.and_then(|branch| branch.keys.get(key)).map_or(0, |values| values.patterns.len())
    }

    /// Inserts the next rule below another or at the root; returns the rule that already is at its place, if there is
    /// one.
    pub(super) fn insert(&mut self, parent: Option<u32>, key: &str, value: &LevelValue) -> Option<u32> {
        let index = self.below.len() as u32;
        let branch = match parent {
            Some(parent) => self.below[parent as usize].get_or_insert_default(),
            None => &mut self.root,
        };
        let values = branch.keys.entry(key.into()).or_default();
        let taken = match value {
            LevelValue::Any => values.any,
            LevelValue::Exact(text) => values.exact.get(text).copied(),
            LevelValue::Pattern(pattern) => values.exact.get(&pattern.text).copied(),
        };
        if taken.is_some() {
            return taken;
        }
        match value {
            LevelValue::Any => values.any = Some(index),
            LevelValue::Exact(text) => drop(values.exact.insert(text.clone(), index)),
            LevelValue::Pattern(pattern) => {
                values.patterns.push((pattern.clone(), index));
                values.exact.insert(pattern.text.clone(), index);
            }
        }
        self.below.push(None);
        None
    }

    /// The keys that rules below one name, or at the root, in the order of the alphabet.
    pub(super) fn keys(&self, at: Option<u32>) -> Vec<&str> {
        let mut keys: Vec<&str> =
            self.branch(at).into_iter().flat_map(|branch| branch.keys.keys()).map(|key| &**key).collect();
        keys.sort_unstable();
        keys
    }

    /// The values that rules of a key name there, in the order of the alphabet, and their patterns, in declaration order.
    pub(super) fn values(&self, at: Option<u32>, key: &str) -> (Vec<&str>, Vec<&Pattern>) {
        let Some(values) = self.branch(at).and_then(|branch| branch.keys.get(key)) else {
            return (Vec::new(), Vec::new());
        };
        let is_pattern = |text: &str| values.patterns.iter().any(|(pattern, _)| *pattern.text == *text);
        let mut exact: Vec<&str> = values.exact.keys().map(|text| &**text).filter(|text| !is_pattern(text)).collect();
        exact.sort_unstable();
        (exact, values.patterns.iter().map(|(pattern, _)| pattern).collect())
    }

    #[inline(always)]
    fn branch(&self, at: Option<u32>) -> Option<&Branch> {
        match at {
            Some(at) => self.below[at as usize].as_deref(),
            None => Some(&self.root),
        }
    }

    /// One step down the tree: `at` is the rule that was reached, none at first. `None` if nothing is below it.
    pub(super) fn step(&self, at: Option<u32>, key: &str, value: &str) -> Option<LevelMatch<'_>> {
        let branch = self.branch(at)?;
        let Some(values) = branch.keys.get(key) else { return Some(LevelMatch::UnknownKey) };
        if let Some(index) = values.exact.get(value) {
            return Some(LevelMatch::Exact(*index));
        }
        if let Some((pattern, index)) = values.patterns.iter().find(|(pattern, _)| pattern.matches(value)) {
            return Some(LevelMatch::Pattern(pattern, *index));
        }
        Some(match values.any {
            Some(index) => LevelMatch::KeyOnly(index),
            None => LevelMatch::UnknownValue,
        })
    }
}
