//! What the Redis store counts about itself: plain atomics, which the metrics read. It knows no metric names.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;

use crate::clock::log_throttle::LogThrottle;

/// Counters of one store handle, so of one core; the metrics add them up.
#[derive(Debug, Default)]
pub struct RedisStats {
    /// Batches that were sent.
    pub batches: StatCounter,
    /// Counters in these batches, so that `counters / batches` is the mean size.
    pub counters: StatCounter,
    /// Requests in these batches.
    pub requests: StatCounter,
    /// Requests that shared the work of an identical one in the same batch.
    pub merged: StatCounter,
    /// Requests that were denied from the denial cache, without a round trip.
    pub denied_from_cache: StatCounter,
    /// Requests whose answer did not come in time.
    pub timeouts: StatCounter,
    /// Requests that failed because there was no connection, or it broke.
    pub unreachable: StatCounter,
    /// Requests that Redis answered with an error.
    pub refused: StatCounter,
    /// Requests that were refused because the queue was full.
    pub overloaded: StatCounter,
    /// Counters that held something else and began afresh.
    pub damaged: StatCounter,
    /// Counters that were more than a window ahead of Redis' clock, and were set back.
    pub set_back: StatCounter,
    /// Scripts that came to Redis after their deadline and charged nothing.
    pub late: StatCounter,
    /// Connections that were made.
    pub connects: StatCounter,
    /// Attempts to connect that failed.
    pub connect_failures: StatCounter,
    /// Times that a circuit breaker opened.
    pub breaker_opens: StatCounter,
    /// Circuit breakers that are open now.
    pub breakers_open: StatGauge,
    /// Connections that found that another replica makes its keys differently (`tg1:meta`).
    pub mismatches: StatCounter,
    /// The difference, if the last connection found one.
    pub(super) mismatch: Mutex<Option<Mismatch>>,
    /// Whether the last connection was found to lead to several servers, and is therefore not used.
    pub(super) is_several: AtomicBool,
    /// Refunds of charges of a request over several buckets or Redis: a later sub-request denied it or failed, or its
    /// caller has gone.
    pub refunds: StatCounter,
    /// Refunds without a reply in time: their hits may stay charged.
    pub refunds_failed: StatCounter,
    /// Requests that a node sent elsewhere, because the slot of a counter had moved or was moving.
    pub elsewhere: StatCounter,
    /// Nodes whose batches hold one slot each, because they forbid more.
    pub nodes_by_slot: StatGauge,
    /// Keys that Redis evicted for lack of memory, as far as [`super::EvictionWatch`] has seen.
    pub evicted: StatCounter,
    /// Times that Redis had to be sent the script's text.
    pub script_loads: StatCounter,
    /// Throttle of the log line about counters that were set back.
    pub(super) set_back_log: LogThrottle,
    /// How far Redis' clock is ahead of this process', in µs.
    pub clock_ahead_us: StatGauge,
}

/// A number that goes up and down.
#[derive(Debug, Default)]
pub struct StatGauge(AtomicI64);

impl StatGauge {
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
pub struct StatCounter(AtomicU64);

impl StatCounter {
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }

    pub(super) fn add(&self, more: u64) {
        self.0.fetch_add(more, Relaxed);
    }
}
