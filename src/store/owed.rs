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

use super::counter_check::{Ask, Role};
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
const DEBT_BYTES: usize = 160;

const SHARDS: usize = 64;

const LOOK: Cost = Cost { hits: 0, charge_denied: false };

/// The deferred charges of one process; all its cores share them.
pub struct Owed {
    keys: HashKeys,
    /// A wall clock that is never set: the time at the start, and the instant of the start.
    began: (UnixMicros, Instant),
    shards: [Mutex<HashMap<Fingerprint, Debt>>; SHARDS],
    /// Counters with deferred charges, over all shards. While it is 0, which is nearly always, no shard is looked at.
    counters: AtomicUsize,
    bytes: AtomicUsize,
    swept: AtomicUsize,
    bytes_max: usize,
    hits: [AtomicU64; 4],
}

/// What became of deferred hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Charged,
    /// Their window passed, or their counter was reset, before another request came for it.
    Expired,
    /// There was no memory for them.
    Dropped,
    /// They were sent and no reply came. Redis may have charged them, so they are not sent again.
    Lost,
}

impl Outcome {
    pub const ALL: [Outcome; 4] = [Outcome::Charged, Outcome::Expired, Outcome::Dropped, Outcome::Lost];

    pub const fn name(self) -> &'static str {
        match self {
            Outcome::Charged => "charged",
            Outcome::Expired => "expired",
            Outcome::Dropped => "dropped",
            Outcome::Lost => "lost",
        }
    }
}

/// The deferred hits of one counter. They are kept in the counter's own algorithm, so that they expire when they would
/// in the store.
struct Debt {
    limit: Limit,
    state: State,
    /// All hits that were added, expired ones included.
    hits: u64,
}

/// Deferred charges on their way to the store with a request. When this is dropped, what was not sent is kept again,
/// and what was sent without a reply is lost.
pub(super) struct Debts {
    owed: Arc<Owed>,
    debts: SmallVec<[(Fingerprint, Debt, u64); 2]>,
    is_sent: bool,
}

impl Owed {
    /// An empty set; `now` is the wall clock's time.
    pub fn new(now: UnixMicros) -> Owed {
        Owed::with_room(now, BYTES_MAX)
    }

    fn with_room(now: UnixMicros, bytes_max: usize) -> Owed {
        Owed {
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

    /// Adds the hits of `ask`, which were charged here instead of in the store. A refund lessens what is deferred.
    pub fn add(&self, ask: &Ask<'_>) {
        if ask.cost.hits != 0 {
            self.charge(self.keys.counter(ask), &ask.limit, ask.cost.hits, self.now());
        }
    }

    fn charge(&self, counter: Fingerprint, limit: &Limit, hits: i64, now: UnixMicros) {
        let mut shard = self.shard(counter).lock();
        let known = shard.remove(&counter);
        let before = known.as_ref().map_or(0, Debt::bytes);
        if known.is_none() && (hits < 0 || self.bytes.load(Relaxed) + DEBT_BYTES > self.bytes_max) {
            self.count(Outcome::Dropped, hits.max(0) as u64);
            return;
        }
        if known.is_none() {
            self.counters.fetch_add(1, Relaxed);
        }
        let Debt { state, hits: sum, .. } = known.unwrap_or(Debt { limit: *limit, state: State::Empty, hits: 0 });
        // Hits beyond the limit would make no difference, and a log keeps no more than that anyway.
        let (state, _) = step(limit, state, Cost { hits, charge_denied: true }, now);
        let mut debt = Debt { limit: *limit, state, hits: sum.saturating_add_signed(hits) };
        let grown = debt.bytes().saturating_sub(before);
        if before > 0 && grown > 0 && self.bytes.load(Relaxed) + grown > self.bytes_max {
            // All its hits are kept, but the times at which they came become less exact.
            debt.state = debt.state.thinned(limit, before.saturating_sub(DEBT_BYTES));
        }
        self.bytes.fetch_add(debt.bytes(), Relaxed);
        self.bytes.fetch_sub(before, Relaxed);
        shard.insert(counter, debt);
    }

    /// The deferred charges of the counters of `asks`, each once, followed by `asks`; `None` if there are none.
    pub(super) fn before<'a>(self: &Arc<Owed>, asks: &[Ask<'a>]) -> Option<(SmallVec<[Ask<'a>; 4]>, Box<Debts>)> {
        if self.counters.load(Relaxed) == 0 {
            return None;
        }
        let now = self.now();
        let mut due: SmallVec<[Ask<'a>; 4]> = SmallVec::new();
        let mut taken = Debts { owed: Arc::clone(self), debts: SmallVec::new(), is_sent: false };
        for ask in asks {
            if asks.len() + due.len() == COUNTERS_MAX {
                break;
            }
            let counter = self.keys.counter(ask);
            let Some(debt) = self.remove(counter) else { continue };
            let hits = debt.due(now);
            if hits == 0 {
                self.count(Outcome::Expired, debt.hits);
                continue;
            }
            let cost = Cost { hits: hits as i64, charge_denied: true };
            // It is charged whether or not the request is denied, and never denies the request itself.
            due.push(Ask { cost, role: Role::Shadow, ..*ask });
            taken.debts.push((counter, debt, hits));
        }
        if due.is_empty() {
            return None;
        }
        due.extend_from_slice(asks);
        Some((due, Box::new(taken)))
    }

    /// Drops the deferred hits of a check's counter, which is being reset.
    pub fn forget(&self, ask: &Ask<'_>) {
        if self.counters.load(Relaxed) > 0
            && let Some(debt) = self.remove(self.keys.counter(ask))
        {
            self.count(Outcome::Expired, debt.hits);
        }
    }

    /// Drops the expired charges of one shard; each call takes the next shard.
    pub fn sweep(&self) {
        if self.counters.load(Relaxed) == 0 {
            return;
        }
        let now = self.now();
        let mut shard = self.shards[self.swept.fetch_add(1, Relaxed) % SHARDS].lock();
        shard.retain(|_, debt| {
            let is_due = debt.due(now) > 0;
            if !is_due {
                self.removed(debt);
                self.count(Outcome::Expired, debt.hits);
            }
            is_due
        });
    }

    /// Number of counters with deferred charges.
    pub fn counters(&self) -> usize {
        self.counters.load(Relaxed)
    }

    /// Number of hits with this outcome, since the start.
    pub fn hits(&self, outcome: Outcome) -> u64 {
        self.hits[outcome as usize].load(Relaxed)
    }

    fn remove(&self, counter: Fingerprint) -> Option<Debt> {
        let debt = self.shard(counter).lock().remove(&counter)?;
        self.removed(&debt);
        Some(debt)
    }

    fn removed(&self, debt: &Debt) {
        self.counters.fetch_sub(1, Relaxed);
        self.bytes.fetch_sub(debt.bytes(), Relaxed);
    }

    fn count(&self, outcome: Outcome, hits: u64) {
        self.hits[outcome as usize].fetch_add(hits, Relaxed);
    }

    fn shard(&self, counter: Fingerprint) -> &Mutex<HashMap<Fingerprint, Debt>> {
        &self.shards[counter.place(SHARDS as u32) as usize]
    }

    fn now(&self) -> UnixMicros {
        let (wall, began) = self.began;
        UnixMicros(wall.0 + began.elapsed().as_micros() as u64)
    }
}

impl Debt {
    /// Hits that have not expired at `now`, at most the whole limit.
    fn due(&self, now: UnixMicros) -> u64 {
        let whole = if self.limit.algorithm.has_burst() { self.limit.burst } else { self.limit.requests };
        let (_, reading) = step(&self.limit, self.state.clone(), LOOK, now);
        u64::from(whole).saturating_sub(reading.remaining)
    }

    fn bytes(&self) -> usize {
        DEBT_BYTES + self.state.heap_bytes()
    }
}

impl Debts {
    pub(super) fn len(&self) -> usize {
        self.debts.len()
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
        for (_, debt, hits) in std::mem::take(&mut self.debts) {
            self.owed.count(Outcome::Charged, hits);
            self.owed.count(Outcome::Expired, debt.hits.saturating_sub(hits));
        }
    }
}

impl Drop for Debts {
    fn drop(&mut self) {
        for (counter, debt, hits) in std::mem::take(&mut self.debts) {
            if self.is_sent {
                self.owed.count(Outcome::Lost, hits);
            } else {
                self.owed.charge(counter, &debt.limit, hits as i64, self.owed.now());
            }
        }
    }
}
