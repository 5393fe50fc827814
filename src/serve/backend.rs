//! The store that the settings ask for, and what keeps it in shape.

use std::{sync::Arc, time::Duration};

use tokio::time::{self, MissedTickBehavior};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    clock,
    settings::{StoreKind, StoreSettings},
    store::{
        Store,
        memory::{Memory, MemorySettings, SWEEP_PERIOD},
    },
};

/// Opens the store once for each core.
#[derive(Clone)]
pub(super) enum Backend {
    Memory(Arc<Memory>),
}

impl Backend {
    pub(super) fn new(settings: &StoreSettings) -> anyhow::Result<Backend> {
        match settings.kind {
            StoreKind::Memory => {
                Ok(Backend::Memory(Arc::new(Memory::new(MemorySettings { max_bytes: settings.memory_max_bytes }))))
            }
            StoreKind::Redis => anyhow::bail!("not yet"),
        }
    }

    /// Must be called inside the runtime that will ask: the way to Redis lives on it, its tasks on `tasks` until `stop`.
    pub(super) fn open(&self, _tasks: &TaskTracker, _stop: &CancellationToken) -> Store {
        match self {
            Backend::Memory(memory) => Store::Memory(Arc::clone(memory)),
        }
    }

    pub(super) fn name(&self) -> &'static str {
        match self {
            Backend::Memory(_) => "memory",
        }
    }

    /// Sweeps expired counters out of the memory store, a share at a time, until `stop`.
    pub(super) async fn upkeep(self, stop: CancellationToken) {
        let Backend::Memory(memory) = self;
        let mut ticks = time::interval(Duration::from_micros(SWEEP_PERIOD.0));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => { memory.sweep(clock::now(), memory.sweep_share()); }
                () = stop.cancelled() => return,
            }
        }
    }
}
