//! What the Redis store counts about itself: plain atomics, which the metrics read. It knows no metric names.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;

use crate::clock::paced::Paced;

/// Counters of one store handle, so of one core; the metrics add them up.
#[derive(Debug, Default)]
pub struct Tally {
    /// Batches that were sent.
    pub batches: Count,
    /// Counters in these batches, so that `counters / batches` is the mean size.
    pub counters: Count,
    /// Requests in these batches.
    pub requests: Count,
    /// Requests that shared the work of an identical one in the same batch.
    pub merged: Count,
    /// Requests that were denied from the denial cache, without a round trip.
    pub denied_again: Count,
    /// Requests whose answer did not come in time.
    pub timeouts: Count,
    /// Requests that failed because there was no connection, or it broke.
    pub unreachable: Count,
    /// Requests that Redis answered with an error.
    pub refused: Count,
    /// Requests that were refused because the queue was full.
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
    /// Times that a circuit breaker opened.
    pub breaker_opens: Count,
    /// Circuit breakers that are open now.
    pub breakers_open: Last,
    /// Connections that found that another replica makes its keys differently (`tg1:meta`).
    pub mismatches: Count,
    /// The difference, if the last connection found one.
    pub(super) mismatch: Mutex<Option<Mismatch>>,
    /// Whether the last connection was found to lead to several servers, and is therefore not used.
    pub(super) is_several: AtomicBool,
    /// Refunds of charges of a request over several buckets or Redis: a later sub-request denied it or failed, or its
    /// caller has gone.
    pub refunds: Count,
    /// Refunds without a reply in time: their hits may stay charged.
    pub refunds_failed: Count,
    /// Keys that Redis evicted for lack of memory, as far as [`super::Room`] has seen.
    pub evicted: Count,
    /// Times that Redis had to be sent the script's text.
    pub script_loads: Count,
    /// Throttle of the log line about counters that were set back.
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

/// How two replicas make their keys, if they make them differently.
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
