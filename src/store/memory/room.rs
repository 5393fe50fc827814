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

/// How a rule stands with the store.
struct Claim {
    /// Bytes that it holds.
    own: u64,
    /// Nobody else holds anything.
    is_alone: bool,
    /// Bytes that there are for it, if nobody else takes them.
    left: u64,
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

    /// Whether a new counter finds room. The last eighth is only for rules that hold next to nothing, so that a newcomer
    /// finds some; and a rule that isn't alone gets no more than half.
    pub(super) fn admits(&self, share: Share) -> bool {
        let claim = self.claim(share, self.max / 8);
        COUNTER_BYTES <= claim.left && (claim.is_alone || claim.own + COUNTER_BYTES <= self.max / 2)
    }

    /// What a rule may take, where `reserve` is kept for those that hold next to nothing.
    fn claim(&self, share: Share, reserve: u64) -> Claim {
        let (held, own) = (self.held.load(Relaxed), self.shares[usize::from(share.0)].load(Relaxed));
        let reserve = if own < self.max / 64 { 0 } else { reserve };
        Claim { own, is_alone: own >= held, left: (self.max - reserve).saturating_sub(held) }
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

    /// How much heap a counter that held `before` may grow to; `None` while there is enough for all. When a sixteenth is
    /// left of what its rule may take, or its rule isn't alone and holds half of all, it stops growing by much; with both,
    /// or when nothing is left, altogether.
    pub(super) fn heap_limit(&self, share: Share, is_overflow: bool, before: usize) -> Option<usize> {
        let (left, is_scarce, is_half) = if is_overflow {
            let left = self.overflow_max.saturating_sub(self.overflow.load(Relaxed));
            (left, left <= self.overflow_max / 16, false)
        } else {
            // Half of what new counters leave: those that are there can grow a little more, and newcomers still find room.
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
