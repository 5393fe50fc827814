//! Makes a state smaller, for a store that is full: hits that lie close together in time get the time of the latest.
//! Counts never become lower and no hit is forgotten early; some are kept longer. Only the memory store and the
//! deferred charges of this process do this.

use super::{
    State,
    log::{ENTRY, Log},
    sliding::{COUNT_BYTES, SubWindowCounts},
};
use crate::limit::{Limit, SUB_WINDOWS_MAX};

#[cfg(test)]
mod tests;

/// Parts into which a thinned sliding window divides its window; it has at most one pair more than that.
const SLIDING_PARTS: u64 = 4;
/// Parts into which a thinned log divides its window; it is then about as exact as a sliding window.
const LOG_PARTS: u64 = 32;

pub(super) fn thinned(state: State, limit: &Limit, heap: usize) -> State {
    match state {
        State::Sliding { index, older_hits: older, older_counts: Some(counts), count, oldest } => {
            let part = u64::from(limit.sub_windows.clamp(1, SUB_WINDOWS_MAX)).div_ceil(SLIDING_PARTS);
            let merged = merge(counts.iter(index), part);
            let bytes: Vec<u8> = merged.iter().flat_map(|&(p, count)| packed::<COUNT_BYTES, 1>(p, count)).collect();
            let thin = SubWindowCounts::from_packed(&bytes);
            if thin.heap_bytes() > heap {
                let count = u64::from(count) + older;
                return State::Sliding { index, older_hits: 0, older_counts: None, count: clamped(count), oldest: 0 };
            }
            // Merging moves the oldest pair forward, and saturates where no limit admits a hit.
            let oldest = merged.first().map_or(oldest, |&(p, _)| (index - p) as u8);
            let older = merged.iter().map(|&(_, count)| u64::from(count)).sum();
            State::Sliding { index, older_hits: older, older_counts: Some(Box::new(thin)), count, oldest }
        }
        State::Log { sum, log } => {
            let log_of = |entries: &[(u64, u32)]| {
                let bytes: Vec<u8> = entries.iter().flat_map(|&(time, hits)| packed::<ENTRY, 7>(time, hits)).collect();
                let sum = entries.iter().map(|&(_, hits)| u64::from(hits)).sum();
                State::Log { sum, log: Box::new(Log::from_packed(&bytes)) }
            };
            let thin = log_of(&merge(log.iter(), (limit.window.0 / LOG_PARTS).max(1)));
            if thin.heap_bytes() > heap { log_of(&[(log.newest(), clamped(sum))]) } else { thin }
        }
        inline => inline,
    }
}

/// Merges the hits of each part of the time line into one item, with the time of the latest among them.
fn merge(items: impl Iterator<Item = (u64, u64)>, part: u64) -> Vec<(u64, u32)> {
    let mut merged: Vec<(u64, u32)> = Vec::new();
    for (at, count) in items {
        match merged.last_mut() {
            Some(last) if last.0 / part == at / part => *last = (at, clamped(u64::from(last.1) + count)),
            _ => merged.push((at, clamped(count))),
        }
    }
    merged
}

fn clamped(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// The low `AT` bytes of `at`, then the count: `SIZE` bytes, little endian.
fn packed<const SIZE: usize, const AT: usize>(at: u64, count: u32) -> [u8; SIZE] {
    let mut bytes = [0; SIZE];
    bytes[..AT].copy_from_slice(&at.to_le_bytes()[..AT]);
    bytes[AT..].copy_from_slice(&count.to_le_bytes());
    bytes
}
