//! The index of the override rows of a domain: from a row's key to the first row with that match, and to what a decision
//! needs of it. Every decision looks here, so a hit costs one cache line, and a miss nearly always one line and one word
//! of a Bloom filter. It is built once, with room for all rows, and doesn't know what rows say.
//!
//! The index is an open-addressed table. A line is 64 bytes, as a line of the cache, and has two slots of 32: the key
//! (20 bytes), the row, its limits, and the second in which it ends. A hash's lower half chooses the first line of a
//! key, spread evenly over all lines. If that is full, the key is on the next line with a free slot, and each full line
//! on the way is marked with `GOES_ON`. The filter has 12 bits for each row, in words of 64; a key sets three bits of
//! one word, chosen by six bits each of the hash's upper half.
//!
//! A look-up goes through three steps. (1) The first line has the key, and the key is exact: found. (2) One of the key's
//! three bits is not set: no row. (3) The lines are searched from the first on, up to one without `GOES_ON`. Where a key
//! is only a hash, the caller compares the row itself.
//!
//! Invariants: (1) no slot becomes free again, so a search may end at the first line without `GOES_ON`; (2) there is
//! always a free slot, so a search ends; (3) all three bits of every key in the table are set.
//!
//! Example: 10 rows make 10 lines (9 for ten, and one more) and 120 bits, which are 2 words. The hash
//! 0x0000_3081_8000_0000 has the lower half 0x8000_0000, the middle: its first line is 10 × ½ = 5, its word 2 × ½ = 1.
//! Its upper half 0x3081 says 1, 2 and 3 in groups of six bits, so that these bits are set in word 1. A row takes 64 ×
//! 0.9 + 1.5 = 59 bytes of the index.

#[cfg(test)]
mod tests;

use super::{
    records::{NEVER, RecordHeader},
    row_key::RowKey,
};
use crate::limit::{SECOND, UnixMicros};

/// Slots in a line.
const WIDTH: usize = 2;

/// Lines for ten rows. One row in eight is then not on its first line.
const LINES_FOR_TEN: usize = 9;

/// Bits of the Bloom filter for each row; a row sets three bits of one word. One key in fifty without a row looks as if
/// it had one.
const BLOOM_BITS_PER_ROW: usize = 12;

/// The index. Its size is fixed when it is made.
#[derive(Default)]
pub(super) struct RowIndex {
    /// The words of the Bloom filter.
    bloom: Box<[u64]>,
    lines: Box<[CacheLine]>,
}

/// The first row of a match, with what a decision needs of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct IndexedRow {
    pub(super) row: u32,
    pub(super) limits: u32,
    pub(super) ends: ExpirySeconds,
}

/// When a row ends, in whole seconds since the epoch, which is enough for nearly every decision.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct ExpirySeconds(u32);

impl ExpirySeconds {
    pub(super) const NEVER: ExpirySeconds = ExpirySeconds(u32::MAX);

    /// This second or any later one.
    const FAR: ExpirySeconds = ExpirySeconds(u32::MAX - 1);

    fn of(expires: UnixMicros) -> ExpirySeconds {
        match expires {
            NEVER => ExpirySeconds::NEVER,
            UnixMicros(micros) => ExpirySeconds((micros / SECOND.0).min(u64::from(ExpirySeconds::FAR.0)) as u32),
        }
    }

    /// Whether it ends after `now`; `None` if it ends within the current second or too late to be told, so that the row
    /// itself must be read.
    #[inline(always)]
    pub(super) fn is_after(self, now: UnixMicros) -> Option<bool> {
        let (ends, now) = (u64::from(self.0), now.0 / SECOND.0);
        if ends > now {
            return Some(true);
        }
        (ends < now && self != ExpirySeconds::FAR).then_some(false)
    }
}

impl IndexedRow {
    pub(super) fn of(row: u32, numbers: &RecordHeader) -> IndexedRow {
        IndexedRow { row, limits: numbers.limits, ends: ExpirySeconds::of(numbers.expires) }
    }
}

/// As long as a cache line.
#[derive(Clone)]
#[repr(align(64))]
struct CacheLine {
    slots: [IndexSlot; WIDTH],
}

#[derive(Clone, Copy)]
struct IndexSlot {
    words: [u64; 2],
    /// `kind` of the key; in a line's first slot also the flag `GOES_ON`.
    kind: u32,
    row: IndexedRow,
}

const EMPTY: CacheLine = CacheLine {
    slots: [IndexSlot {
        words: RowKey::NONE.words,
        kind: RowKey::NONE.kind,
        row: IndexedRow { row: u32::MAX, limits: u32::MAX, ends: ExpirySeconds(0) },
    }; WIDTH],
};

const GOES_ON: u32 = RowKey::SPARE;

const _: () = assert!(size_of::<CacheLine>() == 64);

impl RowIndex {
    pub(super) fn with_capacity(rows: usize) -> RowIndex {
        // One line more, so that there is a free slot even with few rows.
        let lines = if rows == 0 { 0 } else { (rows * LINES_FOR_TEN).div_ceil(10) + 1 };
        let words = (rows * BLOOM_BITS_PER_ROW).div_ceil(u64::BITS as usize);
        RowIndex { bloom: vec![0; words].into(), lines: vec![EMPTY; lines].into() }
    }

    /// Memory of the index in bytes.
    pub(super) fn size(&self) -> usize {
        size_of_val(&*self.bloom) + size_of_val(&*self.lines)
    }

    /// The first row with this key for which `is_it` returns true. `is_it` is only called if the key isn't exact.
    #[inline(always)]
    pub(super) fn find(&self, name: RowKey, is_it: impl Fn(u32) -> bool) -> Option<&IndexedRow> {
        let hash = name.hash();
        let at = self.first_line(hash);
        let line = self.lines.get(at)?;
        // Which of the two slots has it is random, so a branch would often be predicted wrong.
        let likely = &line.slots[usize::from(line.slots[0].words[1] != name.words[1])];
        if likely.is(name) & name.is_exact() {
            return Some(&likely.row);
        }
        let (word, bits) = self.bloom_bits(hash);
        if self.bloom[word] & bits != bits { None } else { self.search(at, name, is_it) }
    }

    #[cold]
    #[inline(never)]
    fn search(&self, mut at: usize, name: RowKey, is_it: impl Fn(u32) -> bool) -> Option<&IndexedRow> {
        loop {
            let line = &self.lines[at];
            let mut alike = line.slots.iter().filter(|slot| slot.is(name)).map(|slot| &slot.row);
            let found = alike.find(|head| name.is_exact() || is_it(head.row));
            if found.is_some() || !line.goes_on() {
                return found;
            }
            at = self.after(at);
        }
    }

    /// Inserts the first row of a match. There must be a free slot.
    pub(super) fn insert(&mut self, name: RowKey, head: IndexedRow) {
        let hash = name.hash();
        let (word, bits) = self.bloom_bits(hash);
        self.bloom[word] |= bits;
        let mut at = self.first_line(hash);
        loop {
            let line = &mut self.lines[at];
            if let Some(free) = line.slots.iter_mut().find(|slot| slot.is(RowKey::NONE)) {
                *free = IndexSlot { words: name.words, kind: name.kind, row: head };
                return;
            }
            line.slots[0].kind |= GOES_ON;
            at = self.after(at);
        }
    }

    /// Replaces the first row of a match by another one with the same match, and so the same key.
    pub(super) fn replace(&mut self, name: RowKey, first: IndexedRow, head: IndexedRow) {
        let mut at = self.first_line(name.hash());
        loop {
            if let Some(slot) = self.lines[at].slots.iter_mut().find(|slot| slot.row == first) {
                slot.row = head;
                return;
            }
            at = self.after(at);
        }
    }

    #[inline(always)]
    fn first_line(&self, hash: u64) -> usize {
        share(hash, self.lines.len())
    }

    /// The filter's word of a key, and its three bits there: from the half of the hash that doesn't choose the line.
    #[inline(always)]
    fn bloom_bits(&self, hash: u64) -> (usize, u64) {
        let bits = [32, 38, 44].map(|from| 1 << (hash >> from & 63));
        (share(hash, self.bloom.len()), bits[0] | bits[1] | bits[2])
    }

    fn after(&self, at: usize) -> usize {
        if at + 1 == self.lines.len() { 0 } else { at + 1 }
    }
}

/// One of `parts`, chosen by the hash's lower half.
#[inline(always)]
fn share(hash: u64, parts: usize) -> usize {
    ((u64::from(hash as u32) * parts as u64) >> 32) as usize
}

impl IndexSlot {
    #[inline(always)]
    fn is(&self, name: RowKey) -> bool {
        (self.words == name.words) & (self.kind & !GOES_ON == name.kind)
    }
}

impl CacheLine {
    #[inline(always)]
    fn goes_on(&self) -> bool {
        self.slots[0].kind & GOES_ON != 0
    }
}
