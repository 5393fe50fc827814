//! The pure step of every algorithm: `(limit, state, cost, now) → (state, reading)`. No clock, no I/O, cannot fail.
//! It has two homes, this one and the Lua in `store/`: both use whole numbers below 2^53 (or f64, in the same order of
//! operations), so their answers are bit-equal. Nothing here knows keys, stores or rules.
//!
//! Rules that hold for all algorithms:
//! - A cost that isn't charged (a look, a refusal) leaves the state bit by bit as it was, so a store need not write.
//!   The one exception is a state from the future (below), which comes back shifted.
//! - A refund (negative hits) is always admitted, takes the oldest hits first, and never goes below zero.
//! - A charge that is taken back ([`undo`]) leaves the sub-window, the window or the entry of the log that it went to.
//! - A state without hits is [`State::Empty`], and means the same as no key at all.
//! - *Clock steps.* A state that was written at a later time than `now` holds its time for as long as it is at most one
//!   window ahead (a sliding window: less than one). One further ahead is shifted whole, so that
//!   its newest hit is now. A bucket in debt holds its time less far ahead. So nobody waits longer than two windows
//!   (of a bucket that takes longer than a window to fill: twice that). `reset` is measured from `now` in every case.

mod bucket;
mod contents;
mod fixed;
mod layout;
mod log;
mod oldest;
#[cfg(test)]
mod properties;
mod sliding;
#[cfg(test)]
mod tests;
mod thin;

pub use contents::{CounterContents, HitGroup};

use crate::limit::{Algorithm, Cost, HITS_MAX, Limit, Reading, UnixMicros, WINDOW_MAX};

/// Latest time (the year 2214); later ones are taken as this, so that sums with a few windows stay below 2^53.
const NOW_MAX: u64 = (1 << 53) - 4 * WINDOW_MAX.0;

/// The state of a counter. `Empty` is a counter that was never hit, and means the same as no key at all.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum State {
    #[default]
    Empty,
    /// A `sliding_window`: counts of the sub-windows that have hits.
    Sliding {
        /// The newest sub-window: `floor(time / sub-window)`.
        index: u64,
        /// Hits of the sub-windows before it: the sum of `pairs`.
        older_hits: u64,
        older_counts: Option<Box<sliding::SubWindowCounts>>,
        /// Hits of the newest sub-window.
        count: u32,
        /// How many sub-windows before `index` the oldest pair is; 0 without pairs.
        oldest: u8,
    },
    /// A `fixed_window`: the window, `floor(time / window)`, and its hits.
    Fixed { index: u64, count: u64 },
    /// A `sliding_log`: the sum of the logged hits, and when each came.
    Log { sum: u64, log: Box<log::Log> },
    /// A `token_bucket` or `leaky_bucket`: what is in use, in 2^-20 hits, and when that was so.
    Bucket { level: u64, at: u64 },
}

// Millions of these lie inline in the memory store's tables.
const _: () = assert!(size_of::<State>() <= 32);

/// Decides `cost` at `now`. The returned state is charged if the cost was admitted (or with `charge_denied`), else it
/// is as before. A state of another algorithm counts as empty: the key names the algorithm, so a store never has one.
pub fn step(limit: &Limit, state: State, cost: Cost, now: UnixMicros) -> (State, Reading) {
    apply_cost(limit, state, cost, None, now)
}

/// Takes back `hits` that were charged at `charged` (see [`charged_at`]), as if they had never been charged: from the
/// sub-window, the window or the log's entry that they went to, and only as far as they are still there, so that no
/// newer hits are taken instead. A bucket has no such places: its level falls by the hits, but not below zero.
pub fn undo(limit: &Limit, state: State, hits: i64, charged: UnixMicros, now: UnixMicros) -> (State, Reading) {
    let back = Cost { hits: -hits.clamp(0, HITS_MAX), charge_denied: false };
    apply_cost(limit, state, back, Some(charged.0), now)
}

fn apply_cost(limit: &Limit, state: State, cost: Cost, charged: Option<u64>, now: UnixMicros) -> (State, Reading) {
    let cost = Cost { hits: cost.hits.clamp(-HITS_MAX, HITS_MAX), ..cost };
    let now = now.0.min(NOW_MAX);
    match limit.algorithm {
        Algorithm::SlidingWindow => sliding::step(limit, state, cost, charged, now),
        Algorithm::FixedWindow => fixed::step(limit, state, cost, charged, now),
        Algorithm::SlidingLog => log::step(limit, state, cost, charged, now),
        Algorithm::TokenBucket | Algorithm::LeakyBucket => bucket::step(limit, state, cost, now),
    }
}

/// The time at which a cost was charged that `reading` admitted at `now`: `now`, unless the counter was ahead of the
/// clock and kept its own time. That follows from when its newest hits leave, which a reading doesn't say if nothing
/// remains (except for a fixed window). Then the result is `now`, where older hits than the charged ones may be.
pub fn charged_at(limit: &Limit, reading: &Reading, now: UnixMicros) -> UnixMicros {
    let life = match limit.algorithm {
        Algorithm::SlidingWindow if reading.remaining > 0 => sliding::life(limit),
        Algorithm::SlidingLog if reading.remaining > 0 => limit.window.0,
        Algorithm::FixedWindow => limit.window.0.max(1),
        _ => return now,
    };
    UnixMicros((now.0.min(NOW_MAX) + reading.reset.0).saturating_sub(life))
}

/// Whether [`step`] would admit `cost`, without taking the state: a store that decides over several counters tries all
/// of them before it charges any, and a copy of a log or of sub-window counts would cost more than the decision.
pub fn admits(limit: &Limit, state: &State, cost: Cost, now: UnixMicros) -> bool {
    let known = match state {
        State::Sliding { older_counts: Some(_), .. } => sliding::used(limit, state, now.0.min(NOW_MAX)),
        State::Log { sum, log } => log::used(limit, *sum, log, now.0.min(NOW_MAX)),
        _ => None,
    };
    match known {
        Some(used) => cost.hits < 0 || used + cost.hits.min(HITS_MAX).unsigned_abs() <= u64::from(limit.requests),
        // Without heap a copy is free; and a state from the future is too rare for code of its own.
        None => step(limit, state.clone(), cost, now).1.admitted,
    }
}

/// Whether [`step`] at `now` would shift this state because it is more than a window ahead: a clock was set back by
/// far. A store counts such states and logs it once. (A bucket in debt may be shifted though this returns false.)
pub fn is_ahead(limit: &Limit, state: &State, now: UnixMicros) -> bool {
    let now = now.0.min(NOW_MAX);
    match state {
        State::Empty => false,
        State::Sliding { index, .. } => sliding::is_ahead(limit, *index, now),
        State::Fixed { index, .. } => fixed::is_ahead(limit, *index, now),
        State::Log { log, .. } => log.newest() > now + limit.window.0,
        State::Bucket { at, .. } => *at > now + limit.window.0,
    }
}

impl State {
    /// The moment from which an absent key means the same as this state, so that it may be removed.
    pub fn expires(&self, limit: &Limit) -> UnixMicros {
        UnixMicros(match self {
            State::Empty => 0,
            State::Sliding { index, older_counts: counts, count, .. } => {
                sliding::expires(limit, *index, counts.as_deref(), *count)
            }
            State::Fixed { index, .. } => fixed::expires(limit, *index),
            State::Log { log, .. } => log.newest() + limit.window.0,
            State::Bucket { level, at } => bucket::expires(limit, *level, *at),
        })
    }

    /// The contents at `now`: the hits that count, when they came and when they leave, as a look at `now` reads them.
    pub fn contents(&self, limit: &Limit, now: UnixMicros) -> CounterContents {
        contents::contents(self, limit, now.0.min(NOW_MAX))
    }

    /// Bytes of this state on the heap, besides its own 32.
    pub fn heap_bytes(&self) -> usize {
        match self {
            State::Sliding { older_counts: Some(counts), .. } => counts.heap_bytes(),
            State::Log { log, .. } => log.heap_bytes(),
            _ => 0,
        }
    }

    /// The same hits in at most `heap` bytes of heap, as far as possible: hits that are close together get the time of
    /// the latest, if need be all of them. Never counts fewer. A full memory store does this instead of growing, and so
    /// do deferred charges beyond their memory.
    pub fn thinned(self, limit: &Limit, heap: usize) -> State {
        thin::thinned(self, limit, heap)
    }

    /// Appends the packed form, which is also what Redis holds except for a log (see `algorithm/layout.rs`); nothing
    /// for `Empty`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        layout::encode(self, out);
    }

    /// Reads the packed form of a state of `algorithm`. `None` for bytes that no counter of that algorithm can have
    /// written; bytes behind the end that the header names are ignored, since a counter is rewritten in place.
    pub fn decode(bytes: &[u8], algorithm: Algorithm) -> Option<State> {
        layout::decode(bytes, algorithm)
    }

    /// As [`State::decode`], for a value in Redis, where a log is a ring (see `algorithm/layout/ring.rs`).
    pub fn from_redis(bytes: &[u8], algorithm: Algorithm) -> Option<State> {
        match algorithm {
            Algorithm::SlidingLog => layout::ring::decode(bytes),
            _ => layout::decode(bytes, algorithm),
        }
    }
}
