//! Shapes: which keys a match names, without the values. All rows of one shape are looked up with one hash. It knows
//! which shapes fit a rule, and which of them comes first.

use std::{
    cmp::Reverse,
    hash::{BuildHasher as _, Hasher as _},
    sync::Arc,
};

use foldhash::fast::FixedState;
use smallvec::SmallVec;

use crate::{
    limit::Entry,
    rules::{Level, LevelValue, Rule},
};

/// Ways in which one shape may fit one rule: more than one only where a key stands several times in a rule's path.
pub(crate) const FITS_MAX: usize = 64;

/// Positions of keys in a rule's path.
pub(crate) type Positions = SmallVec<[u8; 8]>;

/// The entries that a row names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Shape {
    pub scope: ShapeScope,
    /// The keys in order of their positions in the rule. For the domain in alphabetical order, equal keys as they
    /// follow each other in a descriptor.
    pub keys: Box<[Box<str>]>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ShapeScope {
    /// Every rule of the domain whose path has these keys.
    Domain,
    /// One rule, by its id, and the positions of the keys in its path.
    Rule { id: Arc<str>, positions: Positions },
}

/// How rows of one shape are looked up for descriptors of one rule.
#[derive(Clone, Debug)]
pub struct Probe {
    /// Position of the shape in the list that the probe was made from.
    pub shape: u32,
    /// Positions of the entries whose values are looked up, in the shape's order.
    pub positions: Positions,
    /// The rule's [`Rule::shared`], without the positions that rows of this shape name: a client with a limit of its
    /// own also has a counter of its own. `None` if there is no difference.
    pub shared: Option<Box<[Option<Box<str>>]>>,
}

/// The probes of a rule among `shapes`, in the order in which they win: most keys first, then the leftmost key, then the
/// rule's own before the domain's.
pub fn probes<'s>(rule: &Rule, shapes: impl IntoIterator<Item = &'s Shape>) -> Vec<Probe> {
    let mut found: Vec<(Reverse<Rank>, Probe)> = Vec::new();
    for (index, shape) in shapes.into_iter().enumerate() {
        let fits = match &shape.scope {
            ShapeScope::Rule { id, positions } if *id == rule.id => vec![positions.clone()],
            ShapeScope::Rule { .. } => Vec::new(),
            ShapeScope::Domain => fits(&shape.keys, &rule.path),
        };
        for positions in fits {
            let rank = rank(&positions, shape.scope != ShapeScope::Domain);
            let shared = own_counters(rule, &positions);
            found.push((Reverse(rank), Probe { shape: index as u32, positions, shared }));
        }
    }
    found.sort_by_key(|(rank, _)| *rank);
    found.into_iter().map(|(_, probe)| probe).collect()
}

/// The rank of a probe: number of keys, then the keys from left to right as bits from high to low, then whether it is
/// the rule's own.
pub(super) type Rank = (usize, u32, bool);

pub(super) fn rank(positions: &[u8], is_own: bool) -> Rank {
    let bits = positions.iter().fold(0, |bits, position| bits | 1u32 << (31 - position));
    (positions.len(), bits, is_own)
}

/// Every way in which `keys`, sorted, can stand at different levels of a path, equal ones from left to right; at most
/// [`FITS_MAX`], and one more to tell that there are more.
pub(crate) fn fits(keys: &[Box<str>], path: &[Arc<Level>]) -> Vec<Positions> {
    fn extend(keys: &[Box<str>], path: &[Arc<Level>], chosen: &mut Positions, found: &mut Vec<Positions>) {
        let Some(key) = keys.get(chosen.len()) else {
            found.push(chosen.clone());
            return;
        };
        // An equal key before this one has a position further left.
        let from = match chosen.last() {
            Some(last) if keys[chosen.len() - 1] == *key => usize::from(*last) + 1,
            _ => 0,
        };
        for position in from..path.len() {
            if path[position].key == *key && found.len() <= FITS_MAX {
                chosen.push(position as u8);
                extend(keys, path, chosen, found);
                chosen.pop();
            }
        }
    }
    let mut found = Vec::new();
    if keys.len() <= path.len() {
        extend(keys, path, &mut Positions::new(), &mut found);
    }
    found
}

fn own_counters(rule: &Rule, positions: &[u8]) -> Option<Box<[Option<Box<str>>]>> {
    let is_shared = |position: &u8| rule.shared[usize::from(*position)].is_some();
    positions.iter().any(is_shared).then(|| {
        let shared = rule.shared.iter().enumerate();
        shared.map(|(at, pattern)| pattern.clone().filter(|_| !positions.contains(&(at as u8)))).collect()
    })
}

impl Probe {
    /// The values of a descriptor at the shape's keys. The descriptor must have matched the probe's rule.
    pub fn values<'a>(&self, entries: &'a [Entry<'_>]) -> impl Iterator<Item = &'a str> + Clone {
        self.positions.iter().map(|position| entries[usize::from(*position)].value)
    }
}

/// The hash by which rows of a shape are found. Every decision computes it, so it takes few steps: the hasher mixes
/// each value on its own and with its length, so that ("a", "bc") and ("ab", "c") differ.
#[inline]
pub fn hash<'v>(shape: u32, values: impl Iterator<Item = &'v str>) -> u64 {
    let mut hasher = FixedState::with_seed(u64::from(shape)).build_hasher();
    values.for_each(|value| hasher.write(value.as_bytes()));
    hasher.finish()
}

/// Whether a level can match a value at all.
pub(crate) fn meets(level: &Level, value: &str) -> bool {
    match &level.value {
        LevelValue::Any => true,
        LevelValue::Exact(text) => **text == *value,
        LevelValue::Pattern(pattern) => pattern.matches(value),
    }
}
