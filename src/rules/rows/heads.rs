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
    name::Name,
    records::{NEVER, Numbers},
};
use crate::limit::{SECOND, UnixMicros};

/// Slots in a line.
const WIDTH: usize = 2;

/// Lines for ten rows. One row in eight is then not on its first line.
const LINES_FOR_TEN: usize = 9;

/// Bits of the Bloom filter for each row; a row sets three bits of one word. One key in fifty without a row looks as if
/// it had one.
const MARKS_FOR_ONE: usize = 12;

/// The index. Its size is fixed when it is made.
#[derive(Default)]
pub(super) struct Heads {
    /// The words of the Bloom filter.
    marks: Box<[u64]>,
    lines: Box<[Line]>,
}

/// The first row of a match, with what a decision needs of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Head {
    pub(super) row: u32,
    pub(super) grant: u32,
    pub(super) ends: Ends,
}

/// When a row ends, in whole seconds since the epoch, which is enough for nearly every decision.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Ends(u32);

impl Ends {
    pub(super) const NEVER: Ends = Ends(u32::MAX);

    /// This second or any later one.
    const FAR: Ends = Ends(u32::MAX - 1);

    fn of(expires: UnixMicros) -> Ends {
        match expires {
            NEVER => Ends::NEVER,
            UnixMicros(micros) => Ends((micros / SECOND.0).min(u64::from(Ends::FAR.0)) as u32),
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
        (ends < now && self != Ends::FAR).then_some(false)
    }
}

impl Head {
    pub(super) fn of(row: u32, numbers: &Numbers) -> Head {
        Head { row, grant: numbers.grant, ends: Ends::of(numbers.expires) }
    }
}

/// As long as a cache line.
#[derive(Clone)]
#[repr(align(64))]
struct Line {
    slots: [Slot; WIDTH],
}

#[derive(Clone, Copy)]
struct Slot {
    words: [u64; 2],
    /// `kind` of the key; in a line's first slot also the flag `GOES_ON`.
    kind: u32,
    head: Head,
}

const EMPTY: Line = Line {
    slots: [Slot {
        words: Name::NONE.words,
        kind: Name::NONE.kind,
        head: Head { row: u32::MAX, grant: u32::MAX, ends: Ends(0) },
    }; WIDTH],
};

const GOES_ON: u32 = Name::SPARE;

const _: () = assert!(size_of::<Line>() == 64);

impl Heads {
    pub(super) fn with_room_for(rows: usize) -> Heads {
        // One line more, so that there is a free slot even with few rows.
        let lines = if rows == 0 { 0 } else { (rows * LINES_FOR_TEN).div_ceil(10) + 1 };
        let words = (rows * MARKS_FOR_ONE).div_ceil(u64::BITS as usize);
        Heads { marks: vec![0; words].into(), lines: vec![EMPTY; lines].into() }
    }

    /// Memory of the index in bytes.
    pub(super) fn size(&self) -> usize {
        size_of_val(&*self.marks) + size_of_val(&*self.lines)
    }

    /// The first row with this key for which `is_it` returns true. `is_it` is only called if the key isn't exact.
    #[inline(always)]
    pub(super) fn find(&self, name: Name, is_it: impl Fn(u32) -> bool) -> Option<&Head> {
        let hash = name.hash();
        let at = self.home(hash);
        let line = self.lines.get(at)?;
        // Which of the two slots has it is random, so a branch would often be predicted wrong.
        let likely = &line.slots[usize::from(line.slots[0].words[1] != name.words[1])];
        if likely.is(name) & name.is_whole() {
            return Some(&likely.head);
        }
        let (word, bits) = self.marks_of(hash);
        if self.marks[word] & bits != bits { None } else { self.search(at, name, is_it) }
    }

    #[cold]
    #[inline(never)]
    fn search(&self, mut at: usize, name: Name, is_it: impl Fn(u32) -> bool) -> Option<&Head> {
        loop {
            let line = &self.lines[at];
            let mut alike = line.slots.iter().filter(|slot| slot.is(name)).map(|slot| &slot.head);
            let found = alike.find(|head| name.is_whole() || is_it(head.row));
            if found.is_some() || !line.goes_on() {
                return found;
            }
            at = self.after(at);
        }
    }

    /// Inserts the first row of a match. There must be a free slot.
    pub(super) fn insert(&mut self, name: Name, head: Head) {
        let hash = name.hash();
        let (word, bits) = self.marks_of(hash);
        self.marks[word] |= bits;
        let mut at = self.home(hash);
        loop {
            let line = &mut self.lines[at];
            if let Some(free) = line.slots.iter_mut().find(|slot| slot.is(Name::NONE)) {
                *free = Slot { words: name.words, kind: name.kind, head };
                return;
            }
            line.slots[0].kind |= GOES_ON;
            at = self.after(at);
        }
    }

    /// Replaces the first row of a match by another one with the same match, and so the same key.
    pub(super) fn replace(&mut self, name: Name, first: Head, head: Head) {
        let mut at = self.home(name.hash());
        loop {
            if let Some(slot) = self.lines[at].slots.iter_mut().find(|slot| slot.head == first) {
                slot.head = head;
                return;
            }
            at = self.after(at);
        }
    }

    #[inline(always)]
    fn home(&self, hash: u64) -> usize {
        share(hash, self.lines.len())
    }

    /// The filter's word of a key, and its three bits there: from the half of the hash that doesn't choose the line.
    #[inline(always)]
    fn marks_of(&self, hash: u64) -> (usize, u64) {
        let bits = [32, 38, 44].map(|from| 1 << (hash >> from & 63));
        (share(hash, self.marks.len()), bits[0] | bits[1] | bits[2])
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

impl Slot {
    #[inline(always)]
    fn is(&self, name: Name) -> bool {
        (self.words == name.words) & (self.kind & !GOES_ON == name.kind)
    }
}

impl Line {
    #[inline(always)]
    fn goes_on(&self) -> bool {
        self.slots[0].kind & GOES_ON != 0
    }
}
