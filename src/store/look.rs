//! Questions that change nothing: what each counter would say to a cost, and what counters are called. Each ask is
//! answered for itself, by the same step as a decision's.

use smallvec::SmallVec;
use tokio::time::Instant;

use super::{Ask, Gate, Key, Readings, Role, Store, StoreError, key, memory::Memory, split::Split};
use crate::limit::{Cost, Limit, UnixMicros};

impl Store {
    /// What every ask would be answered. One that would be admitted reads as a look at its counter, as it is now; one
    /// that would be refused says when its cost would be admitted.
    pub async fn look(&self, asks: &[Ask<'_>], now: UnixMicros, deadline: Instant) -> Result<Readings, StoreError> {
        match self {
            Store::Memory(memory) => Ok(memory.look(asks, now)),
            Store::Redis(redis) => redis.look(asks, deadline).await,
            Store::Split(split) => split.look(asks, deadline).await,
        }
    }

    /// What a counter is called: its key in Redis. In memory, where keys are fingerprints, what it would be called
    /// there.
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

/// Refused or not, nothing is charged for it in a request that is denied.
pub(super) fn uncharged<'a>(ask: &Ask<'a>) -> Ask<'a> {
    Ask { cost: Cost { charge_denied: false, ..ask.cost }, ..*ask }
}

/// A limit of 0, which denies the request that it stands in: of its other asks only those are charged that count denied
/// hits. `beside` one of them, so that it is asked about in the same place.
pub(crate) fn refusing<'a>(beside: &Ask<'a>) -> Ask<'a> {
    Ask {
        key: Key { limit_name: "denied elsewhere", ..beside.key },
        limit: Limit { requests: 0, burst: 0, ..beside.limit },
        cost: Cost { hits: 1, charge_denied: false },
        role: Role::Enforced,
        ..*beside
    }
}
