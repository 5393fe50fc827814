//! Counters begun afresh because somebody asks for it: what was counted is forgotten, and so is every denial that rested on
//! it, on all replicas; and what a counter remembers, for whoever explains it. Which counters is not decided here.

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

/// Where counters are, for whoever resets or explains them: apart from the ways that decisions go.
#[derive(Clone)]
pub struct Resets {
    pub home: Home,
    /// Where this replica counts while the store can't be reached.
    pub fallback: Arc<Memory>,
    /// What this replica is yet to charge in the store.
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
    /// Begins the counters of these asks afresh, and writes the entry with them: in one step where they are in one Redis;
    /// before them where they are in several. An error may leave some of them as they were, with the entry written or not:
    /// asking again is safe.
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

    /// What the counter of an ask remembers, and when: by the clock that it is decided by, which in memory is `now`.
    pub async fn state(&self, ask: &Ask<'_>, now: UnixMicros) -> Result<(State, UnixMicros), StoreError> {
        match &self.home {
            Home::Memory(memory) => Ok((memory.state(ask, now), now)),
            Home::Redis(side) => side.state(ask).await,
            Home::Split { per_second, .. } if is_per_second(&ask.limit) => per_second.state(ask).await,
            Home::Split { main, .. } => main.state(ask).await,
        }
    }
}
