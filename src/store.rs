//! The stores of counters. All counters of a request are decided together, in one atomic step. It knows limits and
//! costs, but not rules, protobuf or failure policies.

mod counter_check;
pub mod deferred;
mod hash_slot;
pub mod key;
pub mod memory;
mod partwise;
mod readings;
pub mod redis;
pub mod settle;
pub mod split;
mod sub_requests;

use std::sync::Arc;

use tokio::time::Instant;

pub(crate) use self::counter_check::refusing;
pub use self::counter_check::{CounterCheck, Deadline, Gate, Key, Role, denied};
use self::memory::Memory;
pub use self::readings::{Readings, StoreError};
use self::redis::Redis;
use self::split::Split;
use crate::limit::UnixMicros;

/// The store of counters. Cheap to clone; each core has its own clone, and with it its own connection to Redis.
#[derive(Clone)]
pub enum Store {
    Memory(Arc<Memory>),
    Redis(Redis),
    /// Two Redis; the length of a limit's window chooses one.
    Split(Box<Split>),
}

impl Store {
    /// Decides and charges all checks of a request in one atomic step. The memory store answers at once, by `now`;
    /// Redis decides by its own clock, and answers by `deadline`.
    pub async fn apply(
        &self,
        checks: &[CounterCheck<'_>],
        gate: Gate,
        now: UnixMicros,
        deadline: impl Into<Deadline>,
    ) -> Result<Readings, StoreError> {
        match self {
            Store::Memory(memory) => Ok(memory.apply(checks, gate, now)),
            Store::Redis(redis) => redis.apply(checks, gate, deadline).await,
            // Boxed, because its future holds several of the other's.
            Store::Split(split) => Box::pin(split.apply(checks, gate, deadline)).await,
        }
    }

    /// Reads how every check would be answered, and charges nothing. A check that would be admitted reports its counter
    /// as it is now; one that would be refused reports when its cost would be admitted.
    pub async fn peek(
        &self,
        checks: &[CounterCheck<'_>],
        now: UnixMicros,
        deadline: Instant,
    ) -> Result<Readings, StoreError> {
        match self {
            Store::Memory(memory) => Ok(memory.peek(checks, now)),
            Store::Redis(redis) => redis.peek(checks, deadline).await,
            Store::Split(split) => split.peek(checks, deadline).await,
        }
    }

    /// Name of a counter, which is its key in Redis. The memory store has only fingerprints, so there it is the key
    /// that it would have in Redis.
    pub fn counter_name(&self, check: &CounterCheck<'_>) -> String {
        let key = match self {
            Store::Memory(_) => {
                let mut out = Vec::new();
                key::write(&mut out, "", key::bucket(&check.key, key::Buckets::DEFAULT), &check.key, &check.limit);
                out
            }
            Store::Redis(redis) => redis.counter_key(check),
            Store::Split(split) => split.of(check).counter_key(check),
        };
        String::from_utf8_lossy(&key).into_owned()
    }

    /// Whether requests leave this process.
    pub fn is_remote(&self) -> bool {
        match self {
            Store::Memory(_) => false,
            Store::Redis(_) | Store::Split(_) => true,
        }
    }

    /// Whether the store can decide requests now.
    pub fn answers(&self) -> bool {
        match self {
            Store::Memory(_) => true,
            Store::Redis(redis) => redis.is_up(),
            Store::Split(split) => split.is_up(),
        }
    }

    /// How far the store's clock is ahead of this process', in µs. 0 for the memory store, and while it isn't known.
    pub fn clock_ahead_us(&self) -> i64 {
        match self {
            Store::Memory(_) => 0,
            Store::Redis(redis) => redis.stats().clock_ahead_us.get(),
            Store::Split(split) => split.main.stats().clock_ahead_us.get(),
        }
    }

    /// How another replica makes its keys, if it makes them differently.
    pub fn mismatch(&self) -> Option<redis::Mismatch> {
        match self {
            Store::Memory(_) => None,
            Store::Redis(redis) => redis.mismatch(),
            Store::Split(split) => split.mismatch(),
        }
    }

    /// Why an address is not used, if it leads to several servers.
    pub fn refused_address(&self) -> Option<&'static str> {
        match self {
            Store::Memory(_) => None,
            Store::Redis(redis) => redis.refused_address(),
            Store::Split(split) => split.refused_address(),
        }
    }

    pub fn name(&self) -> &'static str {
        match self {
            Store::Memory(_) => "memory",
            Store::Redis(_) | Store::Split(_) => "redis",
        }
    }
}
