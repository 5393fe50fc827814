//! Which requests would meet another rule. Both trees are walked together, entry by entry: at each step every value that
//! either tree names is tried, one for each pattern (and for two patterns one that both match), and one that no tree
//! names. Each descriptor found so is asked of both; where the answers differ it is a witness.
//!
//! Example: before, `user` has `endpoint` below it; after, `user=alice` is a rule of its own with nothing below. The walk
//! tries `user=alice`, which leads to `user` before and to `user=alice` after, and from there `endpoint=x`: a descriptor
//! that met `api/user/endpoint` and now meets nothing.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use super::Rules;
use crate::rules::{
    Domain, Rule,
    tree::{LevelMatch, Pattern},
};

/// Descriptors that are tried at most.
const TRIED_MAX: usize = 2_000_000;

/// Different pairs of rules that are told at most.
const FOUND_MAX: usize = 10_000;

/// Descriptors that are kept for each pair of rules.
const EXAMPLES_MAX: usize = 3;

/// Patterns of one key, of both trees, of which each pair is tried.
const PATTERNS_MAX: usize = 64;

/// The requests that meet another rule.
#[derive(Clone, Debug, Default)]
pub struct OtherRules {
    pub found: Vec<OtherRule>,
    /// Number of descriptors that were asked of both trees.
    pub tried: usize,
    /// Whether there was more to try, or to tell, than is done.
    pub is_cut: bool,
}

/// Requests that met one rule, and would meet another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtherRule {
    pub domain: Box<str>,
    /// The ids of the rules; `None`: no rule is met.
    pub before: Option<Arc<str>>,
    pub after: Option<Arc<str>>,
    /// Whether the rules limit whom they meet: one without a limit, or none, admits all.
    pub limited: (bool, bool),
    /// Descriptors that show it: key and value of each entry.
    pub examples: Vec<Vec<(Box<str>, Box<str>)>>,
    /// Number of such descriptors among those that were tried.
    pub descriptors: usize,
}

impl std::fmt::Display for OtherRule {
    /// Writes `(user=alice)(endpoint=/x) met api/user/endpoint, now nothing`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (key, value) in self.examples.first().into_iter().flatten() {
            write!(f, "({key}={value})")?;
        }
        let name = |rule: &Option<Arc<str>>| rule.as_deref().unwrap_or("nothing").to_owned();
        write!(f, " met {}, now {}", name(&self.before), name(&self.after))?;
        if self.after.is_some() && self.limited == (true, false) {
            f.write_str(" without a limit")?;
        }
        match self.descriptors {
            1 => Ok(()),
            2 => f.write_str(", and one more descriptor does"),
            more => write!(f, ", and {} more descriptors do", more - 1),
        }
    }
}

pub(super) fn find(before: &Rules, after: &Rules) -> OtherRules {
    let mut all = OtherRules::default();
    for trees in super::domains(before, after) {
        // Of a domain that is new or gone all differs.
        let (Some(old), Some(new)) = trees else { continue };
        let mut walk = Walk { trees: [old, new], seen: HashSet::new(), found: HashMap::new(), path: Vec::new(), all };
        walk.below([Some(None), Some(None)]);
        all = walk.all;
    }
    let weight = |found: &OtherRule| match found.limited {
        (true, false) => 0,
        (true, true) => 1,
        (false, true) => 2,
        (false, false) => 3,
    };
    all.found.sort_by_key(weight);
    all
}

/// A place in a tree: `None` if the tree has nothing there, `Some(None)` its root, else the rule that was reached.
type Place = Option<Option<u32>>;

struct Walk<'r> {
    trees: [&'r Domain; 2],
    /// Pairs of places that were walked: what is below them differs alike, however they are reached.
    seen: HashSet<[Place; 2]>,
    found: HashMap<[Option<&'r Arc<str>>; 2], usize>,
    path: Vec<(Box<str>, Box<str>)>,
    all: OtherRules,
}

impl<'r> Walk<'r> {
    fn below(&mut self, places: [Place; 2]) {
        if !self.seen.insert(places) {
            return;
        }
        let keys: BTreeSet<&'r str> = self.sides(places).flat_map(|(domain, at)| domain.tree.keys(at)).collect();
        for key in keys {
            for value in self.values(places, key) {
                if self.all.tried == TRIED_MAX {
                    self.all.is_cut = true;
                    return;
                }
                self.all.tried += 1;
                let next: [Place; 2] = std::array::from_fn(|side| self.step(side, places[side], key, &value));
                if next == [None, None] {
                    continue;
                }
                self.path.push((key.into(), value.into()));
                self.compare(next);
                self.below(next);
                self.path.pop();
            }
        }
    }

    /// The trees that have something there, each with its place.
    fn sides(&self, places: [Place; 2]) -> impl Iterator<Item = (&'r Domain, Option<u32>)> + use<'r> {
        self.trees.into_iter().zip(places).filter_map(|(domain, place)| Some((domain, place?)))
    }

    fn step(&self, side: usize, place: Place, key: &str, value: &str) -> Place {
        match self.trees[side].tree.step(place?, key, value)? {
            LevelMatch::Exact(rule) | LevelMatch::Pattern(_, rule) | LevelMatch::KeyOnly(rule) => Some(Some(rule)),
            LevelMatch::UnknownKey | LevelMatch::UnknownValue => None,
        }
    }

    fn rule(&self, side: usize, place: Place) -> Option<&'r Rule> {
        self.trees[side].rules.get(place?? as usize)
    }

    /// The values of a key that are tried.
    fn values(&self, places: [Place; 2], key: &str) -> Vec<String> {
        let (mut exact, mut patterns): (BTreeSet<&str>, Vec<&Pattern>) = Default::default();
        for (domain, at) in self.sides(places) {
            let (own, of_patterns) = domain.tree.values(at, key);
            exact.extend(own);
            patterns.extend(of_patterns);
        }
        let fresh = fresh(&exact, &patterns);
        let mut values: Vec<String> = exact.iter().map(|value| (*value).to_owned()).collect();
        let mut known: HashSet<String> = values.iter().cloned().collect();
        let mut add = |value: String| {
            if known.insert(value.clone()) {
                values.push(value);
            }
        };
        patterns.sort_by_key(|pattern| pattern.text());
        patterns.dedup();
        let filled = |pattern: &Pattern, with: &str| pattern.text().replace('*', with);
        for pattern in &patterns {
            let is_alone = |value: &String| {
                !exact.contains(value.as_str())
                    && !patterns.iter().any(|other| other != pattern && other.matches(value))
            };
            let fills = ["x", "y", "z", "xx", ""].map(|fill| filled(pattern, fill));
            add(fills.iter().find(|value| is_alone(value)).unwrap_or(&fills[0]).clone());
        }
        for one in patterns.iter().take(PATTERNS_MAX) {
            for other in patterns.iter().take(PATTERNS_MAX).filter(|other| other != &one) {
                let both = filled(one, &filled(other, "x"));
                if one.matches(&both) && other.matches(&both) {
                    add(both);
                }
            }
        }
        add(fresh);
        values
    }

    /// Notes it if the descriptor meets another rule, and either of both says anything.
    fn compare(&mut self, places: [Place; 2]) {
        let [before, after] = [self.rule(0, places[0]), self.rule(1, places[1])];
        let ids = [before, after].map(|rule| rule.map(|rule| &rule.id));
        let says = |rule: &&Rule| rule.unlimited || !rule.limits.is_empty() || rule.probes.is_some();
        if ids[0] == ids[1] || ![before, after].iter().flatten().any(says) {
            return;
        }
        if self.all.found.len() == FOUND_MAX && !self.found.contains_key(&ids) {
            self.all.is_cut = true;
            return;
        }
        let domain = self.trees[0].name().into();
        let limits = |rule: Option<&Rule>| rule.is_some_and(|rule| !rule.limits.is_empty());
        let limited = (limits(before), limits(after));
        let all = &mut self.all.found;
        let at = *self.found.entry(ids).or_insert_with(|| {
            let [before, after] = ids.map(|id| id.cloned());
            all.push(OtherRule { domain, before, after, limited, examples: Vec::new(), descriptors: 0 });
            all.len() - 1
        });
        let found = &mut all[at];
        found.descriptors += 1;
        if found.examples.len() < EXAMPLES_MAX {
            found.examples.push(self.path.clone());
        }
    }
}

/// A value that no rule names and no pattern matches; or, where a pattern matches all, one that it alone does.
fn fresh(exact: &BTreeSet<&str>, patterns: &[&Pattern]) -> String {
    let first = exact.iter().copied().chain(patterns.iter().map(|pattern| pattern.text())).next().unwrap_or_default();
    let slash = if first.starts_with('/') { "/" } else { "" };
    let is_free =
        |value: &String| !exact.contains(value.as_str()) && !patterns.iter().any(|pattern| pattern.matches(value));
    let candidates = || ["x", "y", "z"].into_iter().flat_map(|letter| (1..=8).map(move |times| letter.repeat(times)));
    let candidates = candidates().map(|text| format!("{slash}{text}")).chain(candidates());
    candidates.clone().find(is_free).unwrap_or_else(|| format!("{slash}x"))
}
