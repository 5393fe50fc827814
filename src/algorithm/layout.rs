//! The packed form of a state, the same in Redis and in the memory store's snapshots, but for a log, which Redis keeps in
//! a [`ring`]. The Lua of the Redis store reads each header with one `struct.unpack`; a change here changes the name of the
//! algorithm in its keys. Knows no arithmetic of limits.
//!
//! All numbers are little endian and unsigned. *Deadline* is the time in ms up to which the key's TTL reaches; only
//! Redis knows it, so it is written as 0 here and not read.
//!
//! | algorithm | header, as `struct` format | fields, in order | behind it |
//! |---|---|---|---|
//! | `sliding_window` | `<I6I7I4I5BB`, 24 B | deadline, index, count, sum of the pairs, `index` − index of the oldest pair (0: none), number of pairs | 5-byte pairs `<BI4`, oldest first: index mod 256, count (> 0) |
//! | `fixed_window` | `<I6I7I7`, 20 B | deadline, index, count | |
//! | `sliding_log` | `<I6I7I6I4I4`, 27 B | deadline, newest time, sum of the entries, entries in front that mean nothing (0 now; older releases left some), entries | 11-byte entries `<I7I4`, oldest first: time, hits (> 0) |
//! | `token_bucket`, `leaky_bucket` | `<I6I7I7`, 20 B | deadline, level in 2^-20 hits, its time | |
//!
//! Times are µs since the epoch, indexes as in the algorithm. The header counts what is behind it: a value that is
//! rewritten in place may have older bytes after that, and they mean nothing.

use super::{
    State,
    log::{ENTRY, Log},
    sliding::{COUNT_BYTES, SubWindowCounts},
};
use crate::limit::{Algorithm, SUB_WINDOWS_MAX};

pub(super) mod ring;
#[cfg(test)]
mod tests;

const DEADLINE: usize = 6;

/// Doubles in Lua hold whole numbers below this exactly. No time, index or level reaches it.
const WHOLE_MAX: u64 = 1 << 53;

pub(super) fn encode(state: &State, out: &mut Vec<u8>) {
    if *state == State::Empty {
        return;
    }
    out.extend_from_slice(&[0; DEADLINE]);
    let mut put = |value: u64, bytes: usize| out.extend_from_slice(&value.to_le_bytes()[..bytes]);
    match state {
        State::Empty => {}
        State::Sliding { index, older_hits: older, older_counts: counts, count, oldest } => {
            let counts = counts.as_ref().map_or(&[][..], |counts| counts.packed());
            put(*index, 7);
            put(u64::from(*count), 4);
            put(*older, 5);
            put(u64::from(*oldest), 1);
            put((counts.len() / COUNT_BYTES) as u64, 1);
            out.extend_from_slice(counts);
        }
        State::Fixed { index, count } => {
            put(*index, 7);
            put(*count, 7);
        }
        State::Log { sum, log } => {
            put(log.newest(), 7);
            put(*sum, 6);
            put(0, 4);
            put((log.packed().len() / ENTRY) as u64, 4);
            out.extend_from_slice(log.packed());
        }
        State::Bucket { level, at } => {
            put(*level, 7);
            put(*at, 7);
        }
    }
}

pub(super) fn decode(bytes: &[u8], algorithm: Algorithm) -> Option<State> {
    let mut rest = ByteReader(bytes);
    if bytes.is_empty() {
        return Some(State::Empty);
    }
    rest.number(DEADLINE)?;
    match algorithm {
        Algorithm::SlidingWindow => sliding(rest),
        Algorithm::FixedWindow => fixed(rest),
        Algorithm::SlidingLog => log(rest),
        Algorithm::TokenBucket | Algorithm::LeakyBucket => bucket(rest),
    }
}

fn sliding(mut rest: ByteReader<'_>) -> Option<State> {
    let index = rest.number(7).filter(|index| *index < WHOLE_MAX)?;
    let count = rest.number(4)? as u32;
    let older = rest.number(5)?;
    let oldest = rest.number(1)? as u8;
    let counts = rest.number(1)? as usize;
    if oldest > SUB_WINDOWS_MAX || u64::from(oldest) > index || counts > usize::from(oldest) {
        return None;
    }
    if counts == 0 {
        let empty = older == 0 && oldest == 0;
        let state = if count == 0 {
            State::Empty
        } else {
            State::Sliding { index, older_hits: older, older_counts: None, count, oldest }
        };
        return empty.then_some(state);
    }
    let counts = SubWindowCounts::from_packed(rest.bytes(counts * COUNT_BYTES)?);
    // Oldest first, each newer than the one before, none as new as the current sub-window, none without hits.
    let (mut next, mut sum) = (index - u64::from(oldest), 0);
    for (nth, (p, count)) in counts.iter(index).enumerate() {
        let in_order = if nth == 0 { p == next } else { p >= next };
        if !in_order || p >= index || count == 0 {
            return None;
        }
        next = p + 1;
        sum += count;
    }
    (sum == older).then(|| State::Sliding {
        index,
        older_hits: older,
        older_counts: Some(Box::new(counts)),
        count,
        oldest,
    })
}

fn fixed(mut rest: ByteReader<'_>) -> Option<State> {
    let index = rest.number(7).filter(|index| *index < WHOLE_MAX)?;
    let count = rest.number(7).filter(|count| *count < WHOLE_MAX)?;
    Some(if count == 0 { State::Empty } else { State::Fixed { index, count } })
}

fn log(mut rest: ByteReader<'_>) -> Option<State> {
    let newest = rest.number(7).filter(|newest| *newest < WHOLE_MAX)?;
    let sum = rest.number(6)?;
    let dead = rest.number(4)? as usize;
    let entries = rest.number(4)? as usize;
    if entries == 0 {
        return (sum == 0).then_some(State::Empty);
    }
    rest.bytes(dead.checked_mul(ENTRY)?)?;
    let log = Log::from_packed(rest.bytes(entries.checked_mul(ENTRY)?)?);
    let (mut next, mut total) = (0, 0);
    for (time, hits) in log.iter() {
        if time < next || hits == 0 {
            return None;
        }
        // A log that was shifted to the epoch can hold the time 0 several times.
        next = time;
        total += hits;
    }
    (total == sum && log.newest() == newest).then(|| State::Log { sum, log: Box::new(log) })
}

fn bucket(mut rest: ByteReader<'_>) -> Option<State> {
    let level = rest.number(7).filter(|level| *level < WHOLE_MAX)?;
    let at = rest.number(7).filter(|at| *at < WHOLE_MAX)?;
    Some(if level == 0 { State::Empty } else { State::Bucket { level, at } })
}

/// The bytes that are left to read; a read returns `None` if there are too few.
struct ByteReader<'a>(&'a [u8]);

impl<'a> ByteReader<'a> {
    fn bytes(&mut self, n: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(n)?;
        self.0 = tail;
        Some(head)
    }

    fn number(&mut self, bytes: usize) -> Option<u64> {
        let head = self.bytes(bytes)?;
        Some(head.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    }
}
