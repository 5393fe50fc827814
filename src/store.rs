//! The stores of counters. All counters of a request are decided together, in one atomic step. It knows limits and
//! costs, but not rules, protobuf or failure policies.

pub mod key;
mod look;
pub mod memory;
pub mod owed;
mod paced;
mod parts;
mod partwise;
mod readings;
pub mod redis;
pub mod settle;
pub mod split;

use std::sync::Arc;

use tokio::time::Instant;

pub(crate) use self::look::refusing;
use self::memory::Memory;
pub use self::readings::Readings;
use self::redis::Redis;
use self::split::Split;
use crate::limit::{Cost, Entry, Limit, UnixMicros};

/// Identity of a counter: domain, entries, and the limit's name if several limits of the rule would share a key. The
/// number of hits that the limit admits isn't part of it, so a raised limit goes on with the count that it has.
#[derive(Clone, Copy, Debug)]
pub struct Key<'a> {
    pub domain: &'a str,
    pub entries: &'a [Entry<'a>],
    /// For each entry the pattern that replaces its value, if the rule shares one counter over all values
    /// (`share_threshold`).
    pub shared: &'a [Option<Box<str>>],
    /// Name or number of the limit if several limits of one rule would share a key, else empty.
    pub limit_name: &'a str,
    /// Position of the first entry that a key-only or wildcard rule matched. It chooses the bucket: counters of one
    /// user share a slot.
    pub variable: usize,
}

/// What a refusal by a limit does to the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Denies the request.
    Enforced,
    /// Denies it only if every quota limit of the request refuses.
    Quota,
    /// Counted and reported, never denies (`shadow_mode`, `enforce: false`).
    Shadow,
}

/// A check of one counter by a limit and a cost. Its fields lie in this order, with no gap before the limit: next to a
/// gap the compiler copies gap and limit in pieces that cross the pieces in which they were written, and the processor
/// then delays the counter's hash until all earlier writes are done.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Ask<'a> {
    pub key: Key<'a>,
    pub limit: Limit,
    pub cost: Cost,
    /// Hash of the rule's id, so that it stays the same over reloads. A bounded store divides its capacity by it; rules
    /// with the same hash share capacity, and nothing else.
    pub rule: u32,
    pub role: Role,
}

/// What decides about the request as a whole, besides its checks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gate {
    /// The request has a quota descriptor without a limit (global QUOTA_MODE), so quotas can't deny it.
    pub quota_open: bool,
    /// Global SHADOW_MODE: the request is charged as if it were not denied.
    pub never_deny: bool,
}

/// Whether the request is denied, from the role of each of its checks and whether it was admitted (docs/design.md). The
/// stores decide by it what to charge, the limiter what to answer.
pub fn denied(gate: Gate, answers: impl IntoIterator<Item = (Role, bool)>) -> bool {
    let (mut enforced_refused, mut quotas, mut quotas_refused) = (false, 0u32, 0u32);
    for (role, admitted) in answers {
        match role {
            Role::Enforced => enforced_refused |= !admitted,
            Role::Quota => {
                quotas += 1;
                quotas_refused += u32::from(!admitted);
            }
            Role::Shadow => {}
        }
    }
    !gate.never_deny && (enforced_refused || (!gate.quota_open && quotas > 0 && quotas == quotas_refused))
}

/// Why the store gave no readings, split by what the operator does next. The limiter then answers by the limits'
/// failure policies.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Look at the network and at Redis' own state.
    #[error("the store can't be reached: {0}")]
    Unreachable(String),
    /// Look at Redis' load, or allow more time.
    #[error("the store gave no answer within {0:?}")]
    Timeout(std::time::Duration),
    /// Look at the error that Redis replied: permissions, memory, persistence.
    #[error("the store refused: {0}")]
    Refused(String),
    /// Add capacity: requests come faster than they can be counted.
    #[error("too many requests wait for the store")]
    Overloaded,
    /// Report it: the log has the panic that was caught.
    #[error("the decision failed; the service's log says where")]
    Defect,
}

/// Until when an answer is waited for, as two instants.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    /// A request that has not been sent by then isn't sent any more.
    pub at: Instant,
    /// The reply to a request that was sent is waited for until then. Not before `at`.
    pub sent: Instant,
}

impl From<Instant> for Deadline {
    fn from(at: Instant) -> Deadline {
        Deadline { at, sent: at }
    }
}

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
        asks: &[Ask<'_>],
        gate: Gate,
        now: UnixMicros,
        deadline: impl Into<Deadline>,
    ) -> Result<Readings, StoreError> {
        match self {
            Store::Memory(memory) => Ok(memory.apply(asks, gate, now)),
            Store::Redis(redis) => redis.apply(asks, gate, deadline).await,
            // Boxed, because its future holds several of the other's.
            Store::Split(split) => Box::pin(split.apply(asks, gate, deadline)).await,
        }
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
            Store::Redis(redis) => redis.tally().clock_ahead_us.get(),
            Store::Split(split) => split.main.tally().clock_ahead_us.get(),
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
