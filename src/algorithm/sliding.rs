//! `sliding_window`: hits counted per sub-window, the current one and the N before it. The oldest is counted whole while
//! any of it overlaps the window, so the count is never below the truth and no true window holds more than the limit.
//! Must not know how other algorithms count.
//!
//! Arithmetic, the same in Lua (all whole numbers below 2^53):
//! - `sub = ceil(window / N)`, `index = floor(now / sub)`; sub-windows `index - N ..= index` count.
//! - A sub-window `p` leaves at `(p + N + 1) * sub`.
//! - Counts are u32 and saturate, at which point no limit admits a hit.

use super::{HitGroup, State, oldest::remove_oldest};
use crate::limit::{Cost, Limit, Micros, Reading, SUB_WINDOWS_MAX, UnixMicros};

#[cfg(test)]
mod tests;

/// A pair is packed as in Redis: index mod 256, then the count, little endian.
pub(super) const COUNT_BYTES: usize = 5;

/// The older sub-windows that have hits, oldest first. In the packed form, so that encoding is copying; their index is
/// kept mod 256, so that turning to the next sub-window rewrites none of them (N is at most 64).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SubWindowCounts(Vec<u8>);

/// A state unpacked into its fields, to work on.
struct Window {
    index: u64,
    older_hits: u64,
    older_counts: Option<Box<SubWindowCounts>>,
    count: u32,
    oldest: u8,
}

/// Decides a cost. With `charged`, negative hits take back a charge of that time.
pub(super) fn step(limit: &Limit, state: State, cost: Cost, charged: Option<u64>, now: u64) -> (State, Reading) {
    let Cost { hits, charge_denied } = cost;
    let (n, sub) = sub_windows(limit);
    let requests = u64::from(limit.requests);
    let now_index = now / sub;
    let mut window = Window::of(state, now_index);
    if window.index >= now_index + n {
        window.shift_to(now_index);
    }
    // A state less than a window ahead keeps its time. If one that is a whole window ahead did, it would refuse for two
    // windows and a sub-window.
    let index = now_index.max(window.index);

    let mut used = window.used(index, n);
    let admitted = hits < 0 || used + hits.unsigned_abs() <= requests;
    let before = used;
    if hits != 0 && (admitted || charge_denied) {
        window.turn_to(index, n);
        match charged {
            Some(time) => window.take_from(time / sub, hits.unsigned_abs()),
            None => window.charge(hits),
        }
        used = window.older_hits + u64::from(window.count);
    }

    let remaining = requests.saturating_sub(if admitted { used } else { before });
    let leaves = |p: u64| (p + n + 1) * sub - now;
    let reset = if !admitted && hits.unsigned_abs() > requests {
        limit.window.0
    } else if !admitted {
        leaves(window.until_left(used + hits.unsigned_abs() - requests, index, n))
    } else if remaining > 0 {
        if used == 0 { 0 } else { leaves(window.newest()) }
    } else if requests == 0 {
        limit.window.0
    } else {
        leaves(window.until_left(used + 1 - requests, index, n))
    };
    (window.into_state(), Reading { admitted, remaining, reset: Micros(reset) })
}

/// Time in µs from a sub-window's begin for which its hits count.
pub(super) fn life(limit: &Limit) -> u64 {
    let (n, sub) = sub_windows(limit);
    (n + 1) * sub
}

pub(super) fn is_ahead(limit: &Limit, index: u64, now: u64) -> bool {
    let (n, sub) = sub_windows(limit);
    index >= now / sub + n
}

pub(super) fn expires(limit: &Limit, index: u64, counts: Option<&SubWindowCounts>, count: u32) -> u64 {
    let (n, sub) = sub_windows(limit);
    (newest(index, counts, count) + n + 1).saturating_mul(sub)
}

/// Hits that count at `now`, without taking the state; `None` if it would have to be shifted first.
pub(super) fn used(limit: &Limit, state: &State, now: u64) -> Option<u64> {
    let State::Sliding { index, older_hits: older, older_counts: counts, count, oldest } = state else { return None };
    let (n, sub) = sub_windows(limit);
    let (index, at) = (*index, (now / sub).max(*index));
    if index >= now / sub + n {
        return None;
    }
    if at - index + u64::from(*oldest) <= n {
        return Some(older + u64::from(*count));
    }
    let newest = [(index, u64::from(*count))];
    let parts = counts.iter().flat_map(|counts| counts.iter(index)).chain(newest);
    Some(parts.filter(|(p, _)| p + n >= at).map(|(_, count)| count).sum())
}

/// The sub-windows that count at `now`, oldest first.
pub(super) fn hit_groups(limit: &Limit, state: State, now: u64) -> Vec<HitGroup> {
    let (n, sub) = sub_windows(limit);
    let window = Window::of(state, now / sub);
    let index = window.index.max(now / sub);
    let live = window.sub_window_counts().filter(|(p, _)| p + n >= index);
    live.map(|(p, hits)| HitGroup { hits, since: UnixMicros(p * sub), until: UnixMicros((p + n + 1) * sub) }).collect()
}

/// Number of sub-windows, N, and the length of one in µs.
fn sub_windows(limit: &Limit) -> (u64, u64) {
    let n = u64::from(limit.sub_windows.clamp(1, SUB_WINDOWS_MAX));
    (n, limit.window.0.max(1).div_ceil(n))
}

/// The newest sub-window with hits: a refund can leave the current one without.
fn newest(index: u64, counts: Option<&SubWindowCounts>, count: u32) -> u64 {
    match counts {
        Some(counts) if count == 0 => counts.iter(index).next_back().map_or(index, |(p, _)| p),
        _ => index,
    }
}

impl Window {
    fn of(state: State, now_index: u64) -> Window {
        match state {
            State::Sliding { index, older_hits: older, older_counts: counts, count, oldest } => {
                Window { index, older_hits: older, older_counts: counts, count, oldest }
            }
            _ => Window { index: now_index, older_hits: 0, older_counts: None, count: 0, oldest: 0 },
        }
    }

    fn into_state(self) -> State {
        let Window { index, older_hits: older, older_counts: counts, count, oldest } = self;
        if older == 0 && count == 0 {
            State::Empty
        } else {
            State::Sliding { index, older_hits: older, older_counts: counts, count, oldest }
        }
    }

    /// Every sub-window that has hits, oldest first.
    fn sub_window_counts(&self) -> impl Iterator<Item = (u64, u64)> {
        let counts = self.older_counts.iter().flat_map(|counts| counts.iter(self.index));
        counts.chain([(self.index, u64::from(self.count))]).filter(|part| part.1 > 0)
    }

    /// Hits that count at `index`. Touches no pair unless one of them expires.
    fn used(&self, index: u64, n: u64) -> u64 {
        let turned = index - self.index;
        if turned + u64::from(self.oldest) <= n {
            return self.older_hits + u64::from(self.count);
        }
        self.sub_window_counts().filter(|(p, _)| p + n >= index).map(|(_, count)| count).sum()
    }

    /// The sub-window with which, oldest first, at least `need` hits have left. The first is known without the pairs.
    fn until_left(&self, need: u64, index: u64, n: u64) -> u64 {
        let oldest = self.index - u64::from(self.oldest);
        if need <= 1 && oldest + n >= index && (self.oldest > 0 || self.count > 0) {
            return oldest;
        }
        let mut left = 0;
        let live = self.sub_window_counts().filter(|(p, _)| p + n >= index);
        let mut last = self.index;
        for (p, count) in live {
            last = p;
            left += count;
            if left >= need {
                break;
            }
        }
        last
    }

    fn newest(&self) -> u64 {
        newest(self.index, self.older_counts.as_deref(), self.count)
    }

    /// Makes `index` the current sub-window: the one before becomes a pair, those that expired go.
    fn turn_to(&mut self, index: u64, n: u64) {
        if index == self.index {
            return;
        }
        if index - self.index > n {
            *self = Window::of(State::Empty, index);
            return;
        }
        if let Some(counts) = &mut self.older_counts {
            let expired = counts.iter(self.index).take_while(|(p, _)| p + n < index).count();
            self.older_hits -= counts.drop_oldest(expired);
        }
        if self.count > 0 {
            self.older_counts.get_or_insert_default().push(self.index, self.count);
            self.older_hits += u64::from(self.count);
            self.count = 0;
        }
        self.index = index;
        self.settle();
    }

    /// Charges hits to the current sub-window; negative hits are given back, oldest first.
    fn charge(&mut self, hits: i64) {
        if hits > 0 {
            self.count = self.count.saturating_add(u32::try_from(hits).unwrap_or(u32::MAX));
            return;
        }
        let mut back = hits.unsigned_abs();
        if let Some(counts) = &mut self.older_counts {
            let taken = counts.remove_oldest(back);
            self.older_hits -= taken;
            back -= taken;
        }
        self.count -= u32::try_from(back).unwrap_or(u32::MAX).min(self.count);
        self.settle();
    }

    /// Gives hits back to sub-window `p` alone, if it has any.
    fn take_from(&mut self, p: u64, hits: u64) {
        if p == self.index {
            self.count -= u32::try_from(hits).unwrap_or(u32::MAX).min(self.count);
        } else if let Some(counts) = &mut self.older_counts {
            let found = counts.iter(self.index).position(|(index, _)| index == p);
            self.older_hits -= found.map_or(0, |nth| counts.remove_at(nth, hits));
            self.settle();
        }
    }

    /// After pairs were removed: frees the memory of the last one, and notes which is the oldest now.
    fn settle(&mut self) {
        self.older_counts = self.older_counts.take().filter(|counts| !counts.0.is_empty());
        let first = self.older_counts.as_ref().and_then(|counts| counts.iter(self.index).next());
        self.oldest = first.map_or(0, |(p, _)| (self.index - p) as u8);
    }

    /// Moves everything back in time, so that the newest sub-window is `index`.
    fn shift_to(&mut self, index: u64) {
        // A sub-window before the epoch would have no index; hits there go to the epoch's first.
        let index = index.max(u64::from(self.oldest));
        if let Some(counts) = &mut self.older_counts {
            let by = (self.index - index) as u8;
            counts
                .0
                .chunks_exact_mut(COUNT_BYTES)
                .for_each(|packed_count| packed_count[0] = packed_count[0].wrapping_sub(by));
        }
        self.index = index;
    }
}

impl SubWindowCounts {
    pub(super) fn from_packed(bytes: &[u8]) -> SubWindowCounts {
        SubWindowCounts(bytes.to_vec())
    }

    pub(super) fn packed(&self) -> &[u8] {
        &self.0
    }

    /// Absolute index and count, oldest first, seen from the current sub-window.
    pub(super) fn iter(&self, index: u64) -> impl DoubleEndedIterator<Item = (u64, u64)> {
        self.0.chunks_exact(COUNT_BYTES).map(move |packed_count| {
            let before = (index as u8).wrapping_sub(packed_count[0]);
            (index.saturating_sub(u64::from(before)), u64::from(count_of(packed_count)))
        })
    }

    pub(super) fn heap_bytes(&self) -> usize {
        size_of::<SubWindowCounts>() + self.0.capacity()
    }

    fn push(&mut self, index: u64, count: u32) {
        if self.0.capacity() - self.0.len() < COUNT_BYTES {
            // By four, not doubling: there are at most 64, and there may be millions of these.
            self.0.reserve_exact(4 * COUNT_BYTES);
        }
        self.0.push(index as u8);
        self.0.extend_from_slice(&count.to_le_bytes());
    }

    /// Cuts off the oldest `pairs`; returns their sum.
    fn drop_oldest(&mut self, counts: usize) -> u64 {
        self.0
            .drain(..counts * COUNT_BYTES)
            .as_slice()
            .chunks_exact(COUNT_BYTES)
            .map(|packed_count| u64::from(count_of(packed_count)))
            .sum()
    }

    /// Removes up to `hits` from the oldest; returns how many there were.
    fn remove_oldest(&mut self, hits: u64) -> u64 {
        let (taken, emptied) = remove_oldest(&mut self.0, COUNT_BYTES, hits);
        self.drop_oldest(emptied);
        taken
    }

    /// Removes up to `hits` from one of the pairs; returns how many there were.
    fn remove_at(&mut self, nth: usize, hits: u64) -> u64 {
        let packed_count = nth * COUNT_BYTES..(nth + 1) * COUNT_BYTES;
        let (taken, emptied) = remove_oldest(&mut self.0[packed_count.clone()], COUNT_BYTES, hits);
        if emptied > 0 {
            self.0.drain(packed_count);
        }
        taken
    }
}

fn count_of(packed_count: &[u8]) -> u32 {
    u32::from_le_bytes([packed_count[1], packed_count[2], packed_count[3], packed_count[4]])
}
