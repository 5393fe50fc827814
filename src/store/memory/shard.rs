//! One shard of the memory store: its counters, and an index from fingerprint to place. It finds, inserts and sweeps;
//! which counters may exist, and what they answer, is decided elsewhere.
//!
//! Counters lie in chunks of 32. Place `p` is slot `p % 32` of chunk `p / 32`, and the places in use are 0 to `len - 1`,
//! without gaps: an insert takes place `len`, and a removal moves the last counter into the gap. The index holds places
//! only, hashed by the lower half of the fingerprint; the counter itself has the whole fingerprint.
//!
//! Invariants: (1) the index has exactly one entry for each place in use; (2) all chunks are full but the last, and none
//! is empty; (3) a place is valid only as long as the shard is locked and nothing is removed; (4) every byte that comes
//! or goes is counted in `capacity`.
//!
//! Example: 70 counters are chunks of 32, 32 and 6. Removing place 10 moves the counter of place 69 (chunk 2, slot 5) to
//! place 10, where its entry in the index now leads; 69 counters are left, in chunks of 32, 32 and 5.

use hashbrown::HashTable;
use parking_lot::{Mutex, MutexGuard};

use super::{
    capacity::{Capacity, ShareId},
    fingerprint::Fingerprint,
};
use crate::{
    algorithm::{State, is_ahead},
    limit::{Limit, SECOND, UnixMicros},
};

/// Counters of a chunk: growing never copies counters, and a chunk is a size class of common allocators.
const CHUNK: usize = 32;

pub(super) struct Counter {
    pub(super) fingerprint: Fingerprint,
    pub(super) state: State,
    /// When the counter is empty, in whole seconds since the epoch, rounded up. From then on no counter would mean the
    /// same.
    pub(super) expires: u32,
    pub(super) share: ShareId,
    pub(super) is_overflow: bool,
}

const _: () = assert!(size_of::<Counter>() <= 56);

impl Counter {
    pub(super) fn new(
        fingerprint: Fingerprint,
        share: ShareId,
        is_overflow: bool,
        state: State,
        limit: &Limit,
    ) -> Counter {
        let expires = seconds_ceil(state.expires(limit));
        Counter { fingerprint, state, expires, share, is_overflow }
    }

    /// Stores the state that a request leaves, and counts its bytes. Returns whether the state had to be made coarser.
    pub(super) fn put(&mut self, mut state: State, heap_before: usize, limit: &Limit, capacity: &Capacity) -> bool {
        let mut heap = state.heap_bytes();
        let most =
            if heap > heap_before { capacity.heap_limit(self.share, self.is_overflow, heap_before) } else { None };
        let most = most.filter(|&most| heap > most);
        if let Some(most) = most {
            state = state.thinned(limit, most);
            heap = state.heap_bytes();
        }
        if heap != heap_before {
            capacity.resized(self.share, self.is_overflow, heap_before as u64, heap as u64);
        }
        self.expires = seconds_ceil(state.expires(limit));
        self.state = state;
        most.is_some()
    }

    /// Whether a clock was set back by more than a window since this counter was written. For nearly all counters the
    /// first comparison decides.
    pub(super) fn is_ahead(&self, limit: &Limit, now: UnixMicros) -> bool {
        u64::from(self.expires) * SECOND.0 > now.0 + limit.window.0 + SECOND.0 && is_ahead(limit, &self.state, now)
    }

    pub(super) fn is_expired(&self, now: UnixMicros) -> bool {
        u64::from(self.expires) * SECOND.0 <= now.0
    }
}

/// Up to a second late is harmless: an expired state and no state answer alike.
fn seconds_ceil(at: UnixMicros) -> u32 {
    u32::try_from(at.0.div_ceil(SECOND.0)).unwrap_or(u32::MAX)
}

/// A shard and its lock, in a pair of cache lines of their own: lock and table arrive together, and no two locks
/// share a line.
#[derive(Default)]
#[repr(align(128))]
pub(super) struct LockedShard(Mutex<Shard>);

impl LockedShard {
    pub(super) fn lock(&self) -> MutexGuard<'_, Shard> {
        self.0.lock()
    }
}

const _: () = assert!(size_of::<LockedShard>() == 128);

/// What one sweep of a shard did.
pub(super) struct Swept {
    pub(super) seen: usize,
    pub(super) removed: usize,
    /// Whether the next one begins anew.
    pub(super) is_at_end: bool,
}

#[derive(Default)]
pub(super) struct Shard {
    index: HashTable<u32>,
    chunks: Vec<Vec<Counter>>,
    /// The place at which the next sweep begins.
    cursor: usize,
    /// Number of overflow counters; while it is 0, as nearly always, no look-up searches for them.
    overflow: usize,
}

impl Shard {
    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    pub(super) fn has_overflow(&self) -> bool {
        self.overflow > 0
    }

    pub(super) fn find(&self, fingerprint: Fingerprint) -> Option<usize> {
        let position =
            self.index.find(fingerprint.low, |&position| self.at(position as usize).fingerprint == fingerprint);
        position.map(|&position| position as usize)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Counter> {
        self.chunks.iter().flatten()
    }

    pub(super) fn at(&self, position: usize) -> &Counter {
        &self.chunks[position / CHUNK][position % CHUNK]
    }

    pub(super) fn at_mut(&mut self, position: usize) -> &mut Counter {
        &mut self.chunks[position / CHUNK][position % CHUNK]
    }

    /// Inserts a counter, which must not be there yet. The places of others stay as they are.
    pub(super) fn insert(&mut self, counter: Counter, capacity: &Capacity) {
        let position = self.len();
        capacity.created(counter.share, counter.is_overflow, counter.state.heap_bytes());
        self.overflow += usize::from(counter.is_overflow);
        let chunks = &self.chunks;
        let low = |&position: &u32| chunks[position as usize / CHUNK][position as usize % CHUNK].fingerprint.low;
        // A shard holds far fewer than 2³² counters: that many would be 300 GB.
        self.index.insert_unique(counter.fingerprint.low, position as u32, low);
        if position.is_multiple_of(CHUNK) {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        self.chunks[position / CHUNK].push(counter);
    }

    /// Checks up to `at_most` counters from where the last sweep stopped, and removes the expired ones. Stops at the
    /// end of the shard, so that one call never sweeps a counter twice.
    pub(super) fn sweep(&mut self, now: UnixMicros, at_most: usize, capacity: &Capacity) -> Swept {
        let (mut seen, mut removed) = (0, 0);
        while seen < at_most && self.cursor < self.len() {
            seen += 1;
            if self.at(self.cursor).is_expired(now) {
                self.remove(self.cursor, capacity);
                removed += 1;
            } else {
                self.cursor += 1;
            }
        }
        let is_at_end = self.cursor >= self.len();
        if is_at_end {
            self.cursor = 0;
        }
        self.shrink();
        Swept { seen, removed, is_at_end }
    }

    /// Removes a counter, if it is there.
    pub(super) fn remove_one(&mut self, fingerprint: Fingerprint, capacity: &Capacity) {
        if let Some(position) = self.find(fingerprint) {
            self.remove(position, capacity);
        }
    }

    /// Removes the counter at a place; the last counter moves into the gap.
    fn remove(&mut self, position: usize, capacity: &Capacity) {
        let low = self.at(position).fingerprint.low;
        if let Ok(entry) = self.index.find_entry(low, |&other| other as usize == position) {
            entry.remove();
        }
        let last = self.len();
        let mut counter = self.chunks[last / CHUNK].pop().expect("the index counts as many as the chunks hold");
        if position != last {
            if let Some(moved) = self.index.find_mut(counter.fingerprint.low, |&other| other as usize == last) {
                *moved = position as u32;
            }
            std::mem::swap(self.at_mut(position), &mut counter);
        }
        if self.chunks[last / CHUNK].is_empty() {
            self.chunks.pop();
        }
        self.overflow -= usize::from(counter.is_overflow);
        capacity.removed(counter.share, counter.is_overflow, counter.state.heap_bytes());
    }

    /// After a flood the index is far too large; halving at an eighth keeps it from growing again at once.
    fn shrink(&mut self) {
        if self.index.capacity() > 64 && self.len() * 8 < self.index.capacity() {
            let chunks = &self.chunks;
            let low = |&position: &u32| chunks[position as usize / CHUNK][position as usize % CHUNK].fingerprint.low;
            self.index.shrink_to(self.index.len() * 2, low);
            self.chunks.shrink_to_fit();
        }
    }
}
