//! The key by which a row is looked up: 20 bytes made of the number of its shape (which keys its match has) and of the
//! values of the match. A match with one key and a value of at most 16 bytes, as most have, is in the key as it is. Such
//! a key is exact: finding the key is finding the row. Any other key is a hash, and the row that it leads to must be
//! compared.
//!
//! | bits of `kind` | exact | hash |
//! |---|---|---|
//! | 0 to 7 | length of the value + 1, so 1 to 17 | 255 |
//! | 8 to 30 | number of the shape, below 2^23 | 0 |
//! | 31 | left to the index, 0 here | 0 |
//!
//! The words of an exact key are the first and the last 8 bytes of the value (of a value of 4 to 7 bytes the first and
//! the last 4), which overlap where it is shorter than both; with the length, no other value has these. The words of a
//! hash are 0 and the hash of the shape and all values.
//!
//! Invariants: two rows with the same exact key have the same match; equal matches have equal keys; no key has `kind` 0,
//! which marks a free slot.
//!
//! Example: shape 3 and the value `alice` make `kind` 3 × 256 + 6 = 0x306, and the words 0x63696c61 (`alic`, little
//! endian) and 0x6563696c (`lice`). The value `bob` makes `kind` 0x304, and the words 0x6f62 (`bo`) and 0x62 (`b`).

#[cfg(test)]
mod tests;

use std::hash::{BuildHasher as _, Hasher as _};

use foldhash::fast::FixedState;

use super::shape::hash;

/// Longest value in bytes that a key can contain; a slot of the index has no space for more.
const WHOLE_MAX: usize = 16;

/// Bits of `kind` that hold the shape. Below them are eight for the length of the value; the highest bit is left to the
/// index.
const SHAPE_BITS: u32 = 23;
const HASHED: u32 = 0xff;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct RowKey {
    /// The value, or its hash. Most keys differ in the second word.
    pub(super) words: [u64; 2],
    pub(super) kind: u32,
}

impl RowKey {
    /// The key of no row.
    pub(super) const NONE: RowKey = RowKey { words: [0; 2], kind: 0 };

    /// The bit of `kind` that keys don't use.
    pub(super) const SPARE: u32 = 1 << 31;

    #[inline(always)]
    pub(super) fn of_one(shape: u32, value: &str) -> RowKey {
        match words(value.as_bytes()) {
            Some(words) if shape < 1 << SHAPE_BITS => RowKey { words, kind: shape << 8 | (value.len() as u32 + 1) },
            _ => RowKey::hashed(shape, std::iter::once(value)),
        }
    }

    pub(super) fn of<'v>(shape: u32, mut values: impl Iterator<Item = &'v str> + Clone) -> RowKey {
        let all = values.clone();
        match (values.next(), values.next()) {
            (Some(only), None) => RowKey::of_one(shape, only),
            _ => RowKey::hashed(shape, all),
        }
    }

    #[inline(never)]
    fn hashed<'v>(shape: u32, values: impl Iterator<Item = &'v str>) -> RowKey {
        RowKey { words: [0, hash(shape, values)], kind: HASHED }
    }

    /// Whether no other match can have this key.
    #[inline]
    pub(super) fn is_exact(self) -> bool {
        self.kind & 0xff != HASHED
    }

    /// A hash of all bits of the key.
    #[inline]
    pub(super) fn hash(self) -> u64 {
        let mut hasher = FixedState::with_seed(u64::from(self.kind)).build_hasher();
        hasher.write_u128(u128::from(self.words[1]) << 64 | u128::from(self.words[0]));
        hasher.finish()
    }
}

/// A short text as two words that, with its length, no other text has: its first and its last bytes, which overlap if
/// it is shorter than both words together.
#[inline(always)]
fn words(text: &[u8]) -> Option<[u64; 2]> {
    if let (Some(first), Some(last), true) = (text.first_chunk(), text.last_chunk(), text.len() <= WHOLE_MAX) {
        return Some([u64::from_le_bytes(*first), u64::from_le_bytes(*last)]);
    }
    if let (Some(first), Some(last), true) = (text.first_chunk(), text.last_chunk(), text.len() < 8) {
        return Some([u64::from(u32::from_le_bytes(*first)), u64::from(u32::from_le_bytes(*last))]);
    }
    match *text {
        [] => Some([0, 0]),
        [one] => Some([u64::from(one), 0]),
        [one, two] => Some([u64::from(one), u64::from(two)]),
        [one, two, three] => Some([u64::from(one) | u64::from(two) << 8, u64::from(three)]),
        _ => None,
    }
}
