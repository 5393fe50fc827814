//! How much room the counters take and who may have more: the bound of the memory store and each rule's share of it.
//! Counts bytes and says yes or no; it never touches a counter.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::shard::{COUNTER_BYTES, Counter};

/// Rules are told apart by 16 bits here: with more than that many, a few share one allowance.
const SHARES: usize = 1 << 16;

/// Heap of a sliding window with five parts: the least with which it still is one.
const THIN_HEAP: usize = 64;

/// Which allowance a counter draws on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Share(pub(super) u16);

impl Share {
    pub(super) fn of(rule: u32) -> Share {
        // Fibonacci hashing: spreads ids counted from 0 as well as hashes.
        Share((rule.wrapping_mul(0x9E37_79B1) >> 16) as u16)
    }
}

pub(super) struct Room {
    /// Bytes that ordinary counters may take.
    max: u64,
    /// Bytes beyond these, for overflow counters of rules.
    overflow_max: u64,
    /// Bytes of all ordinary counters, and of each share: sums over the same counters.
    held: AtomicU64,
    shares: Box<[AtomicU64]>,
    overflow: AtomicU64,
    counters: AtomicU64,
}

impl Room {
    /// Of `bytes`, a sixteenth is kept for overflow counters.
    pub(super) fn new(bytes: u64) -> Room {
        Room {
            max: bytes - bytes / 16,
            overflow_max: bytes / 16,
            held: AtomicU64::new(0),
            shares: (0..SHARES).map(|_| AtomicU64::new(0)).collect(),
            overflow: AtomicU64::new(0),
            counters: AtomicU64::new(0),
        }
    }

    /// Whether a new counter finds room. The last eighth is only for rules that hold next to nothing, so that a
    /// newcomer finds some; and a rule that isn't alone gets no more than half.
    pub(super) fn admits(&self, share: Share) -> bool {
        let (held, own) = (self.held.load(Relaxed), self.shares[usize::from(share.0)].load(Relaxed));
        let reserve = if own < self.max / 64 { 0 } else { self.max / 8 };
        let is_alone = own >= held;
        held + COUNTER_BYTES + reserve <= self.max && (is_alone || own + COUNTER_BYTES <= self.max / 2)
    }

    /// How many overflow counters a rule may have: a power of two, and so many that it takes a dozen flooding rules
    /// until the room for them is gone.
    pub(super) fn overflow_places(&self, at_most: u32) -> u32 {
        let fair = (self.overflow_max / COUNTER_BYTES / 12).clamp(1, u64::from(at_most));
        1 << fair.ilog2()
    }

    /// Whether a rule gets an overflow counter of its own. A quarter is kept for those that all rules share.
    pub(super) fn admits_overflow(&self) -> bool {
        self.overflow.load(Relaxed) + COUNTER_BYTES <= self.overflow_max / 4 * 3
    }

    /// Whether a counter that was there before a restart fits in all: the shares were judged when it was made.
    pub(super) fn has_room(&self, counter: &Counter) -> bool {
        let bytes = COUNTER_BYTES + counter.state.heap_bytes() as u64;
        let (held, max) =
            if counter.is_overflow { (&self.overflow, self.overflow_max) } else { (&self.held, self.max) };
        held.load(Relaxed) + bytes <= max
    }

    /// How much heap a counter that held `before` may grow to; `None` while there is enough for all. Ordinary counters
    /// stop growing by much when a sixteenth is left, and altogether when nothing is.
    pub(super) fn heap_limit(&self, is_overflow: bool, before: usize) -> Option<usize> {
        let (held, max) = if is_overflow { (&self.overflow, self.overflow_max) } else { (&self.held, self.max) };
        let held = held.load(Relaxed);
        if held < max - max / 16 {
            return None;
        }
        Some(if held < max { before.max(THIN_HEAP) } else { before })
    }

    pub(super) fn created(&self, share: Share, is_overflow: bool, heap: usize) {
        self.counters.fetch_add(1, Relaxed);
        self.resized(share, is_overflow, 0, COUNTER_BYTES + heap as u64);
    }

    pub(super) fn removed(&self, share: Share, is_overflow: bool, heap: usize) {
        self.counters.fetch_sub(1, Relaxed);
        self.resized(share, is_overflow, COUNTER_BYTES + heap as u64, 0);
    }

    pub(super) fn resized(&self, share: Share, is_overflow: bool, before: u64, after: u64) {
        // Wrapping, so that a shrinking counter is a sum too.
        let change = after.wrapping_sub(before);
        if is_overflow {
            self.overflow.fetch_add(change, Relaxed);
        } else {
            self.shares[usize::from(share.0)].fetch_add(change, Relaxed);
            self.held.fetch_add(change, Relaxed);
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.held.load(Relaxed) + self.overflow.load(Relaxed)
    }

    pub(super) fn counters(&self) -> u64 {
        self.counters.load(Relaxed)
    }
}
