//! The memory store: counters in this process, sharded, found by fingerprints, and bounded in bytes. One call decides a
//! whole request under the locks of its shards. It knows limits and costs, but no rules, no clock and no runtime.
//!
//! A request takes four steps: lock the shards of its counters, find the counter that decides each check, let `settle`
//! decide on their states, and write the states back. The counter that decides a check is one of these:
//!
//! | slot | when | what is written back |
//! |---|---|---|
//! | `Existing` | the counter exists, or there is no room and an overflow counter exists | its state |
//! | `New` | there is none | a new counter, if something was charged; without room, a new overflow counter |
//! | `Temporary` | there is none, and the request only looks or gives back | nothing |
//!
//! When the store is full, new keys share the *overflow counters* of their rule: a few thousand, each for the keys that
//! it is chosen for by fingerprint. They refuse too early, never too late. A counter that finds room again begins with a
//! copy of the overflow counter's state, so that no key gains hits by the change.
//!
//! Invariants: (1) all locks of a request are held from the search to the write, so that it is atomic; (2) they are
//! taken in order of fingerprint, which is the order of shards, so that two requests never wait for each other in a
//! circle; (3) an overflow counter lies in the shard of the counters that it replaces, so that it needs no further lock;
//! (4) counters are swept last, because sweeping moves them.
//!
//! Example: 512 MiB make 4,096 shards of 128 KiB. A sixteenth, 32 MiB, is for overflow counters: at most 4,096 for each
//! rule. The other 480 MiB hold 6,291,456 counters of 80 bytes, if their states need no heap. A rule that isn't alone
//! gets at most half of that, and the last eighth is for rules that hold less than 1/64.

mod capacity;
pub(in crate::store) mod fingerprint;
#[cfg(test)]
mod model;
mod shard;
pub mod snapshot;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use parking_lot::MutexGuard;
use smallvec::SmallVec;

use self::{
    capacity::{Capacity, ShareId},
    fingerprint::{Fingerprint, HashKeys},
    shard::{Counter, LockedShard, Shard},
};
use super::counter_check::{CounterCheck, Gate, refusing, uncharged};
use super::readings::Readings;
use super::settle::settle;
use crate::{
    algorithm::{State, step},
    clock::log_throttle::LogThrottle,
    limit::{Micros, SECOND, UnixMicros},
};

/// Settings of the memory store.
#[derive(Clone, Copy, Debug)]
pub struct MemorySettings {
    /// Bytes that counters may take, their heap included.
    pub max_bytes: u64,
}

impl Default for MemorySettings {
    /// More than five million counters: more users than one process serves, less memory than one notices.
    fn default() -> MemorySettings {
        MemorySettings { max_bytes: 512 << 20 }
    }
}

/// A shard this large is swept, copied and grown well within a millisecond.
const SHARD_BYTES: u64 = 128 << 10;
/// Number of shards: with fewer, requests would wait for each other's locks; more would cost more than the counters
/// that they hold.
const SHARDS: std::ops::RangeInclusive<u32> = 16..=1 << 18;
/// Overflow counters of one rule, if there is room for so many. With this number, few real users share one with many
/// clients of a flood.
const OVERFLOW_PLACES: u32 = 4_096;
/// Counters that are checked for expiry whenever one is created, so that a shard with many new counters stays clean by
/// itself.
const SWEEP_PER_CREATION: usize = 4;
/// Counters that one hold of a shard's lock sweeps.
const SWEEP_PER_LOCK: usize = 512;
/// Period in which [`Memory::sweep`] is meant to be called.
pub const SWEEP_PERIOD: Micros = Micros(SECOND.0 / 10);
/// One sweep a second checks so few counters within a minute, and takes no CPU to speak of.
const FEW: u64 = 16 * SWEEP_PER_LOCK as u64;

/// The memory store. It is shared by reference between threads; every method is one short critical section for each
/// shard.
pub struct Memory {
    keys: HashKeys,
    shards: Box<[LockedShard]>,
    capacity: Capacity,
    /// Overflow counters of one rule. There are at least as many as shards, because each lies in the shard of the
    /// counters that it replaces.
    overflow_places: u32,
    /// The shard at which the next sweep goes on.
    sweep_at: AtomicUsize,
    overflow_hits: AtomicU64,
    expired: AtomicU64,
    thinned: AtomicU64,
    clock_steps: AtomicU64,
    overflow_log: LogThrottle,
    clock_log: LogThrottle,
}

/// A counter of a request, which one or several of its checks are for.
struct RequestCounter {
    fingerprint: Fingerprint,
    /// Position of its shard's lock among the locks of the request.
    guard: usize,
    /// Position of one of its checks.
    check: usize,
    heap_before: usize,
    slot: CounterSlot,
}

/// Where a request's counter is. `like` is the overflow counter whose state a new counter begins with.
enum CounterSlot {
    Existing(usize),
    /// Inserted once something is charged.
    New {
        is_overflow: bool,
        seed: Option<usize>,
    },
    /// Not in the store: only read, and never written back.
    Temporary {
        seed: Option<usize>,
    },
}

impl Memory {
    pub fn new(settings: MemorySettings) -> Memory {
        Memory::with_keys(settings, HashKeys::random())
    }

    fn with_keys(settings: MemorySettings, keys: HashKeys) -> Memory {
        let wanted = (settings.max_bytes / SHARD_BYTES).clamp(u64::from(*SHARDS.start()), u64::from(*SHARDS.end()));
        let shards = (wanted as u32).next_power_of_two();
        let capacity = Capacity::new(settings.max_bytes);
        Memory {
            keys,
            shards: (0..shards).map(|_| LockedShard::default()).collect(),
            overflow_places: capacity.overflow_places(OVERFLOW_PLACES).max(shards),
            capacity,
            sweep_at: AtomicUsize::new(0),
            overflow_hits: AtomicU64::new(0),
            expired: AtomicU64::new(0),
            thinned: AtomicU64::new(0),
            clock_steps: AtomicU64::new(0),
            overflow_log: LogThrottle::default(),
            clock_log: LogThrottle::default(),
        }
    }

    /// Decides the checks of one request in one atomic step and charges what [`settle`] decides. Returns one reading
    /// for each check, in order.
    pub fn apply(&self, checks: &[CounterCheck<'_>], gate: Gate, now: UnixMicros) -> Readings {
        if let [check] = checks {
            let fingerprint = self.keys.counter(check);
            let mut shard = self.shards[self.shard_of(fingerprint)].lock();
            if let Some(slot) = shard.find(fingerprint) {
                // What `settle` would do, without its bookkeeping: a lone refusal has nothing to take back.
                let counter = shard.at_mut(slot);
                self.note_clock(counter, check, now);
                let state = std::mem::take(&mut counter.state);
                let heap_before = state.heap_bytes();
                let (state, reading) = step(&check.limit, state, check.cost, now);
                self.put(counter, state, heap_before, check);
                return reading.into();
            }
        }
        self.apply_all(checks, gate, now)
    }

    /// As [`super::Store::peek`].
    pub fn peek(&self, checks: &[CounterCheck<'_>], now: UnixMicros) -> Readings {
        let mut all: SmallVec<[CounterCheck<'_>; 4]> = checks.iter().map(uncharged).collect();
        if let Some(last) = checks.last() {
            all.push(refusing(last));
        }
        let mut readings = self.apply(&all, Gate::default(), now);
        readings.truncate(checks.len());
        readings
    }

    fn apply_all(&self, checks: &[CounterCheck<'_>], gate: Gate, now: UnixMicros) -> Readings {
        let prints: SmallVec<[Fingerprint; 4]> = checks.iter().map(|check| self.keys.counter(check)).collect();
        let mut order: SmallVec<[usize; 4]> = (0..checks.len()).collect();
        // Order of fingerprints is order of shards, so two requests never wait for each other in a circle.
        order.sort_unstable_by_key(|&check| prints[check]);

        let mut guards: SmallVec<[MutexGuard<'_, Shard>; 4]> = SmallVec::new();
        let mut seats: SmallVec<[RequestCounter; 4]> = SmallVec::new();
        let mut states: SmallVec<[State; 4]> = SmallVec::new();
        let mut slots: SmallVec<[usize; 4]> = smallvec::smallvec![0; checks.len()];
        let mut locked = usize::MAX;
        for same in order.chunk_by(|&one, &other| prints[one] == prints[other]) {
            let fingerprint = prints[same[0]];
            let number = self.shard_of(fingerprint);
            if number != locked {
                guards.push(self.shards[number].lock());
                locked = number;
            }
            let guard = guards.len() - 1;
            let charges = same.iter().any(|&check| checks[check].cost.hits > 0);
            let (found, slot) = self.slot_for(&checks[same[0]], fingerprint, charges, &guards[guard], now);
            // Checks of several counters may end at one overflow counter. The slots of this shard are the last ones.
            let of_shard = seats.iter().rposition(|requested| requested.guard != guard).map_or(0, |before| before + 1);
            let in_shard = seats[of_shard..].iter().position(|requested| requested.fingerprint == found);
            let known = in_shard.map(|at| of_shard + at);
            let slot = known.unwrap_or_else(|| {
                if let CounterSlot::Existing(at) = slot {
                    self.note_clock(guards[guard].at(at), &checks[same[0]], now);
                }
                let state = slot.take_state(&mut guards[guard]);
                seats.push(RequestCounter {
                    fingerprint: found,
                    guard,
                    check: same[0],
                    heap_before: state.heap_bytes(),
                    slot,
                });
                states.push(state);
                seats.len() - 1
            });
            same.iter().for_each(|&check| slots[check] = slot);
        }

        let readings = settle(checks, &slots, &mut states, gate, now);
        let mut has_created = false;
        for (requested, state) in seats.into_iter().zip(states) {
            has_created |= self.write_back(&checks[requested.check], &mut guards[requested.guard], requested, state);
        }
        if has_created {
            // Last, because sweeping moves counters.
            for guard in &mut guards {
                let swept = guard.sweep(now, SWEEP_PER_CREATION, &self.capacity);
                self.expired.fetch_add(swept.removed as u64, Relaxed);
            }
        }
        readings
    }

    /// Finds the counter that decides a check, or decides which one is to be created, and returns its fingerprint and
    /// where it is.
    fn slot_for(
        &self,
        check: &CounterCheck<'_>,
        own: Fingerprint,
        charges: bool,
        shard: &Shard,
        now: UnixMicros,
    ) -> (Fingerprint, CounterSlot) {
        if let Some(at) = shard.find(own) {
            return (own, CounterSlot::Existing(at));
        }
        let among = self.overflow_places;
        let overflow = || [self.keys.rule_overflow(check, own, among), self.keys.common_overflow(check, own, among)];
        // As long as the overflow counter that counted for this key isn't empty, the key's own counter begins with its
        // state, so that the key never gains hits.
        let stand_in = if shard.has_overflow() {
            overflow().into_iter().find_map(|print| Some((print, shard.find(print)?)))
        } else {
            None
        };
        let like = stand_in.map(|(_, at)| at);
        if !charges {
            // A refund doesn't go to a counter that others share, because it would take back their hits.
            return (own, CounterSlot::Temporary { seed: like });
        }
        if self.capacity.admits(ShareId::of(check.rule)) {
            return (own, CounterSlot::New { is_overflow: false, seed: like });
        }
        self.note_overflow(now);
        if let Some((print, at)) = stand_in {
            return (print, CounterSlot::Existing(at));
        }
        let [of_rule, common] = overflow();
        let print = if self.capacity.admits_overflow() { of_rule } else { common };
        (print, CounterSlot::New { is_overflow: true, seed: None })
    }

    /// Writes a state back. Returns whether a counter was created.
    fn write_back(&self, check: &CounterCheck<'_>, shard: &mut Shard, requested: RequestCounter, state: State) -> bool {
        match requested.slot {
            CounterSlot::Existing(at) => self.put(shard.at_mut(at), state, requested.heap_before, check),
            // If nothing was charged, no counter is created: it would mean the same.
            CounterSlot::New { is_overflow, .. } if state != State::Empty => {
                let share = ShareId::of(check.rule);
                shard.insert(
                    Counter::new(requested.fingerprint, share, is_overflow, state, &check.limit),
                    &self.capacity,
                );
                return true;
            }
            CounterSlot::New { .. } | CounterSlot::Temporary { .. } => {}
        }
        false
    }

    fn put(&self, counter: &mut Counter, state: State, heap_before: usize, check: &CounterCheck<'_>) {
        if counter.put(state, heap_before, &check.limit, &self.capacity) {
            self.thinned.fetch_add(1, Relaxed);
        }
    }

    /// Resets the counter of a check. Hits of its key in an overflow counter stay, because others share that.
    pub fn reset(&self, check: &CounterCheck<'_>) {
        let fingerprint = self.keys.counter(check);
        self.shards[self.shard_of(fingerprint)].lock().remove_one(fingerprint, &self.capacity);
    }

    /// The state by which a check would be decided at `now`: that of its own counter, or of the overflow counter that
    /// counts for it.
    pub fn state(&self, check: &CounterCheck<'_>, now: UnixMicros) -> State {
        let own = self.keys.counter(check);
        let shard = self.shards[self.shard_of(own)].lock();
        let found = match self.slot_for(check, own, false, &shard, now).1 {
            CounterSlot::Existing(at) => Some(at),
            CounterSlot::New { seed: like, .. } | CounterSlot::Temporary { seed: like } => like,
        };
        found.map_or(State::Empty, |at| shard.at(at).state.clone())
    }

    fn note_overflow(&self, now: UnixMicros) {
        self.overflow_hits.fetch_add(1, Relaxed);
        if self.overflow_log.is_due(now) {
            tracing::warn!(
                counters = self.counters(),
                bytes = self.bytes(),
                "the memory store has no room for new counters: new keys share overflow counters of their rule \
                 (raise --memory-max-bytes, or use Redis)"
            );
        }
    }

    fn note_clock(&self, counter: &Counter, check: &CounterCheck<'_>, now: UnixMicros) {
        if !counter.is_ahead(&check.limit, now) {
            return;
        }
        self.clock_steps.fetch_add(1, Relaxed);
        if self.clock_log.is_due(now) {
            tracing::warn!("the clock was set back by more than a window: counters keep their counts, as of now");
        }
    }

    /// Inserts a counter of a snapshot, if it fits.
    fn restore(&self, counter: Counter) -> bool {
        let has_room = self.capacity.has_capacity(counter.is_overflow, counter.state.heap_bytes());
        if has_room {
            self.shards[self.shard_of(counter.fingerprint)].lock().insert(counter, &self.capacity);
        }
        has_room
    }

    fn shard_of(&self, fingerprint: Fingerprint) -> usize {
        fingerprint.place(self.shards.len() as u32) as usize
    }

    /// Removes expired counters. It checks up to `at_most` counters and empty shards, and each shard at most from where the last sweep
    /// stopped to its end. Call it every [`Memory::sweep_period`] with [`Memory::sweep_share`]; requests wait for it no longer
    /// than for each other.
    pub fn sweep(&self, now: UnixMicros, at_most: usize) -> usize {
        if self.counters() == 0 {
            return 0;
        }
        let (mut left, mut removed, mut finished) = (at_most, 0, 0);
        while left > 0 && finished < self.shards.len() {
            let number = self.sweep_at.load(Relaxed) % self.shards.len();
            let mut shard = self.shards[number].lock();
            let swept = shard.sweep(now, left.min(SWEEP_PER_LOCK), &self.capacity);
            if swept.is_at_end {
                self.sweep_at.store(number + 1, Relaxed);
                finished += 1;
            }
            // An empty shard counts as one: a sweep over few counters doesn't go through all shards.
            left -= swept.seen.max(1);
            removed += swept.removed;
        }
        self.expired.fetch_add(removed as u64, Relaxed);
        removed
    }

    /// How long to wait before the next [`Memory::sweep`].
    pub fn sweep_period(&self) -> Micros {
        if self.counters() <= FEW { SECOND } else { SWEEP_PERIOD }
    }

    /// Number of counters to sweep in one [`SWEEP_PERIOD`], so that each is checked about once a minute.
    pub fn sweep_share(&self) -> usize {
        (self.counters() as usize / 600).max(SWEEP_PER_LOCK)
    }

    /// Number of counters now, with overflow counters, and with expired ones that wait for the sweep.
    pub fn counters(&self) -> u64 {
        self.capacity.counters()
    }

    /// Bytes that the counters take, with their heap.
    pub fn bytes(&self) -> u64 {
        self.capacity.bytes()
    }

    /// Number of checks that an overflow counter decided, because the key's own counter found no room, since the start.
    pub fn overflow_hits(&self) -> u64 {
        self.overflow_hits.load(Relaxed)
    }

    /// Number of counters that were removed because they were expired, since the start.
    pub fn expired(&self) -> u64 {
        self.expired.load(Relaxed)
    }

    /// Number of times that a counter was made coarser because there was no room for it to grow, since the start.
    pub fn thinned(&self) -> u64 {
        self.thinned.load(Relaxed)
    }

    /// Number of counters found more than a window ahead, because a clock was set back, since the start.
    pub fn clock_steps(&self) -> u64 {
        self.clock_steps.load(Relaxed)
    }
}

impl CounterSlot {
    fn take_state(&self, shard: &mut Shard) -> State {
        match *self {
            CounterSlot::Existing(at) => std::mem::take(&mut shard.at_mut(at).state),
            CounterSlot::New { seed: like, .. } | CounterSlot::Temporary { seed: like } => {
                like.map_or(State::Empty, |at| shard.at(at).state.clone())
            }
        }
    }
}
