//! Rows by what they match. An index never changes once it was handed out: a change copies the few hundred pointers
//! beside it and shares the rest, so a decision borrows one whole state and never waits. How rows are read is not known
//! here.

use std::{
    hash::{BuildHasher, Hasher},
    sync::Arc,
};

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use smallvec::SmallVec;

use super::row::Row;
use crate::limit::{Entry, UnixMicros};

/// Branches of each of two levels: with a million rows a leaf has 244.
const BRANCHES: usize = 64;

/// All rows of a domain, of this moment.
#[derive(Clone, Default)]
pub(super) struct Index {
    root: Arc<Vec<Arc<Vec<Arc<Leaf>>>>>,
    /// The sets of keys that rows name, those with most keys first: a look-up tries each, so their number counts, not
    /// that of the rows.
    masks: Arc<Vec<Mask>>,
}

#[derive(Clone, Default)]
struct Leaf(HashTable<Arc<Row>>);

#[derive(Clone)]
struct Mask {
    keys: Arc<[Box<str>]>,
    rows: usize,
}

/// Where the keys of a mask stand among a descriptor's entries.
type Positions = SmallVec<[u8; 8]>;

impl Index {
    pub(super) fn is_empty(&self) -> bool {
        self.masks.is_empty()
    }

    pub(super) fn insert(&mut self, row: Arc<Row>) {
        let masks = Arc::make_mut(&mut self.masks);
        match masks.iter_mut().find(|mask| mask.keys == row.keys) {
            Some(mask) => mask.rows += 1,
            None => {
                let at = masks.partition_point(|mask| mask.keys.len() >= row.keys.len());
                masks.insert(at, Mask { keys: Arc::clone(&row.keys), rows: 1 });
            }
        }
        self.leaf(row.hash).0.insert_unique(row.hash, row, |row| row.hash);
    }

    pub(super) fn remove(&mut self, row: &Arc<Row>) {
        let leaf = self.leaf(row.hash);
        let Ok(found) = leaf.0.find_entry(row.hash, |other| Arc::ptr_eq(other, row)) else { return };
        found.remove();
        let masks = Arc::make_mut(&mut self.masks);
        if let Some(at) = masks.iter().position(|mask| mask.keys == row.keys) {
            masks[at].rows -= 1;
            if masks[at].rows == 0 {
                masks.remove(at);
            }
        }
    }

    /// The row that holds for a descriptor that ends at `rule`: the one with most keys; among those the one that names
    /// the leftmost key; then one for this rule only; then the one written last. What has ended doesn't count.
    pub(super) fn find(&self, rule: &str, entries: &[Entry<'_>], now: UnixMicros) -> Option<&Arc<Row>> {
        let mut best: Option<(&Arc<Row>, Positions)> = None;
        for mask in self.masks.iter() {
            if best.as_ref().is_some_and(|(row, _)| row.keys.len() > mask.keys.len()) {
                break;
            }
            let Some(positions) = positions(&mask.keys, entries) else { continue };
            let hash =
                hash(mask.keys.iter().zip(&positions).map(|(key, at)| (&**key, entries[usize::from(*at)].value)));
            let leaf = self.root.get(branch(hash)).and_then(|node| node.get(branch(hash >> 6)));
            let rows = leaf.into_iter().flat_map(|leaf| leaf.0.iter_hash(hash));
            let fits = |row: &&Arc<Row>| {
                row.hash == hash
                    && row.keys == mask.keys
                    && row.values.iter().zip(&positions).all(|(value, at)| **value == *entries[usize::from(*at)].value)
                    && row.rule.as_deref().is_none_or(|only| only == rule)
                    && row.expires.is_none_or(|expires| now < expires)
            };
            let Some(row) = rows.filter(fits).max_by_key(|row| (row.rule.is_some(), row.version)) else { continue };
            let mut sorted = positions;
            sorted.sort_unstable();
            if best.as_ref().is_none_or(|(_, at)| sorted < *at) {
                best = Some((row, sorted));
            }
        }
        best.map(|(row, _)| row)
    }

    fn leaf(&mut self, hash: u64) -> &mut Leaf {
        let root = Arc::make_mut(&mut self.root);
        if root.is_empty() {
            let leaf = Arc::new(Leaf::default());
            let node = Arc::new(vec![leaf; BRANCHES]);
            *root = vec![node; BRANCHES];
        }
        let node = Arc::make_mut(&mut root[branch(hash)]);
        Arc::make_mut(&mut node[branch(hash >> 6)])
    }
}

fn branch(hash: u64) -> usize {
    // The table in the leaf goes by the upper and lower bits: take others.
    (hash >> 20) as usize % BRANCHES
}

/// Where each key stands; a key that is named twice stands at its first place, then at its second. `None` where one is
/// missing.
fn positions(keys: &[Box<str>], entries: &[Entry<'_>]) -> Option<Positions> {
    let mut positions = Positions::new();
    for (nth, key) in keys.iter().enumerate() {
        let before = keys[..nth].iter().filter(|other| *other == key).count();
        let mut same = (0..entries.len()).filter(|at| entries[*at].key == &**key);
        positions.push(u8::try_from(same.nth(before)?).ok()?);
    }
    Some(positions)
}

/// Of what a row matches: keys and values in the order of its keys.
pub(super) fn hash<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> u64 {
    let mut hasher = FixedState::default().build_hasher();
    for (key, value) in pairs {
        for part in [key, value] {
            hasher.write_u64(part.len() as u64);
            hasher.write(part.as_bytes());
        }
    }
    hasher.finish()
}
