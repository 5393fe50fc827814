//! Resets of counters: the counter begins anew, and every replica drops the denials that it caches for it. Also reads
//! the states of counters, for explanations. It doesn't decide which counters.

mod audited;

pub use audited::Author;

use std::sync::Arc;

use smallvec::SmallVec;

use crate::store::{
    Ask, StoreError,
    memory::Memory,
    owed::Owed,
    redis::{Entry, Side},
    split::is_per_second,
};
use crate::{algorithm::State, limit::UnixMicros};

/// The counters' stores, for resets and explanations, which use other connections than decisions.
#[derive(Clone)]
pub struct Resets {
    pub home: Home,
    /// The counters of this replica while the store can't be reached.
    pub fallback: Arc<Memory>,
    /// Hits that this replica still has to charge in the store.
    pub owed: Arc<Owed>,
}

#[derive(Clone)]
pub enum Home {
    Memory(Arc<Memory>),
    Redis(Side),
    /// Two, by the length of a limit's window.
    Split {
        main: Side,
        per_second: Side,
    },
}

impl Resets {
    /// Resets the counters of these checks and writes the entry: in one step if they are in one Redis, else the entry
    /// first. After an error some counters may not be reset, with the entry written or not; calling it again is safe.
    pub async fn reset(&self, asks: &[Ask<'_>], entry: Option<Entry<'_>>) -> Result<(), StoreError> {
        match &self.home {
            Home::Memory(memory) => asks.iter().for_each(|ask| memory.reset(ask)),
            Home::Redis(side) => side.reset(asks, entry).await?,
            Home::Split { main, per_second } => {
                let of = |wanted| {
                    let asks = asks.iter().filter(move |ask| is_per_second(&ask.limit) == wanted);
                    asks.copied().collect::<SmallVec<[Ask<'_>; 4]>>()
                };
                main.reset(&of(false), entry).await?;
                per_second.reset(&of(true), None).await?;
            }
        }
        for ask in asks {
            self.fallback.reset(ask);
            self.owed.forget(ask);
        }
        Ok(())
    }

    /// The state of a check's counter, and when it was read, by the clock that decides it; for the memory store that is
    /// `now`.
    pub async fn state(&self, ask: &Ask<'_>, now: UnixMicros) -> Result<(State, UnixMicros), StoreError> {
        match &self.home {
            Home::Memory(memory) => Ok((memory.state(ask, now), now)),
            Home::Redis(side) => side.state(ask).await,
            Home::Split { per_second, .. } if is_per_second(&ask.limit) => per_second.state(ask).await,
            Home::Split { main, .. } => main.state(ask).await,
        }
    }
}
