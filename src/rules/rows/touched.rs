//! Which rules an override is for: where a descriptor that ends there has the entries of its match. For its author to see
//! before it is in force; decisions never ask.

use smallvec::SmallVec;

use super::{
    Shape, ShapeScope,
    shape::{Positions, fits, meets},
};
use crate::{
    limit::Entry,
    rules::{DomainIndex, LevelValue, Rule, RuleMatch, Rules},
};

/// A value that nobody has: of entries that a match doesn't name.
const ANYBODY: &str = "\u{0}";

/// A rule that an override is for.
pub struct TouchedRule<'r> {
    pub rule: &'r Rule,
    /// A descriptor that ends there and has only the entries of the match in particular; `None` where such a descriptor
    /// would have to be guessed, because a level is a pattern.
    pub descriptor: Option<Vec<Entry<'r>>>,
}

impl Rules {
    /// The rules that a match is for, in their order.
    pub fn touched<'r>(&'r self, domain: DomainIndex, shape: &Shape, values: &'r [Box<str>]) -> Vec<TouchedRule<'r>> {
        let domain = &self.domains()[domain.0 as usize];
        let touched = |rule: &'r Rule| {
            let ways: SmallVec<[Positions; 2]> = match &shape.scope {
                ShapeScope::Rule { id, positions } if *id == rule.id => std::iter::once(positions.clone()).collect(),
                ShapeScope::Rule { .. } => return None,
                // Most rules are passed over here, without an allocation.
                ShapeScope::Domain if !has_keys(rule, &shape.keys) => return None,
                ShapeScope::Domain => fits(&shape.keys, &rule.path).into(),
            };
            ways.iter().find_map(|positions| {
                let pairs = || positions.iter().map(|position| usize::from(*position)).zip(values);
                if !pairs().all(|(position, value)| meets(&rule.path[position], value)) {
                    return None;
                }
                let Some(descriptor) = descriptor(rule, pairs) else {
                    return Some(TouchedRule { rule, descriptor: None });
                };
                // A rule above it for this very value hides it.
                let found = self.find(domain.name(), &descriptor);
                let is_met = matches!(found, RuleMatch::Rule { rule: met, .. } if std::ptr::eq(met, rule));
                is_met.then_some(TouchedRule { rule, descriptor: Some(descriptor) })
            })
        };
        domain.rules().iter().filter_map(touched).collect()
    }
}

fn has_keys(rule: &Rule, keys: &[Box<str>]) -> bool {
    keys.len() <= rule.path.len() && keys.iter().all(|key| rule.path.iter().any(|level| level.key == *key))
}

fn descriptor<'r, P: Iterator<Item = (usize, &'r Box<str>)>>(
    rule: &'r Rule,
    pairs: impl Fn() -> P,
) -> Option<Vec<Entry<'r>>> {
    let entry = |(position, level): (usize, &'r std::sync::Arc<crate::rules::Level>)| {
        let matched = pairs().find(|(at, _)| *at == position).map(|(_, value)| &**value);
        let value = match (matched, &level.value) {
            (Some(value), _) => value,
            (None, LevelValue::Exact(text)) => text,
            (None, LevelValue::Any) => ANYBODY,
            (None, LevelValue::Pattern(_)) => return None,
        };
        Some(Entry { key: &level.key, value })
    };
    rule.path.iter().enumerate().map(entry).collect()
}
