//! Fingerprints: the memory store knows a counter by 128 keyed bits instead of its key, so that a counter costs the
//! same however long its key is, and nobody outside can choose keys that collide. It knows nothing of shards or states.

use std::hash::Hasher;

use siphasher::sip128::{Hasher128, SipHasher13};

use crate::{
    limit::{Algorithm, Limit},
    store::counter_check::{CounterCheck, Key},
};

/// Two counters with one fingerprint would be one counter: at 10⁹ counters the chance is about 10⁻²¹.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::store) struct Fingerprint {
    /// Its upper bits choose the shard, so counters in order of fingerprint are in order of shard.
    pub(super) high: u64,
    pub(super) low: u64,
}

/// Secret keys of this process, or of the snapshot that it goes on from.
#[derive(Clone, Copy)]
pub(in crate::store) struct HashKeys(pub(super) u64, pub(super) u64);

/// Separates the kinds of fingerprints, so that no counter's words can spell an overflow counter.
enum FingerprintKind {
    Counter = 1,
    RuleOverflow = 2,
    CommonOverflow = 3,
}

impl HashKeys {
    pub(in crate::store) fn random() -> HashKeys {
        HashKeys(rand::random(), rand::random())
    }

    /// Fingerprint of the counter of a key and of its limit's algorithm and window. A limit with another window or
    /// algorithm has another counter; one that admits another number of hits has the same.
    pub(in crate::store) fn counter(self, check: &CounterCheck<'_>) -> Fingerprint {
        let mut hasher = self.hasher(FingerprintKind::Counter, &check.limit);
        let Key { domain, entries, shared, limit_name, variable: _ } = check.key;
        part(&mut hasher, domain.as_bytes());
        part(&mut hasher, limit_name.as_bytes());
        for (position, entry) in entries.iter().enumerate() {
            part(&mut hasher, entry.key.as_bytes());
            // The mark keeps the value `*` apart from the pattern `*`.
            match shared.get(position).and_then(Option::as_deref) {
                None => {
                    hasher.write_u8(0);
                    part(&mut hasher, entry.value.as_bytes());
                }
                Some(pattern) => {
                    hasher.write_u8(1);
                    part(&mut hasher, pattern.as_bytes());
                }
            }
        }
        finish(&hasher)
    }

    /// Fingerprint of the overflow counter that counts for keys of one rule without room, one for each place in
    /// `among`. It lies in the shard of the counters that it replaces.
    pub(super) fn rule_overflow(self, check: &CounterCheck<'_>, of: Fingerprint, among: u32) -> Fingerprint {
        let mut hasher = self.hasher(FingerprintKind::RuleOverflow, &check.limit);
        hasher.write_u32(check.rule);
        part(&mut hasher, check.key.limit_name.as_bytes());
        of.in_shard_of(hasher, among)
    }

    /// Fingerprint of the overflow counter that all rules share whose limits have the same algorithm and window: the
    /// last resort, when overflow counters of rules find no room either.
    pub(super) fn common_overflow(self, check: &CounterCheck<'_>, of: Fingerprint, among: u32) -> Fingerprint {
        of.in_shard_of(self.hasher(FingerprintKind::CommonOverflow, &check.limit), among)
    }

    fn hasher(self, kind: FingerprintKind, limit: &Limit) -> SipHasher13 {
        let mut hasher = SipHasher13::new_with_keys(self.0, self.1);
        let sub_windows = if limit.algorithm == Algorithm::SlidingWindow { limit.sub_windows } else { 0 };
        // One word for the three, one for the window: fewer writes are measurably cheaper.
        hasher.write_u64(kind as u64 | (limit.algorithm as u64) << 8 | u64::from(sub_windows) << 16);
        hasher.write_u64(limit.window.0);
        hasher
    }
}

impl Fingerprint {
    /// The place among `count` (a power of two) that the upper bits choose.
    pub(in crate::store) fn place(self, count: u32) -> u32 {
        ((u128::from(self.high) * u128::from(count)) >> 64) as u32
    }

    fn in_shard_of(self, mut hasher: SipHasher13, among: u32) -> Fingerprint {
        let slot = self.place(among);
        hasher.write_u32(slot);
        let shift = 64 - among.trailing_zeros();
        let upper = u64::from(slot).checked_shl(shift).unwrap_or(0);
        let mixed = finish(&hasher);
        let lower = if shift == 64 { mixed.high } else { mixed.high & ((1 << shift) - 1) };
        Fingerprint { high: upper | lower, low: mixed.low }
    }
}

/// Length first: no two lists of parts spell the same bytes.
fn part(hasher: &mut SipHasher13, bytes: &[u8]) {
    hasher.write_u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
    hasher.write(bytes);
}

fn finish(hasher: &SipHasher13) -> Fingerprint {
    let (high, low) = hasher.finish128().as_u64();
    Fingerprint { high, low }
}
