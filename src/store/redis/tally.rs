//! What the Redis store counts about itself: plain atomics, which the metrics read. It knows no metric names.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;

use crate::store::paced::Paced;

/// One per store handle, so one per core; whoever reports adds them up.
#[derive(Debug, Default)]
pub struct Tally {
    /// Scripts that were sent.
    pub batches: Count,
    /// Counters in them, so that `counters / batches` is the mean size.
    pub counters: Count,
    /// Requests in them.
    pub requests: Count,
    /// Requests that shared the work of an identical one in the same batch.
    pub merged: Count,
    /// Requests that were denied from memory, without a round trip.
    pub denied_again: Count,
    /// Requests whose answer did not come in time.
    pub timeouts: Count,
    /// Requests that failed because no connection stood, or it broke.
    pub unreachable: Count,
    /// Requests that Redis answered with an error.
    pub refused: Count,
    /// Requests that found too many others waiting.
    pub overloaded: Count,
    /// Counters that held something else and began afresh.
    pub damaged: Count,
    /// Counters that were more than a window ahead of Redis' clock, and were set back.
    pub set_back: Count,
    /// Scripts that came to Redis after their deadline and charged nothing.
    pub late: Count,
    /// Connections that were made.
    pub connects: Count,
    /// Attempts to connect that failed.
    pub connect_failures: Count,
    /// Times that a node was found to be of no use.
    pub breaker_opens: Count,
    /// Nodes that are of no use now.
    pub breakers_open: Last,
    /// Connections that found that another replica makes its keys otherwise (`tg1:meta`).
    pub mismatches: Count,
    /// How, if the last connection found so.
    pub(super) mismatch: Mutex<Option<Mismatch>>,
    /// The last connection was found to lead to several servers, and is therefore not used.
    pub(super) is_several: AtomicBool,
    /// Charges of a request over several buckets or Redis that were given back: a later part denied it, or failed, or its
    /// caller has gone.
    pub refunds: Count,
    /// Of those, how many had no answer in time: what they were to give back may stay charged.
    pub refunds_failed: Count,
    /// Keys that Redis threw out for lack of room, as far as [`super::Room`] has looked.
    pub evicted: Count,
    /// Times that Redis had to be given the script again.
    pub script_loads: Count,
    /// When the log last said that counters were set back.
    pub(super) set_back_said: Paced,
    /// How far Redis' clock is ahead of this process', in µs.
    pub clock_ahead_us: Last,
}

/// A number that goes up and down.
#[derive(Debug, Default)]
pub struct Last(AtomicI64);

impl Last {
    pub fn get(&self) -> i64 {
        self.0.load(Relaxed)
    }

    pub(super) fn set(&self, number: i64) {
        self.0.store(number, Relaxed);
    }

    pub(super) fn add(&self, more: i64) {
        self.0.fetch_add(more, Relaxed);
    }
}

/// How two replicas make their keys, where that isn't the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    pub ours: String,
    pub theirs: String,
}

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }

    pub(super) fn add(&self, more: u64) {
        self.0.fetch_add(more, Relaxed);
    }
}
