//! The capacity of the memory store, and each rule's share of it. It counts bytes and decides whether there is room; it
//! never touches a counter.

use std::sync::{
    OnceLock,
    atomic::{AtomicU64, Ordering::Relaxed},
};

/// Bytes that one counter is counted with, besides its state's heap: 56 of its own, up to 11.4 in an index that is at
/// worst 7/16 full, its part of a chunk's header and of a chunk's free slots, and what allocators round up. Measured
/// with `examples/memory_bounds.rs`: 75 to 82 B resident.
pub(super) const COUNTER_BYTES: u64 = 80;

/// Rules are distinguished by 16 bits here; with more rules than that, a few share one allowance.
const SHARES: usize = 1 << 16;

/// Shares that get their memory together, when the first of them is used: ten rules don't take the memory of all.
const PART: usize = 1 << 8;

/// Heap of a sliding window with five parts: the least with which it still is one.
const THIN_HEAP: usize = 64;

/// The allowance that a counter's bytes are counted in; each rule has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ShareId(pub(super) u16);

impl ShareId {
    pub(super) fn of(rule: u32) -> ShareId {
        // Fibonacci hashing: spreads ids counted from 0 as well as hashes.
        ShareId((rule.wrapping_mul(0x9E37_79B1) >> 16) as u16)
    }
}

/// What a rule has of the store, and what it may still get.
struct Claim {
    /// Bytes of its counters.
    own: u64,
    /// Whether no other rule has counters.
    is_alone: bool,
    /// Bytes that are free for it, if no other rule takes them first.
    left: u64,
}

pub(super) struct Capacity {
    /// Bytes that ordinary counters may take.
    max: u64,
    /// Bytes beyond these, for overflow counters of rules.
    overflow_max: u64,
    /// Bytes of all ordinary counters, and of each share's: sums over the same counters.
    held: AtomicU64,
    shares: Box<[OnceLock<Box<[AtomicU64; PART]>>]>,
    overflow: AtomicU64,
    counters: AtomicU64,
}

impl Capacity {
    /// Of `bytes`, a sixteenth is kept for overflow counters.
    pub(super) fn new(bytes: u64) -> Capacity {
        Capacity {
            max: bytes - bytes / 16,
            overflow_max: bytes / 16,
            held: AtomicU64::new(0),
            shares: (0..SHARES / PART).map(|_| OnceLock::new()).collect(),
            overflow: AtomicU64::new(0),
            counters: AtomicU64::new(0),
        }
    }

    /// Whether there is room for a new counter. The last eighth is only for rules that have next to nothing, so that a
    /// new rule finds room; and a rule that isn't alone gets at most half of all.
    pub(super) fn admits(&self, share: ShareId) -> bool {
        let claim = self.claim(share, self.max / 8);
        COUNTER_BYTES <= claim.left && (claim.is_alone || claim.own + COUNTER_BYTES <= self.max / 2)
    }

    /// Bytes of a share's counters.
    fn share(&self, share: ShareId) -> &AtomicU64 {
        let (part, slot) = (usize::from(share.0) / PART, usize::from(share.0) % PART);
        &self.shares[part].get_or_init(|| Box::new([const { AtomicU64::new(0) }; PART]))[slot]
    }

    /// What a rule has and may get, with `reserve` bytes kept for rules that have next to nothing.
    fn claim(&self, share: ShareId, reserve: u64) -> Claim {
        let (held, own) = (self.held.load(Relaxed), self.share(share).load(Relaxed));
        let reserve = if own < self.max / 64 { 0 } else { reserve };
        Claim { own, is_alone: own >= held, left: (self.max - reserve).saturating_sub(held) }
    }

    /// Number of overflow counters that a rule may have: a power of two, small enough that it takes a dozen flooding
    /// rules to fill the room for them.
    pub(super) fn overflow_places(&self, at_most: u32) -> u32 {
        let fair = (self.overflow_max / COUNTER_BYTES / 12).clamp(1, u64::from(at_most));
        1 << fair.ilog2()
    }

    /// Whether a rule gets an overflow counter of its own. A quarter of their room is kept for the ones that all rules
    /// share.
    pub(super) fn admits_overflow(&self) -> bool {
        self.overflow.load(Relaxed) + COUNTER_BYTES <= self.overflow_max / 4 * 3
    }

    /// Whether a counter of a snapshot fits in all. Its rule's share was checked when it was created.
    pub(super) fn has_capacity(&self, is_overflow: bool, heap: usize) -> bool {
        let bytes = COUNTER_BYTES + heap as u64;
        let (held, max) = if is_overflow { (&self.overflow, self.overflow_max) } else { (&self.held, self.max) };
        held.load(Relaxed) + bytes <= max
    }

    /// Heap in bytes that a counter which had `before` may grow to; `None` while there is enough for all. If only a
    /// sixteenth is left of what its rule may take, or its rule isn't alone and has half of all, the counter hardly
    /// grows any more; if both hold, or nothing is left, not at all.
    pub(super) fn heap_limit(&self, share: ShareId, is_overflow: bool, before: usize) -> Option<usize> {
        let (left, is_scarce, is_half) = if is_overflow {
            let left = self.overflow_max.saturating_sub(self.overflow.load(Relaxed));
            (left, left <= self.overflow_max / 16, false)
        } else {
            // Half of the reserve for new counters, so that existing counters can still grow a little and new ones
            // still find room.
            let claim = self.claim(share, self.max / 16);
            (claim.left, claim.left <= self.max / 16, !claim.is_alone && claim.own >= self.max / 2)
        };
        match (is_scarce, is_half) {
            (false, false) => None,
            (true, true) => Some(before),
            _ if left == 0 => Some(before),
            _ => Some(before.max(THIN_HEAP)),
        }
    }

    pub(super) fn created(&self, share: ShareId, is_overflow: bool, heap: usize) {
        self.counters.fetch_add(1, Relaxed);
        self.resized(share, is_overflow, 0, COUNTER_BYTES + heap as u64);
    }

    pub(super) fn removed(&self, share: ShareId, is_overflow: bool, heap: usize) {
        self.counters.fetch_sub(1, Relaxed);
        self.resized(share, is_overflow, COUNTER_BYTES + heap as u64, 0);
    }

    pub(super) fn resized(&self, share: ShareId, is_overflow: bool, before: u64, after: u64) {
        // Wrapping arithmetic, so that adding also works for a counter that shrinks.
        let change = after.wrapping_sub(before);
        if is_overflow {
            self.overflow.fetch_add(change, Relaxed);
        } else {
            self.share(share).fetch_add(change, Relaxed);
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
