//! Rows in memory: one after the other in one buffer, each with its numbers and then its texts, so that a look-up waits
//! for memory once. It knows neither how rows are found nor which of several wins.

#[cfg(test)]
mod tests;

use crate::{limit::UnixMicros, rules::node::Location};

/// No row.
pub(super) const NONE: u32 = u32::MAX;

/// The end of a row that has none.
pub(super) const NEVER: UnixMicros = UnixMicros(u64::MAX);

/// The rows of a table, one after the other. A row is identified by the byte at which it begins.
#[derive(Default)]
pub(super) struct Records {
    bytes: Vec<u8>,
    count: usize,
}

/// A row without its texts. Several million may be in memory.
#[derive(Clone, Copy)]
pub(super) struct RecordHeader {
    /// Number of its source. Of rows with the same match, the one with the later source wins, and an inline one over
    /// all files.
    pub(super) source: u32,
    pub(super) at: Location,
    /// The next row with the same match, which this one beats.
    pub(super) next: u32,
    pub(super) limits: u32,
    pub(super) shape: u32,
    pub(super) expires: UnixMicros,
}

const WORD: usize = 4;

/// Position of `next` among the words of [`RecordHeader`].
const NEXT: usize = 4;

const HEADER_BYTES: usize = 9 * WORD;

impl Records {
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// Memory of the rows in bytes.
    pub(super) fn size(&self) -> usize {
        self.bytes.capacity()
    }

    pub(super) fn shrink_to_fit(&mut self) {
        self.bytes.shrink_to_fit();
    }

    /// Adds a row and returns it; `None` if there is no space for it.
    pub(super) fn add<'v>(&mut self, numbers: &RecordHeader, texts: impl Iterator<Item = &'v str>) -> Option<u32> {
        let row = u32::try_from(self.bytes.len()).ok().filter(|row| *row != NONE)?;
        self.bytes.extend_from_slice(&numbers.written());
        texts.for_each(|text| self.write(text));
        self.count += 1;
        Some(row)
    }

    /// Writes a text as [`Texts`] reads it: its length, seven bits a byte, then its bytes.
    fn write(&mut self, text: &str) {
        let mut length = text.len();
        while length >= 0x80 {
            self.bytes.push(length as u8 | 0x80);
            length >>= 7;
        }
        self.bytes.push(length as u8);
        self.bytes.extend_from_slice(text.as_bytes());
    }

    /// A row's numbers and texts: values, reason, owner.
    #[inline]
    pub(super) fn of(&self, row: u32) -> (RecordHeader, Texts<'_>) {
        let bytes = &self.bytes[row as usize..];
        let (numbers, rest) = bytes.split_first_chunk().expect("a row begins with its numbers");
        (RecordHeader::read(numbers), Texts { rest })
    }

    pub(super) fn header(&self, row: u32) -> RecordHeader {
        self.of(row).0
    }

    pub(super) fn set_next(&mut self, row: u32, next: u32) {
        let at = row as usize + NEXT * WORD;
        self.bytes[at..at + WORD].copy_from_slice(&next.to_le_bytes());
    }

    /// All rows, in order of their positions. `texts` returns how many texts the rows of a shape have.
    pub(super) fn each<'r>(&'r self, texts: impl Fn(u32) -> usize + 'r) -> impl Iterator<Item = u32> + 'r {
        let first = (!self.bytes.is_empty()).then_some(0);
        std::iter::successors(first, move |row| self.after(*row, &texts))
    }

    /// The row behind one.
    pub(super) fn after(&self, row: u32, texts: impl Fn(u32) -> usize) -> Option<u32> {
        let (numbers, mut rest) = self.of(row);
        rest.nth(texts(numbers.shape) - 1);
        let end = self.bytes.len() - rest.rest.len();
        (end < self.bytes.len()).then_some(end as u32)
    }
}

impl RecordHeader {
    /// The fields that a search needs come last, next to the values.
    fn written(&self) -> [u8; HEADER_BYTES] {
        let RecordHeader { source: origin, at: Location { line, column, width }, next, limits, shape, expires } = *self;
        let (low, high) = (expires.0 as u32, (expires.0 >> 32) as u32);
        let mut bytes = [0; HEADER_BYTES];
        let words = [origin, line, column, width, next, limits, shape, low, high];
        bytes.chunks_exact_mut(WORD).zip(words).for_each(|(bytes, word)| bytes.copy_from_slice(&word.to_le_bytes()));
        bytes
    }

    #[inline]
    fn read(bytes: &[u8; HEADER_BYTES]) -> RecordHeader {
        let word = |index: usize| u32::from_le_bytes(std::array::from_fn(|byte| bytes[index * WORD + byte]));
        RecordHeader {
            source: word(0),
            at: Location { line: word(1), column: word(2), width: word(3) },
            next: word(NEXT),
            limits: word(5),
            shape: word(6),
            expires: UnixMicros(u64::from(word(7)) | u64::from(word(8)) << 32),
        }
    }
}

/// Texts that lie one after the other. The iterator ends at the buffer's end only; the caller knows how many texts
/// belong to its row.
#[derive(Clone)]
pub(super) struct Texts<'t> {
    rest: &'t [u8],
}

impl<'t> Iterator for Texts<'t> {
    type Item = &'t [u8];

    #[inline]
    fn next(&mut self) -> Option<&'t [u8]> {
        let (first, rest) = self.rest.split_first()?;
        let (length, rest) = if *first < 0x80 { (usize::from(*first), rest) } else { long(self.rest)? };
        let (text, rest) = rest.split_at_checked(length)?;
        self.rest = rest;
        Some(text)
    }
}

/// A length of several bytes, and what follows it.
#[cold]
fn long(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let last = bytes.iter().position(|byte| *byte < 0x80)?;
    let (length, rest) = bytes.split_at(last + 1);
    Some((length.iter().rfold(0, |length, byte| length << 7 | usize::from(byte & 0x7f)), rest))
}
