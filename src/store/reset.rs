//! Counters begun afresh because somebody asks for it: what was counted is forgotten, and so is every denial that rested on
//! it, on all replicas. Which counters is not decided here.

use std::sync::Arc;

use smallvec::SmallVec;

use super::{Ask, StoreError, memory::Memory, redis::Side, split::is_per_second};

/// Where counters are, for whoever resets them: apart from the ways that decisions go.
#[derive(Clone)]
pub struct Resets {
    pub home: Home,
    /// Where this replica counts while the store can't be reached.
    pub fallback: Arc<Memory>,
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
    /// Begins the counters of these asks afresh. An error may leave some of them as they were: asking again is safe.
    pub async fn reset(&self, asks: &[Ask<'_>]) -> Result<(), StoreError> {
        asks.iter().for_each(|ask| self.fallback.reset(ask));
        match &self.home {
            Home::Memory(memory) => asks.iter().for_each(|ask| memory.reset(ask)),
            Home::Redis(side) => side.reset(asks).await?,
            Home::Split { main, per_second } => {
                let of = |wanted| {
                    let asks = asks.iter().filter(move |ask| is_per_second(&ask.limit) == wanted);
                    asks.copied().collect::<SmallVec<[Ask<'_>; 4]>>()
                };
                main.reset(&of(false)).await?;
                per_second.reset(&of(true)).await?;
            }
        }
        Ok(())
    }
}
