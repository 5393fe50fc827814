//! `sliding_log`: every hit with its time; exactly the hits in `(now - window, now]` count. Dearer than a sliding
//! window, hence for limits up to [`crate::limit::SLIDING_LOG_MAX`]. Must not know how other algorithms count.
//!
//! Arithmetic, the same in Lua: a hit of time `t` leaves at `t + window`; hits of one µs share an entry. At most
//! `requests + 1` entries are kept: denied hits that are charged can make more, and then the oldest two become one, at
//! the later one's time. Until that time the newer entries alone exceed the limit, so every answer stays the same.

use super::{HitGroup, State, oldest::remove_oldest};
use crate::limit::{Cost, Limit, Micros, Reading, UnixMicros};

#[cfg(test)]
mod tests;

/// An entry is packed as in Redis: time (7 bytes), then hits (u32), little endian.
pub(super) const ENTRY: usize = 11;

/// Times and hits, oldest first, in the packed form. Entries are appended at the end and forgotten at the front by
/// moving `start`. Dead bytes are only cut off when there are more of them than live ones, so that a hit costs no copy
/// of the log.
#[derive(Clone, Debug, Default)]
pub struct Log {
    bytes: Vec<u8>,
    /// Number of dead bytes at the front.
    start: usize,
}

/// Decides a cost. With `charged`, negative hits take back a charge of that time.
pub(super) fn step(limit: &Limit, state: State, cost: Cost, charged: Option<u64>, now: u64) -> (State, Reading) {
    let Cost { hits, charge_denied } = cost;
    let (requests, window) = (u64::from(limit.requests), limit.window.0);
    let (mut sum, mut log) = match state {
        State::Log { sum, log } => (sum, Some(log)),
        _ => (0, None),
    };
    if let Some(log) = &mut log
        && log.newest() > now + window
    {
        log.shift_to(now);
    }
    // A state that is slightly ahead keeps its time.
    let current = log.as_ref().map_or(now, |log| log.newest().max(now));
    let (expired, gone) = log.as_ref().map_or((0, 0), |log| log.expired(current, window));
    let mut used = sum - gone;
    let mut skip = expired;

    let admitted = hits < 0 || used + hits.unsigned_abs() <= requests;
    let before = used;
    if hits != 0 && (admitted || charge_denied) {
        let entries = log.get_or_insert_default();
        entries.drop_oldest(expired);
        used = match charged {
            Some(time) => used - entries.remove_at(time, hits.unsigned_abs()),
            None if hits < 0 => used - entries.remove_oldest(hits.unsigned_abs()),
            None => used + entries.push(current, hits),
        };
        used -= entries.compact(limit.requests);
        (sum, skip) = (used, 0);
    }

    let remaining = requests.saturating_sub(if admitted { used } else { before });
    let leaves = |need: u64| log.as_ref().map_or(window, |log| log.until_left(need, skip) + window - now);
    let reset = if !admitted && hits.unsigned_abs() > requests {
        window
    } else if !admitted {
        leaves(used + hits.unsigned_abs() - requests)
    } else if remaining > 0 {
        log.as_ref().filter(|_| used > 0).map_or(0, |log| log.newest() + window - now)
    } else if requests == 0 {
        window
    } else {
        leaves(used + 1 - requests)
    };
    let state = match log {
        Some(log) if sum > 0 => State::Log { sum, log },
        _ => State::Empty,
    };
    (state, Reading { admitted, remaining, reset: Micros(reset) })
}

/// Hits that count at `now`, without taking the log; `None` if it would have to be shifted first.
pub(super) fn used(limit: &Limit, sum: u64, log: &Log, now: u64) -> Option<u64> {
    let (newest, window) = (log.newest(), limit.window.0);
    (newest <= now + window).then(|| sum - log.expired(newest.max(now), window).1)
}

/// The entries that count at `now`, oldest first.
pub(super) fn hit_groups(limit: &Limit, log: &Log, now: u64) -> Vec<HitGroup> {
    let (expired, _) = log.expired(log.newest().max(now), limit.window.0);
    let part = |(time, hits)| HitGroup { hits, since: UnixMicros(time), until: UnixMicros(time + limit.window.0) };
    log.iter().skip(expired).map(part).collect()
}

impl Log {
    pub(super) fn from_packed(bytes: &[u8]) -> Log {
        Log { bytes: bytes.to_vec(), start: 0 }
    }

    pub(super) fn packed(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// Time and hits, oldest first.
    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = (u64, u64)> {
        self.packed().chunks_exact(ENTRY).map(|entry| (time_of(entry), u64::from(hits_of(entry))))
    }

    /// The time of the newest entry; a log in a state always has one.
    pub(super) fn newest(&self) -> u64 {
        self.packed().chunks_exact(ENTRY).next_back().map_or(0, time_of)
    }

    pub(super) fn heap_bytes(&self) -> usize {
        size_of::<Log>() + self.bytes.capacity()
    }

    /// Number of entries that have left the window at `now`, and their hits.
    fn expired(&self, now: u64, window: u64) -> (usize, u64) {
        self.iter().take_while(|(time, _)| time + window <= now).fold((0, 0), |(n, sum), (_, hits)| (n + 1, sum + hits))
    }

    /// The time of the first entry, after the first `skip` ones, with which at least `need` hits have left.
    fn until_left(&self, need: u64, skip: usize) -> u64 {
        let mut left = 0;
        let mut live = self.iter().skip(skip);
        live.find(|(_, hits)| {
            left += hits;
            left >= need
        })
        .map_or_else(|| self.newest(), |(time, _)| time)
    }

    fn drop_oldest(&mut self, entries: usize) {
        self.start += entries * ENTRY;
    }

    /// Adds `hits` at `time`, which is not before the newest; returns how many were added (an entry saturates).
    fn push(&mut self, time: u64, hits: i64) -> u64 {
        let hits = u32::try_from(hits).unwrap_or(u32::MAX);
        if self.packed().is_empty() || self.newest() != time {
            self.bytes.extend_from_slice(&time.to_le_bytes()[..7]);
            self.bytes.extend_from_slice(&hits.to_le_bytes());
            return u64::from(hits);
        }
        let last = self.bytes.len() - ENTRY;
        add_hits(&mut self.bytes[last..], hits)
    }

    /// Removes up to `hits` from the oldest entries; returns how many there were.
    fn remove_oldest(&mut self, hits: u64) -> u64 {
        let (taken, emptied) = remove_oldest(&mut self.bytes[self.start..], ENTRY, hits);
        self.drop_oldest(emptied);
        taken
    }

    /// Removes up to `hits` from the entry of that time; returns how many there were.
    fn remove_at(&mut self, time: u64, hits: u64) -> u64 {
        let Some(nth) = self.iter().position(|(at, _)| at == time) else { return 0 };
        let begin = self.start + nth * ENTRY;
        let (taken, emptied) = remove_oldest(&mut self.bytes[begin..begin + ENTRY], ENTRY, hits);
        if emptied > 0 {
            self.bytes.drain(begin..begin + ENTRY);
        }
        taken
    }

    /// Keeps the log small: no more entries than can matter, and more live bytes than dead ones. Returns the hits that
    /// did not fit where two entries became one (both past 2^32 together).
    fn compact(&mut self, requests: u32) -> u64 {
        let mut lost = 0;
        let entries = self.packed().len() / ENTRY;
        if entries > requests as usize + 1 && entries > 1 {
            let oldest = hits_of(&self.packed()[..ENTRY]);
            self.drop_oldest(1);
            let start = self.start;
            lost = u64::from(oldest) - add_hits(&mut self.bytes[start..], oldest);
        }
        if self.start > self.bytes.len() / 2 {
            self.bytes.drain(..self.start);
            self.start = 0;
            if self.bytes.capacity() > 4 * self.bytes.len() {
                self.bytes.shrink_to(2 * self.bytes.len());
            }
        }
        lost
    }

    /// Moves everything back in time, so that the newest hit is now.
    fn shift_to(&mut self, now: u64) {
        let by = self.newest().saturating_sub(now);
        for entry in self.bytes[self.start..].chunks_exact_mut(ENTRY) {
            let time = time_of(entry).saturating_sub(by);
            entry[..7].copy_from_slice(&time.to_le_bytes()[..7]);
        }
    }
}

impl PartialEq for Log {
    /// Compares live entries only: where the dead bytes are cut off depends on the log's past.
    fn eq(&self, other: &Log) -> bool {
        self.packed() == other.packed()
    }
}

fn time_of(entry: &[u8]) -> u64 {
    u64::from_le_bytes([entry[0], entry[1], entry[2], entry[3], entry[4], entry[5], entry[6], 0])
}

fn hits_of(entry: &[u8]) -> u32 {
    u32::from_le_bytes([entry[7], entry[8], entry[9], entry[10]])
}

/// Adds to an entry, which saturates; returns how many were added.
fn add_hits(entry: &mut [u8], hits: u32) -> u64 {
    let before = hits_of(entry);
    let after = before.saturating_add(hits);
    entry[7..ENTRY].copy_from_slice(&after.to_le_bytes());
    u64::from(after - before)
}
