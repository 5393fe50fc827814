//! Deferred charges: hits that this replica admitted by its own memory while the store could not be asked. They are
//! charged in the store with the next request for the same counter. Bounded in memory; it knows counters and limits, but
//! neither failure policies nor how the store is asked.
//!
//! A counter's deferred hits go through these states:
//!
//! ```text
//! add → kept ── a request for the counter comes ──→ taken ── its batch leaves ──→ sent ── reply ──→ charged
//!        │ ↑                                          │                            │
//!        │ └───── dropped before it was sent, or Redis charged nothing ────────────┤
//!        │                                                                         └─ no reply ──→ lost
//!        ├─ their window passed, or the counter was reset ──→ expired
//!        └─ no room to keep them ──→ dropped
//! ```
//!
//! They are kept as a state of the limit's algorithm, so that they expire when the store's counter would have forgotten
//! them. In a request they are placed before its own checks, as shadow checks with `charge_denied`: charged in any case,
//! and never a reason to deny it.
//!
//! Invariants: (1) a hit is charged at most once: what was sent and not answered counts as lost and isn't sent again;
//! (2) a counter's deferred hits are in the map or in one request, never in both; (3) never more hits than the whole
//! limit are charged; (4) while there are none, a request pays one atomic load.
//!
//! Example, with 10 hits per 60 s: Redis is away from second 0 to 40. Alice is admitted 4 hits at second 1 and 2 at
//! second 30 here. At second 41 her next request carries a check of 6 hits before its own, so Redis has 4 of 10 left
//! when it decides the request. Had she come at second 75, only the 2 hits of second 30 would still count: 2 charged, 4
//! expired.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
};

use parking_lot::Mutex;
use smallvec::SmallVec;
use tokio::time::Instant;

use super::counter_check::{CounterCheck, Role};
use super::memory::fingerprint::{Fingerprint, HashKeys};
use crate::{
    algorithm::{State, step},
    limit::{COUNTERS_MAX, Cost, Limit, UnixMicros},
};

#[cfg(test)]
mod tests;

/// Memory for deferred charges: some hundred thousand counters, as an outage of an hour leaves on a busy replica.
const BYTES_MAX: usize = 64 << 20;

/// Bytes of a deferred charge with its slot in a map, rounded up; its state may have more on the heap.
const CHARGE_BYTES: usize = 160;

const SHARDS: usize = 64;

const PEEK: Cost = Cost { hits: 0, charge_denied: false };

/// The deferred charges of one process; all its cores share them.
pub struct DeferredCharges {
    keys: HashKeys,
    /// A wall clock that is never set: the time at the start, and the instant of the start.
    began: (UnixMicros, Instant),
    shards: [Mutex<HashMap<Fingerprint, DeferredCharge>>; SHARDS],
    /// Counters with deferred charges, over all shards. While it is 0, which is nearly always, no shard is looked at.
    counters: AtomicUsize,
    bytes: AtomicUsize,
    swept: AtomicUsize,
    bytes_max: usize,
    hits: [AtomicU64; 4],
}

/// What became of deferred hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeferredOutcome {
    Charged,
    /// Their window passed, or their counter was reset, before another request came for it.
    Expired,
    /// There was no memory for them.
    Dropped,
    /// They were sent and no reply came. Redis may have charged them, so they are not sent again.
    Lost,
}

impl DeferredOutcome {
    pub const ALL: [DeferredOutcome; 4] =
        [DeferredOutcome::Charged, DeferredOutcome::Expired, DeferredOutcome::Dropped, DeferredOutcome::Lost];

    pub const fn name(self) -> &'static str {
        match self {
            DeferredOutcome::Charged => "charged",
            DeferredOutcome::Expired => "expired",
            DeferredOutcome::Dropped => "dropped",
            DeferredOutcome::Lost => "lost",
        }
    }
}

/// The deferred hits of one counter. They are kept in the counter's own algorithm, so that they expire when they would
/// in the store.
struct DeferredCharge {
    limit: Limit,
    state: State,
    /// All hits that were added, expired ones included.
    hits: u64,
}

/// Deferred charges on their way to the store with a request. When this is dropped, what was not sent is kept again,
/// and what was sent without a reply is lost.
pub(super) struct DeferredBatch {
    source: Arc<DeferredCharges>,
    charges: SmallVec<[(Fingerprint, DeferredCharge, u64); 2]>,
    is_sent: bool,
}

impl DeferredCharges {
    /// An empty set; `now` is the wall clock's time.
    pub fn new(now: UnixMicros) -> DeferredCharges {
        DeferredCharges::with_capacity(now, BYTES_MAX)
    }

    fn with_capacity(now: UnixMicros, bytes_max: usize) -> DeferredCharges {
        DeferredCharges {
            keys: HashKeys::random(),
            began: (now, Instant::now()),
            shards: std::array::from_fn(|_| Mutex::default()),
            counters: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            swept: AtomicUsize::new(0),
            bytes_max,
            hits: Default::default(),
        }
    }

    /// Adds the hits of `check`, which were charged here instead of in the store. A refund lessens what is deferred.
    pub fn add(&self, check: &CounterCheck<'_>) {
        if check.cost.hits != 0 {
            self.charge(self.keys.counter(check), &check.limit, check.cost.hits, self.now());
        }
    }

    fn charge(&self, counter: Fingerprint, limit: &Limit, hits: i64, now: UnixMicros) {
        let mut shard = self.shard(counter).lock();
        let known = shard.remove(&counter);
        let before = known.as_ref().map_or(0, DeferredCharge::bytes);
        if known.is_none() && (hits < 0 || self.bytes.load(Relaxed) + CHARGE_BYTES > self.bytes_max) {
            self.count(DeferredOutcome::Dropped, hits.max(0) as u64);
            return;
        }
        if known.is_none() {
            self.counters.fetch_add(1, Relaxed);
        }
        let DeferredCharge { state, hits: sum, .. } =
            known.unwrap_or(DeferredCharge { limit: *limit, state: State::Empty, hits: 0 });
        // Hits beyond the limit would make no difference, and a log keeps no more than that anyway.
        let (state, _) = step(limit, state, Cost { hits, charge_denied: true }, now);
        let mut charge = DeferredCharge { limit: *limit, state, hits: sum.saturating_add_signed(hits) };
        let grown = charge.bytes().saturating_sub(before);
        if before > 0 && grown > 0 && self.bytes.load(Relaxed) + grown > self.bytes_max {
            // All its hits are kept, but the times at which they came become less exact.
            charge.state = charge.state.thinned(limit, before.saturating_sub(CHARGE_BYTES));
        }
        self.bytes.fetch_add(charge.bytes(), Relaxed);
        self.bytes.fetch_sub(before, Relaxed);
        shard.insert(counter, charge);
    }

    /// The deferred charges of the counters of `checks`, each once, followed by `checks`; `None` if there are none.
    pub(super) fn with_deferred<'a>(
        self: &Arc<DeferredCharges>,
        checks: &[CounterCheck<'a>],
    ) -> Option<(SmallVec<[CounterCheck<'a>; 4]>, Box<DeferredBatch>)> {
        if self.counters.load(Relaxed) == 0 {
            return None;
        }
        let now = self.now();
        let mut due: SmallVec<[CounterCheck<'a>; 4]> = SmallVec::new();
        let mut taken = DeferredBatch { source: Arc::clone(self), charges: SmallVec::new(), is_sent: false };
        for check in checks {
            if checks.len() + due.len() == COUNTERS_MAX {
                break;
            }
            let counter = self.keys.counter(check);
            let Some(charge) = self.remove(counter) else { continue };
            let hits = charge.hits_due(now);
            if hits == 0 {
                self.count(DeferredOutcome::Expired, charge.hits);
                continue;
            }
            let cost = Cost { hits: hits as i64, charge_denied: true };
            // It is charged whether or not the request is denied, and never denies the request itself.
            due.push(CounterCheck { cost, role: Role::Shadow, ..*check });
            taken.charges.push((counter, charge, hits));
        }
        if due.is_empty() {
            return None;
        }
        due.extend_from_slice(checks);
        Some((due, Box::new(taken)))
    }

    /// Hits that this replica still has to charge for a check's counter.
    pub fn due(&self, check: &CounterCheck<'_>) -> u64 {
        if self.counters.load(Relaxed) == 0 {
            return 0;
        }
        let counter = self.keys.counter(check);
        self.shard(counter).lock().get(&counter).map_or(0, |charge| charge.hits_due(self.now()))
    }

    /// Drops the deferred hits of a check's counter, which is being reset.
    pub fn forget(&self, check: &CounterCheck<'_>) {
        if self.counters.load(Relaxed) > 0
            && let Some(charge) = self.remove(self.keys.counter(check))
        {
            self.count(DeferredOutcome::Expired, charge.hits);
        }
    }

    /// Drops the expired charges of one shard; each call takes the next shard.
    pub fn sweep(&self) {
        if self.counters.load(Relaxed) == 0 {
            return;
        }
        let now = self.now();
        let mut shard = self.shards[self.swept.fetch_add(1, Relaxed) % SHARDS].lock();
        shard.retain(|_, charge| {
            let is_due = charge.hits_due(now) > 0;
            if !is_due {
                self.removed(charge);
                self.count(DeferredOutcome::Expired, charge.hits);
            }
            is_due
        });
    }

    /// Number of counters with deferred charges.
    pub fn counters(&self) -> usize {
        self.counters.load(Relaxed)
    }

    /// Number of hits with this outcome, since the start.
    pub fn hits(&self, outcome: DeferredOutcome) -> u64 {
        self.hits[outcome as usize].load(Relaxed)
    }

    fn remove(&self, counter: Fingerprint) -> Option<DeferredCharge> {
        let charge = self.shard(counter).lock().remove(&counter)?;
        self.removed(&charge);
        Some(charge)
    }

    fn removed(&self, charge: &DeferredCharge) {
        self.counters.fetch_sub(1, Relaxed);
        self.bytes.fetch_sub(charge.bytes(), Relaxed);
    }

    fn count(&self, outcome: DeferredOutcome, hits: u64) {
        self.hits[outcome as usize].fetch_add(hits, Relaxed);
    }

    fn shard(&self, counter: Fingerprint) -> &Mutex<HashMap<Fingerprint, DeferredCharge>> {
        &self.shards[counter.place(SHARDS as u32) as usize]
    }

    fn now(&self) -> UnixMicros {
        let (wall, began) = self.began;
        UnixMicros(wall.0 + began.elapsed().as_micros() as u64)
    }
}

impl DeferredCharge {
    /// Hits that have not expired at `now`, at most the whole limit.
    fn hits_due(&self, now: UnixMicros) -> u64 {
        let whole = if self.limit.algorithm.has_burst() { self.limit.burst } else { self.limit.requests };
        let (_, reading) = step(&self.limit, self.state.clone(), PEEK, now);
        u64::from(whole).saturating_sub(reading.remaining)
    }

    fn bytes(&self) -> usize {
        CHARGE_BYTES + self.state.heap_bytes()
    }
}

impl DeferredBatch {
    pub(super) fn len(&self) -> usize {
        self.charges.len()
    }

    /// Their batch leaves: from now on the store may charge them.
    pub(super) fn sent(&mut self) {
        self.is_sent = true;
    }

    /// The store replied that it charged nothing of their batch.
    pub(super) fn unsent(&mut self) {
        self.is_sent = false;
    }

    /// The store has charged them.
    pub(super) fn settled(mut self) {
        for (_, charge, hits) in std::mem::take(&mut self.charges) {
            self.source.count(DeferredOutcome::Charged, hits);
            self.source.count(DeferredOutcome::Expired, charge.hits.saturating_sub(hits));
        }
    }
}

impl Drop for DeferredBatch {
    fn drop(&mut self) {
        for (counter, charge, hits) in std::mem::take(&mut self.charges) {
            if self.is_sent {
                self.source.count(DeferredOutcome::Lost, hits);
            } else {
                self.source.charge(counter, &charge.limit, hits as i64, self.source.now());
            }
        }
    }
}
