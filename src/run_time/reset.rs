//! Resets of counters: the counter begins anew, and every replica drops the denials that it caches for it. Also reads
//! the states of counters, for explanations. It doesn't decide which counters.

mod audited;

pub use audited::Author;

use std::sync::Arc;

use smallvec::SmallVec;

use crate::store::{
    CounterCheck, StoreError,
    deferred::DeferredCharges,
    memory::Memory,
    redis::{AuditStreamEntry, CommandConnection},
    split::is_per_second,
};
use crate::{algorithm::State, limit::UnixMicros};

/// The counters' stores, for resets and explanations, which use other connections than decisions.
#[derive(Clone)]
pub struct Resets {
    pub stores: CounterStores,
    /// The counters of this replica while the store can't be reached.
    pub fallback: Arc<Memory>,
    /// Hits that this replica still has to charge in the store.
    pub deferred: Arc<DeferredCharges>,
}

#[derive(Clone)]
pub enum CounterStores {
    Memory(Arc<Memory>),
    Redis(CommandConnection),
    /// Two, by the length of a limit's window.
    Split {
        main: CommandConnection,
        per_second: CommandConnection,
    },
}

impl Resets {
    /// Resets the counters of these checks and writes the entry: in one step if they are in one Redis, else the entry
    /// first. After an error some counters may not be reset, with the entry written or not; calling it again is safe.
    /// `deadline` is by Redis' clock.
    pub async fn reset(
        &self,
        checks: &[CounterCheck<'_>],
        entry: Option<AuditStreamEntry<'_>>,
        deadline: Option<UnixMicros>,
    ) -> Result<(), StoreError> {
        match &self.stores {
            CounterStores::Memory(memory) => checks.iter().for_each(|check| memory.reset(check)),
            CounterStores::Redis(connection) => connection.reset(checks, entry, deadline).await?,
            CounterStores::Split { main, per_second } => {
                let of = |wanted| {
                    let checks = checks.iter().filter(move |check| is_per_second(&check.limit) == wanted);
                    checks.copied().collect::<SmallVec<[CounterCheck<'_>; 4]>>()
                };
                main.reset(&of(false), entry, deadline).await?;
                per_second.reset(&of(true), None, deadline).await?;
            }
        }
        for check in checks {
            self.fallback.reset(check);
            self.deferred.forget(check);
        }
        Ok(())
    }

    /// The state of a check's counter, and when it was read, by the clock that decides it; for the memory store that is
    /// `now`.
    pub async fn state(&self, check: &CounterCheck<'_>, now: UnixMicros) -> Result<(State, UnixMicros), StoreError> {
        match &self.stores {
            CounterStores::Memory(memory) => Ok((memory.state(check, now), now)),
            CounterStores::Redis(connection) => connection.state(check).await,
            CounterStores::Split { per_second, .. } if is_per_second(&check.limit) => per_second.state(check).await,
            CounterStores::Split { main, .. } => main.state(check).await,
        }
    }
}
