//! Where counters live. A request's counters are decided together, in one atomic step; the store knows limits
//! and costs, not rules, protobuf or policies.

pub mod key;
mod look;
pub mod memory;
pub mod owed;
mod paced;
mod parts;
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

/// What a counter is called: domain, entries, and the limit's name where a rule's limits share those.
/// Never the limit's number: a raised limit goes on with the count that it has.
#[derive(Clone, Copy, Debug)]
pub struct Key<'a> {
    pub domain: &'a str,
    pub entries: &'a [Entry<'a>],
    /// By position: the pattern that stands in for the value where the rule shares one counter (`share_threshold`).
    pub shared: &'a [Option<Box<str>>],
    /// Name or ordinal of the limit where several of one rule would share a key, else empty.
    pub limit_name: &'a str,
    /// Position of the first entry matched by a key-only or wildcard rule: counters of one user share a slot.
    pub variable: usize,
}

/// What a refusal by this limit does to the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Denies the request.
    Enforced,
    /// Denies it only if every quota limit of the request refuses.
    Quota,
    /// Counted and reported, never denies (`shadow_mode`, `enforce: false`).
    Shadow,
}

/// One counter of a request, and what is put to it. Its fields lie in this order, with no gap before the limit: beside
/// one the compiler copies gap and limit in pieces that cross the pieces they were written in, and the processor then
/// puts off the counter's hash until all that came before is done.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Ask<'a> {
    pub key: Key<'a>,
    pub limit: Limit,
    pub cost: Cost,
    /// Which rule asks: a hash of its id, so that it stays the same over reloads. A bounded store shares its room out
    /// by it; rules that coincide share room, nothing else.
    pub rule: u32,
    pub role: Role,
}

/// What holds for the request as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gate {
    /// A quota descriptor without a limit is in the request (global QUOTA_MODE): quota can't deny.
    pub quota_open: bool,
    /// Global SHADOW_MODE: charged as if not denied.
    pub never_deny: bool,
}

/// Whether the request is denied, from the role and the answer of each of its limits: the verdict of docs/design.md.
/// The stores decide with it what to charge, the limiter what to answer.
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

/// Split by what the operator does next; the limiter answers each by the limits' policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Look at the network and at Redis' own state.
    #[error("the store can't be reached: {0}")]
    Unreachable(String),
    /// Look at Redis' load, or allow more time.
    #[error("the store gave no answer within {0:?}")]
    Timeout(std::time::Duration),
    /// Look at what Redis said: permissions, memory, persistence.
    #[error("the store refused: {0}")]
    Refused(String),
    /// Add capacity: requests come faster than they can be counted.
    #[error("too many requests wait for the store")]
    Overloaded,
    /// Report it: the log has the panic that was caught.
    #[error("the decision failed; the service's log says where")]
    Defect,
}

/// Until when an answer is waited for.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    /// By then a request is on its way, or it isn't sent any more.
    pub at: Instant,
    /// One that is on its way by then is waited for until this. Not before `at`.
    pub sent: Instant,
}

impl From<Instant> for Deadline {
    fn from(at: Instant) -> Deadline {
        Deadline { at, sent: at }
    }
}

/// The two stores that there are. Cheap to clone; each core has its own clone, and with it its own way to Redis.
#[derive(Clone)]
pub enum Store {
    Memory(Arc<Memory>),
    Redis(Redis),
    /// Two, by the length of a limit's window.
    Split(Box<Split>),
}

impl Store {
    /// Decides and charges all asks of a request in one atomic step. Memory answers at once, by `now`; Redis goes by its
    /// own clock, and answers by `deadline`.
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
            // Boxed: its future holds several of the other's.
            Store::Split(split) => Box::pin(split.apply(asks, gate, deadline)).await,
        }
    }

    /// Whether questions leave this process.
    pub fn is_remote(&self) -> bool {
        match self {
            Store::Memory(_) => false,
            Store::Redis(_) | Store::Split(_) => true,
        }
    }

    /// Whether it can be asked now.
    pub fn answers(&self) -> bool {
        match self {
            Store::Memory(_) => true,
            Store::Redis(redis) => redis.is_up(),
            Store::Split(split) => split.is_up(),
        }
    }

    /// How far the store's clock is ahead of this process', in µs; 0 where it is this process', or isn't known yet.
    pub fn clock_ahead_us(&self) -> i64 {
        match self {
            Store::Memory(_) => 0,
            Store::Redis(redis) => redis.tally().clock_ahead_us.get(),
            Store::Split(split) => split.main.tally().clock_ahead_us.get(),
        }
    }

    /// How another replica makes its keys, if not as this one does.
    pub fn mismatch(&self) -> Option<redis::Mismatch> {
        match self {
            Store::Memory(_) => None,
            Store::Redis(redis) => redis.mismatch(),
            Store::Split(split) => split.mismatch(),
        }
    }

    /// Why an address is not used, where it leads to several servers.
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
