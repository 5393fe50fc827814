//! What is kept of every counter that was ever asked: 28 bytes, without its name.

use hashbrown::{HashTable, hash_table::Entry};

/// Of one counter. All counts are requests, and stay at the largest number.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct CounterTally {
    /// In two halves, so that no byte is lost between it and the counts.
    hash: [u32; 2],
    /// Refused by the new rules.
    pub(super) refused: u32,
    /// Refused by what they are compared with.
    pub(super) refused_before: u32,
    /// Refused by the new rules and admitted before.
    pub(super) newly_refused: u32,
    /// Admitted by the new rules and refused before.
    pub(super) newly_admitted: u32,
    /// Most hits that were ever in one window, where limits are measured.
    pub(super) peak: u32,
}

/// The counters of one limit.
#[derive(Debug, Default)]
pub(super) struct Counters {
    table: HashTable<CounterTally>,
}

impl CounterTally {
    fn hash(&self) -> u64 {
        u64::from(self.hash[0]) << 32 | u64::from(self.hash[1])
    }
}

impl Counters {
    /// The counter with this hash, which is a new one if there was none.
    pub(super) fn of(&mut self, hash: u64) -> &mut CounterTally {
        let is_it = |tally: &CounterTally| tally.hash() == hash;
        match self.table.entry(hash, is_it, CounterTally::hash) {
            Entry::Occupied(found) => found.into_mut(),
            Entry::Vacant(room) => {
                let hash = [(hash >> 32) as u32, hash as u32];
                room.insert(CounterTally { hash, ..CounterTally::default() }).into_mut()
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    /// In no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &CounterTally> {
        self.table.iter()
    }

    /// Counters of which this is true.
    pub(super) fn count(&self, is_so: impl Fn(&CounterTally) -> bool) -> u64 {
        self.iter().filter(|tally| is_so(tally)).count() as u64
    }
}
