//! Reads counters and changes nothing: how each counter would answer a cost, and the counters' names. Each check is
//! answered for itself, by the same step as in a decision.

use smallvec::SmallVec;
use tokio::time::Instant;

use super::{Ask, Gate, Key, Readings, Role, Store, StoreError, key, memory::Memory, split::Split};
use crate::limit::{Cost, Limit, UnixMicros};

impl Store {
    /// Reads how every check would be answered, and charges nothing. A check that would be admitted reports its counter
    /// as it is now; one that would be refused reports when its cost would be admitted.
    pub async fn look(&self, asks: &[Ask<'_>], now: UnixMicros, deadline: Instant) -> Result<Readings, StoreError> {
        match self {
            Store::Memory(memory) => Ok(memory.look(asks, now)),
            Store::Redis(redis) => redis.look(asks, deadline).await,
            Store::Split(split) => split.look(asks, deadline).await,
        }
    }

    /// Name of a counter, which is its key in Redis. The memory store has only fingerprints, so there it is the key
    /// that it would have in Redis.
    pub fn counter_name(&self, ask: &Ask<'_>) -> String {
        let key = match self {
            Store::Memory(_) => {
                let mut out = Vec::new();
                key::write(&mut out, "", key::bucket(&ask.key, key::BUCKETS), &ask.key, &ask.limit);
                out
            }
            Store::Redis(redis) => redis.counter_key(ask),
            Store::Split(split) => split.of(ask).counter_key(ask),
        };
        String::from_utf8_lossy(&key).into_owned()
    }
}

impl Memory {
    /// As [`Store::look`].
    pub fn look(&self, asks: &[Ask<'_>], now: UnixMicros) -> Readings {
        let mut all: SmallVec<[Ask<'_>; 4]> = asks.iter().map(uncharged).collect();
        if let Some(last) = asks.last() {
            all.push(refusing(last));
        }
        let mut readings = self.apply(&all, Gate::default(), now);
        readings.truncate(asks.len());
        readings
    }
}

impl Split {
    async fn look(&self, asks: &[Ask<'_>], deadline: Instant) -> Result<Readings, StoreError> {
        let mut readings = Readings::new();
        for ask in asks {
            readings.extend(self.of(ask).look(std::slice::from_ref(ask), deadline).await?);
        }
        Ok(readings)
    }
}

/// The check with a cost that charges nothing in a request that is denied, whether or not it is refused.
pub(super) fn uncharged<'a>(ask: &Ask<'a>) -> Ask<'a> {
    Ask { cost: Cost { charge_denied: false, ..ask.cost }, ..*ask }
}

/// A check of a limit of 0, which denies the request that it is added to, so that of its other checks only those with
/// `charge_denied` are charged. It has the place of `beside`, one of these checks, so that one script can decide them
/// all.
pub(crate) fn refusing<'a>(beside: &Ask<'a>) -> Ask<'a> {
    Ask {
        key: Key { limit_name: "denied elsewhere", ..beside.key },
        limit: Limit { requests: 0, burst: 0, ..beside.limit },
        cost: Cost { hits: 1, charge_denied: false },
        role: Role::Enforced,
        ..*beside
    }
}
