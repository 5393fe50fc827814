//! Where the rows of each match begin, found by hash. Knows nothing of what rows say; whoever asks compares. A table of
//! its own because every decision asks it: it is made once, with room for all; who has no override costs one line of the
//! cache and no branch that is hard to guess; and who has one is told at once what he is granted, while the row itself,
//! to compare, is still on its way from memory.

#[cfg(test)]
mod tests;

/// Slots of a line.
const WIDTH: usize = 6;

/// Slots that make room for five rows. One line in twenty-four is then full, so that a search has to go on to the next.
const SLOTS_FOR_FIVE: usize = 12;

/// Tags that no row has: of a slot that is free, and of what is no slot.
const FREE: u16 = 0;
const NO_SLOT: u16 = 1;

/// Sized once.
#[derive(Default)]
pub(super) struct Heads {
    lines: Box<[Line]>,
}

/// A row, and what it grants, as the row itself has it: in one number, which stays in one register.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Head(u64);

impl Head {
    pub(super) fn new(row: u32, grant: u32) -> Head {
        Head(u64::from(grant) << 32 | u64::from(row))
    }

    pub(super) fn row(self) -> u32 {
        self.0 as u32
    }

    pub(super) fn grant(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

/// What a hash says of where its row is.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) line: usize,
    /// The slot of the line that is taken first.
    home: usize,
    pub(super) tag: u16,
}

/// As long as a line of the cache.
#[derive(Clone)]
#[repr(align(64))]
struct Line {
    /// A part of each row's hash. Eight of them are compared at once, so there are two more than slots.
    tags: [u16; 8],
    heads: [Head; WIDTH],
}

const EMPTY: Line =
    Line { tags: [FREE, FREE, FREE, FREE, FREE, FREE, NO_SLOT, NO_SLOT], heads: [Head(u64::MAX); WIDTH] };

const _: () = assert!(size_of::<Line>() == 64);

impl Heads {
    pub(super) fn with_room_for(rows: usize) -> Heads {
        let lines = (rows * SLOTS_FOR_FIVE).div_ceil(5 * WIDTH);
        Heads { lines: vec![EMPTY; lines].into() }
    }

    /// In bytes.
    pub(super) fn size(&self) -> usize {
        size_of_val(&*self.lines)
    }

    /// Where a search for rows of this hash begins.
    #[inline]
    pub(super) fn place(&self, hash: u64) -> Place {
        let line = (u64::from(hash as u32) * self.lines.len() as u64) >> 32;
        let home = ((hash >> 32 & 0xffff) * WIDTH as u64) >> 16;
        Place { line: line as usize, home: home as usize, tag: ((hash >> 48) as u16).max(NO_SLOT + 1) }
    }

    /// Four rows of five are in their home, and nothing has to be found out before it can be read.
    #[inline]
    pub(super) fn at_home(&self, Place { line, home, tag }: Place) -> Option<Head> {
        let line = self.lines.get(line)?;
        (line.tags[home] == tag).then(|| line.heads[home])
    }

    /// Whether there may be a row out of its home.
    #[inline]
    pub(super) fn has_others(&self, Place { line, tag, .. }: Place) -> bool {
        self.lines.get(line).is_some_and(|line| line.has(tag) || !line.has(FREE))
    }

    /// Wherever it is, from a place's line on; that line must be there.
    #[cold]
    #[inline(never)]
    pub(super) fn find(&self, mut line: usize, tag: u16, is_it: impl Fn(u32) -> bool) -> Option<Head> {
        loop {
            let Line { tags, heads } = &self.lines[line];
            let alike = tags.iter().zip(heads).filter(|(own, _)| **own == tag).map(|(_, head)| *head);
            if let Some(head) = alike.into_iter().find(|head| is_it(head.row())) {
                return Some(head);
            }
            if self.lines[line].has(FREE) {
                return None;
            }
            line = self.after(line);
        }
    }

    /// Of a match that has no row yet. There must be room.
    pub(super) fn insert(&mut self, hash: u64, head: Head) {
        let Place { line: mut at, home, tag } = self.place(hash);
        while !self.lines[at].has(FREE) {
            at = self.after(at);
        }
        let line = &mut self.lines[at];
        let slot = std::iter::once(home).chain(0..WIDTH).find(|slot| line.tags[*slot] == FREE).unwrap_or(home);
        (line.tags[slot], line.heads[slot]) = (tag, head);
    }

    /// Puts another row with the same match, and so the same hash, first.
    pub(super) fn replace(&mut self, hash: u64, first: Head, head: Head) {
        let Place { line: mut at, .. } = self.place(hash);
        loop {
            if let Some(old) = self.lines[at].heads.iter_mut().find(|old| **old == first) {
                *old = head;
                return;
            }
            at = self.after(at);
        }
    }

    fn after(&self, at: usize) -> usize {
        if at + 1 == self.lines.len() { 0 } else { at + 1 }
    }
}

impl Line {
    fn has(&self, tag: u16) -> bool {
        self.tags.iter().fold(false, |has, own| has | (*own == tag))
    }
}
