//! Counts the heaviest of many keys in little memory: space-saving with a filter (Homem and Carvalho, 2010). It knows
//! keys by their hashes, and no clock.
//!
//! At most `k` keys are *listed*, each with a count that is never too low, and with how much it may be too high. All
//! others share the *filter*: an array of numbers, in which the hash of a key finds one that is never below the key's
//! hits. A key is listed in the place of the least one as soon as its number in the filter exceeds that one's count; it
//! begins with this number, which is its error.
//!
//! Invariants: (1) a listed key's hits are at most its count, and at least its count minus its error; (2) the hits of a
//! key that isn't listed are at most its number in the filter; (3) no number in the filter exceeds the least count, and no
//! error does; (4) the sum of all counts is at most the sum of all hits. By (4) the least of `k` counts is at most
//! 1/k of all hits, so whoever has more is listed.
//!
//! The least count is found by a heap that is brought up to date only where a key that isn't listed may come in: counts
//! only grow, so a count that was true once is a lower bound ever after, and a root that is still true is the least.

use std::sync::Arc;

use hashbrown::HashTable;

use super::{
    key::TopKey,
    list::{Listed, TopList},
};

/// Numbers in the filter for each key that may be listed: with four, few of many equal keys take each other's places.
const FILTER_CELLS: usize = 4;

/// The memory that one listed key takes at most besides its [`TopKey`]: itself, its node in the heap, its place in the
/// index (twice that after growth) and its part of the filter.
pub(super) const KEY_BYTES: usize =
    size_of::<Listed>() + size_of::<Node>() + 2 * (size_of::<u32>() + 1) + FILTER_CELLS * size_of::<u64>();

/// A listed key in the heap: a count that it had, and its place.
type Node = (u64, u32);

pub(super) struct Sketch {
    /// Most keys that are listed.
    keys_max: usize,
    listed: Vec<Listed>,
    /// Places in `listed`, by hash.
    index: HashTable<u32>,
    /// A heap with the least at the root.
    least: Vec<Node>,
    /// Empty until a key finds no place. Its length is a power of two.
    filter: Box<[u64]>,
    text_bytes: usize,
}

impl Sketch {
    /// An empty sketch; takes no memory yet.
    pub(super) fn new(keys_max: usize) -> Sketch {
        let (listed, index, least) = (Vec::new(), HashTable::new(), Vec::new());
        Sketch { keys_max: keys_max.max(1), listed, index, least, filter: Box::default(), text_bytes: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.listed.is_empty()
    }

    /// Bytes that it takes.
    pub(super) fn bytes(&self) -> usize {
        self.listed.len() * (KEY_BYTES - FILTER_CELLS * size_of::<u64>()) + size_of_val(&*self.filter) + self.text_bytes
    }

    /// Adds hits of the key with this `hash`. `key` is only called if it comes to be listed.
    #[inline]
    pub(super) fn add(&mut self, hash: u64, hits: u64, key: impl FnOnce() -> Arc<TopKey>) {
        let listed = &mut self.listed;
        if let Some(&place) = self.index.find(hash, |&place| listed[place as usize].hash == hash) {
            let count = &mut listed[place as usize].count;
            *count = count.saturating_add(hits);
            return;
        }
        self.add_unlisted(hash, hits, key);
    }

    fn add_unlisted(&mut self, hash: u64, hits: u64, key: impl FnOnce() -> Arc<TopKey>) {
        if self.listed.len() < self.keys_max {
            return self.list(Listed { hash, count: hits, error: 0, key: key() });
        }
        if self.filter.is_empty() {
            self.filter = vec![0; FILTER_CELLS * self.keys_max.next_power_of_two() / 2].into();
        }
        let cell = self.cell(hash);
        let before = self.filter[cell];
        let count = before.saturating_add(hits);
        // Mostly the root is as it was, and so is the answer.
        if count <= self.least[0].0 || count <= self.least_count() {
            self.filter[cell] = count;
            return;
        }
        let place = self.least[0].1 as usize;
        let out = std::mem::replace(&mut self.listed[place], Listed { hash, count, error: before, key: key() });
        self.text_bytes = self.text_bytes + self.listed[place].key.bytes() - out.key.bytes();
        if let Ok(entry) = self.index.find_entry(out.hash, |&other| other as usize == place) {
            entry.remove();
        }
        let cell = self.cell(out.hash);
        self.filter[cell] = self.filter[cell].max(out.count);
        self.insert_in_index(place);
        self.least[0].0 = count;
        self.sift_down();
    }

    fn list(&mut self, new: Listed) {
        let place = self.listed.len();
        if place == self.listed.capacity() {
            // Doubled, but never beyond what may be needed.
            let more = place.max(8).min(self.keys_max - place);
            self.listed.reserve_exact(more);
            self.least.reserve_exact(more);
        }
        self.text_bytes += new.key.bytes();
        self.least.push((new.count, place as u32));
        self.listed.push(new);
        self.insert_in_index(place);
        let mut at = place;
        while at > 0 && self.least[at].0 < self.least[(at - 1) / 2].0 {
            self.least.swap(at, (at - 1) / 2);
            at = (at - 1) / 2;
        }
    }

    fn insert_in_index(&mut self, place: usize) {
        let listed = &self.listed;
        let hash = |&place: &u32| listed[place as usize].hash;
        self.index.insert_unique(listed[place].hash, place as u32, hash);
    }

    /// Other bits than those that the index uses.
    fn cell(&self, hash: u64) -> usize {
        (hash >> 24) as usize & (self.filter.len() - 1)
    }

    /// The least count of the listed keys, which is then at the root.
    fn least_count(&mut self) -> u64 {
        loop {
            let (was, place) = self.least[0];
            let count = self.listed[place as usize].count;
            if count == was {
                return count;
            }
            self.least[0].0 = count;
            self.sift_down();
        }
    }

    fn sift_down(&mut self) {
        let mut at = 0;
        loop {
            let left = 2 * at + 1;
            let Some(&(count, _)) = self.least.get(left) else { return };
            let right = self.least.get(left + 1).is_some_and(|&(other, _)| other < count);
            let child = left + usize::from(right);
            if self.least[at].0 <= self.least[child].0 {
                return;
            }
            self.least.swap(at, child);
            at = child;
        }
    }

    /// The list as it is now.
    pub(super) fn list_now(&mut self) -> TopList {
        let floor = if self.listed.len() < self.keys_max { 0 } else { self.least_count() };
        TopList::new(self.listed.clone(), floor)
    }
}
