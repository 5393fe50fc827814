//! Where the entries of a row's match belong: in a rule's path, or anywhere in its domain; and whether any rule ever asks
//! for them. Knows nothing of how rows are written.

use std::{collections::BTreeSet, sync::Arc};

use smallvec::SmallVec;

use super::{
    Shape, ShapeScope,
    shape::{FITS_MAX, Positions, fits, meets},
    star,
};
use crate::rules::{Level, Rule, fields::nearest, node::Location, pen::NodeReader};

/// Longest value of a match in bytes: rows stay in memory.
pub(super) const VALUE_MAX: usize = 128 << 10;

/// The rule or rules that a row is for.
#[derive(Clone, Copy)]
pub(crate) enum RowTarget<'r> {
    Rule {
        id: &'r Arc<str>,
        path: &'r [Arc<Level>],
    },
    /// Every rule that has its keys.
    Domain {
        rules: &'r [Rule],
        keys: &'r BTreeSet<&'r str>,
    },
}

/// A part of a row's match, for the location of a problem.
#[derive(Clone, Copy)]
pub(crate) enum MatchPart {
    Row,
    Key(usize),
    Value(usize),
}

/// A match in the order of its shape: which of the entries as they were written comes where.
pub(crate) struct MatchOrder {
    pub(crate) order: SmallVec<[u8; 8]>,
    /// Positions in a rule's path; none if the row is for the domain.
    pub(crate) positions: Option<Positions>,
}

impl NodeReader<'_> {
    /// The values that are meant where any was written with a star, in their order; empty where none was.
    pub(crate) fn values_with_stars(
        &mut self,
        named: &[(&str, &str)],
        location: &dyn Fn(MatchPart) -> Location,
    ) -> Option<Vec<String>> {
        // Nearly no match has one, and there may be a million of them.
        if named.iter().all(|(_, value)| !value.contains('*')) {
            return Some(Vec::new());
        }
        let errors = self.report.errors();
        let mut meant = Vec::with_capacity(named.len());
        for (index, (_, value)) in named.iter().enumerate() {
            match star::read(value) {
                Some(value) => meant.push(value.into_owned()),
                None => {
                    let (what, hint) = star::refusal(value);
                    self.error(location(MatchPart::Value(index)), what).hint(hint);
                }
            }
        }
        (self.report.errors() == errors).then_some(meant)
    }

    /// Finds where the entries of a match belong.
    pub(crate) fn order_match(
        &mut self,
        named: &[(&str, &str)],
        target: RowTarget<'_>,
        location: &dyn Fn(MatchPart) -> Location,
    ) -> Option<MatchOrder> {
        if named.is_empty() {
            self.error(location(MatchPart::Row), "this override names no key: it would be for everybody")
                .hint("change the rule's own limit instead");
            return None;
        }
        let mut is_sound = true;
        for (index, (key, value)) in named.iter().enumerate() {
            let what = match value.len() {
                0 => format!("the value of `{key}` is empty"),
                length if length > VALUE_MAX => format!("a value of {length} bytes is longer than {VALUE_MAX}"),
                _ => continue,
            };
            self.error(location(MatchPart::Value(index)), what).hint("leave the key out to match any value");
            is_sound = false;
        }
        let bound = match target {
            RowTarget::Rule { path, .. } => self.order_in_path(named, target, path, location)?,
            RowTarget::Domain { keys, .. } => self.order_in_domain(named, target, keys, location)?,
        };
        is_sound.then_some(bound)
    }

    fn order_in_domain(
        &mut self,
        named: &[(&str, &str)],
        target: RowTarget<'_>,
        keys: &BTreeSet<&str>,
        location: &dyn Fn(MatchPart) -> Location,
    ) -> Option<MatchOrder> {
        let mut is_sound = true;
        for (index, (key, _)) in named.iter().enumerate().filter(|(_, (key, _))| !keys.contains(key)) {
            is_sound &= self.check_key(key, target, location(MatchPart::Key(index)));
        }
        let mut order: SmallVec<[u8; 8]> = (0..named.len() as u8).collect();
        order.sort_by_key(|index| named[usize::from(*index)].0);
        is_sound.then_some(MatchOrder { order, positions: None })
    }

    fn order_in_path(
        &mut self,
        named: &[(&str, &str)],
        target: RowTarget<'_>,
        path: &[Arc<Level>],
        location: &dyn Fn(MatchPart) -> Location,
    ) -> Option<MatchOrder> {
        let mut found: SmallVec<[(u8, u8); 8]> = SmallVec::new();
        for (index, (key, _)) in named.iter().enumerate() {
            if !path.iter().any(|level| *level.key == **key) {
                self.check_key(key, target, location(MatchPart::Key(index)));
                return None;
            }
            let alike = named.iter().take(index).filter(|(other, _)| other == key).count();
            let position = self.position(named, index, alike, path, location)?;
            found.push((position, index as u8));
        }
        found.sort_unstable();
        let (positions, order) = found.into_iter().unzip();
        Some(MatchOrder { order, positions: Some(positions) })
    }

    /// The position in the rule's path of the entry `index`, which is number `alike` of the entries with its key.
    fn position(
        &mut self,
        named: &[(&str, &str)],
        index: usize,
        alike: usize,
        path: &[Arc<Level>],
        location: &dyn Fn(MatchPart) -> Location,
    ) -> Option<u8> {
        let (key, value) = named[index];
        let at: SmallVec<[usize; 4]> = (0..path.len()).filter(|position| *path[*position].key == *key).collect();
        let of_key = named.iter().filter(|(other, _)| *other == key).count();
        if of_key > at.len() {
            let what = format!("`{key}` is named {of_key} times, and stands {} in the rule's path", times(at.len()));
            self.error(location(MatchPart::Key(index)), what);
            return None;
        }
        let fitting: SmallVec<[usize; 4]> =
            at.iter().copied().filter(|position| meets(&path[*position], value)).collect();
        let chosen = match fitting.as_slice() {
            _ if of_key == at.len() => Some(at[alike]).filter(|position| meets(&path[*position], value)),
            [] => None,
            [only] => Some(*only),
            _ => {
                let what = format!("`{key}` stands {} in the rule's path: which one is meant?", times(at.len()));
                self.error(location(MatchPart::Key(index)), what).hint("name them all, in their order");
                return None;
            }
        };
        if chosen.is_none() {
            let own = path[at[alike.min(at.len() - 1)]].value.text().unwrap_or_default();
            let what = format!("`{key}` is `{own}` in this rule: `{value}` never gets here");
            self.error(location(MatchPart::Value(index)), what);
        }
        chosen.map(|position| position as u8)
    }

    /// Whether a row may name a key; reports a problem if it may not.
    pub(crate) fn check_key(&mut self, key: &str, target: RowTarget<'_>, at: Location) -> bool {
        let (names, what): (Vec<&str>, _) = match target {
            RowTarget::Rule { path, .. } => (path.iter().map(|level| &*level.key).collect(), "this rule's path has no"),
            RowTarget::Domain { keys, .. } => (keys.iter().copied().collect(), "no rule of this domain has the"),
        };
        if names.contains(&key) {
            return true;
        }
        let problem = self.error(at, format!("{what} key `{key}`"));
        match nearest(key, &names) {
            Some(meant) => problem.hint(format!("did you mean `{meant}`?")),
            None if names.len() <= 20 => problem.hint(format!("it may name {}", names.join(", "))),
            None => {}
        }
        false
    }

    /// Whether any rule will ever ask for such rows.
    pub(crate) fn check_shape(&mut self, shape: &Shape, target: RowTarget<'_>, at: Location) {
        let RowTarget::Domain { rules, .. } = target else { return };
        let ways = |rule: &Rule| fits(&shape.keys, &rule.path).len();
        let most = rules.iter().map(ways).max().unwrap_or(0);
        let keys = shape.keys.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(" and ");
        if most == 0 {
            self.error(at, format!("no rule has {keys} in one descriptor: this override would never apply"));
        } else if most > FITS_MAX {
            self.error(at, format!("{keys} can be found in a rule's path in more than {FITS_MAX} ways"));
        }
    }
}

/// The match with the values that [`NodeReader::values_with_stars`] found; empty where it found none.
pub(crate) fn with_values<'n>(named: &[(&'n str, &str)], values: &'n [String]) -> Vec<(&'n str, &'n str)> {
    named.iter().zip(values).map(|((key, _), value)| (*key, &**value)).collect()
}

impl RowTarget<'_> {
    pub(crate) fn shape(&self, named: &[(&str, &str)], bound: &MatchOrder) -> Shape {
        let keys = bound.order.iter().map(|index| named[usize::from(*index)].0.into()).collect();
        let scope = match (self, &bound.positions) {
            (RowTarget::Rule { id, .. }, Some(positions)) => {
                ShapeScope::Rule { id: Arc::clone(id), positions: positions.clone() }
            }
            _ => ShapeScope::Domain,
        };
        Shape { scope, keys }
    }
}

fn times(number: usize) -> String {
    match number {
        1 => "once".to_owned(),
        2 => "twice".to_owned(),
        number => format!("{number} times"),
    }
}
