//! The store that the settings ask for, and what keeps it in shape.

use std::{convert::Infallible, sync::Arc, time::Duration};

use anyhow::Context;
use tokio::{
    sync::mpsc::UnboundedReceiver,
    time::{self, Interval, MissedTickBehavior},
};
use tracing::info;

use super::{snapshots, tasks::Tasks};
use crate::{
    blocking::try_blocking,
    clock,
    limit::{Algorithm, SECOND},
    limiter::{Fallback, Replicas, top::TopLists},
    metrics::Metrics,
    privacy::Privacy,
    run_time::overrides::Overrides,
    settings::{Settings, StoreSettings},
    store::{
        Store,
        deferred::DeferredCharges,
        memory::{Memory, MemorySettings, SWEEP_PERIOD, snapshot::Snapshots},
        redis::{
            BEAT_PERIOD, ChannelEvent, CommandConnection, EVICTION_CHECK_PERIOD, EvictionWatch, Presence, Redis,
            RedisSettings,
        },
        split::Split,
    },
};

/// Opens the store once for each core.
#[derive(Clone)]
pub(super) enum Backend {
    /// With the directory that its counters are kept in, if they are.
    Memory(Arc<Memory>, Option<Arc<Snapshots>>),
    Redis(Arc<RedisSettings>),
    /// The second for limits whose window is one second.
    Split(Arc<RedisSettings>, Arc<RedisSettings>),
}

impl Backend {
    pub(super) fn new(
        settings: &StoreSettings,
        default_algorithm: Algorithm,
        privacy: &Privacy,
    ) -> anyhow::Result<Backend> {
        if let Some(main) = &settings.redis {
            let with_default = |redis: &RedisSettings| {
                Arc::new(RedisSettings { default_algorithm, privacy: privacy.clone(), ..redis.clone() })
            };
            return Ok(match &settings.per_second {
                Some(per_second) => Backend::Split(with_default(main), with_default(per_second)),
                None => Backend::Redis(with_default(main)),
            });
        }
        let memory = MemorySettings { max_bytes: settings.memory_max_bytes };
        let Some(directory) = &settings.state_dir else {
            return Ok(Backend::Memory(Arc::new(Memory::new(memory)), None));
        };
        let snapshots = Snapshots::open(directory).context("TOLLGATE_STATE_DIR")?;
        let (memory, loaded) = snapshots.load(memory, clock::now()).context("TOLLGATE_STATE_DIR")?;
        info!(directory = %directory.display(), counters = loaded.counters, "counters were restored from the snapshot");
        Ok(Backend::Memory(Arc::new(memory), Some(Arc::new(snapshots))))
    }

    /// The counters in this process, if that is where they live.
    pub(super) fn memory(&self) -> Option<Arc<Memory>> {
        match self {
            Backend::Memory(memory, _) => Some(Arc::clone(memory)),
            Backend::Redis(_) | Backend::Split(..) => None,
        }
    }

    /// The memory in which this replica counts while the store can't be reached. A store in memory always can: its
    /// stand-in gets no capacity, and so takes no memory.
    pub(super) fn fallback(&self, settings: &StoreSettings) -> Memory {
        let is_needed = self.memory().is_none();
        Memory::new(MemorySettings { max_bytes: if is_needed { settings.memory_max_bytes } else { 0 } })
    }

    /// Keeps the counters in the state directory, where there is one.
    pub(super) fn keep(&self, tasks: &Tasks) {
        if let Backend::Memory(memory, Some(snapshots)) = self {
            let (snapshots, memory) = (Arc::clone(snapshots), Arc::clone(memory));
            tasks.spawn_to_finish("snapshots", snapshots::keep(snapshots, memory, tasks.stopping().clone()));
        }
    }

    /// Must be called inside the runtime that will ask: the connections to Redis live on it, kept by `tasks`. `deferred` is what
    /// the whole process is yet to tell it.
    pub(super) fn open(&self, deferred: &Arc<DeferredCharges>, tasks: &Tasks) -> Store {
        let start = |settings| {
            Redis::start_with_deferred(
                Arc::clone(settings),
                Arc::clone(deferred),
                tasks.tracker(),
                tasks.stopping().clone(),
            )
        };
        match self {
            Backend::Memory(memory, _) => Store::Memory(Arc::clone(memory)),
            Backend::Redis(settings) => Store::Redis(start(settings)),
            Backend::Split(main, per_second) => {
                Store::Split(Box::new(Split { main: start(main), per_second: start(per_second) }))
            }
        }
    }

    pub(super) fn name(&self) -> &'static str {
        match self {
            Backend::Memory(..) => "memory",
            Backend::Redis(_) => "redis",
            Backend::Split(..) => "two of redis",
        }
    }
}

/// What answers in the store's place, in `local` memory.
pub(super) fn open_fallback(settings: &Settings, local: &Arc<Memory>) -> Fallback {
    let replicas = Replicas::new(settings.decisions.expected_replicas);
    Fallback::with_deferred(Arc::clone(local), replicas, Arc::new(DeferredCharges::new(clock::now())))
}

/// Starts a connection for what isn't a decision, and says what is heard over its `channel`.
pub(super) fn side(
    redis: &Arc<RedisSettings>,
    channel: Option<String>,
    tasks: &Tasks,
) -> (CommandConnection, UnboundedReceiver<ChannelEvent>) {
    CommandConnection::start(Arc::clone(redis), channel, tasks.tracker(), tasks.stopping().clone())
}

/// Looks now and then whether Redis throws counters out. Once per process: the numbers are Redis' own.
pub(super) fn watch_evictions(store: Store, tasks: &Tasks) {
    let mut rooms: Vec<EvictionWatch> = match store {
        Store::Memory(_) => return,
        Store::Redis(redis) => vec![EvictionWatch::of(redis)],
        Store::Split(split) => vec![EvictionWatch::of(split.main), EvictionWatch::of(split.per_second)],
    };
    let mut ticks = every(EVICTION_CHECK_PERIOD);
    tasks.spawn("the watch for evictions", async move {
        loop {
            ticks.tick().await;
            for room in &mut rooms {
                room.check().await;
            }
        }
    });
}

/// Says in Redis that this replica lives, and sees which others do. Once per process.
pub(super) fn count_replicas(
    store: Store,
    degraded: Arc<Fallback>,
    overrides: Arc<Overrides>,
    metrics: Arc<Metrics>,
    tasks: &Tasks,
) {
    let mut presence = match store {
        Store::Memory(_) => return,
        Store::Redis(redis) => Presence::of(redis),
        Store::Split(split) => Presence::of(split.main),
    };
    let mut ticks = every(BEAT_PERIOD);
    let stopping = tasks.stopping().clone();
    tasks.spawn_to_finish("counting replicas", async move {
        let beating = async {
            loop {
                ticks.tick().await;
                if let Some(replicas) = presence.beat().await {
                    degraded.replicas.observe(replicas.count);
                    metrics.replicas(replicas.count);
                    overrides.all_announce(replicas.all_announce);
                }
            }
        };
        let _: Option<Infallible> = stopping.run_until_cancelled(beating).await;
        presence.leave().await;
    });
}

/// Sweeps expired counters out of memory stores, and debts that nobody asked about, a share at a time.
/// Merges and forgets what the `top` lists hold of time that is over.
pub(super) fn sweep(
    stores: Vec<Arc<Memory>>,
    deferred: Arc<DeferredCharges>,
    top: Option<Arc<TopLists>>,
    tasks: &Tasks,
) {
    let period = |stores: &[Arc<Memory>], deferred: &DeferredCharges| match deferred.counters() {
        0 => stores.iter().map(|memory| memory.sweep_period()).min().unwrap_or(SECOND),
        _ => SWEEP_PERIOD,
    };
    tasks.spawn("sweeping", async move {
        loop {
            time::sleep(Duration::from_micros(period(&stores, &deferred).0)).await;
            stores.iter().for_each(|memory| {
                memory.sweep(clock::now(), memory.sweep_share());
            });
            deferred.sweep();
            if let Some(lists) = top.as_ref().filter(|lists| lists.is_due(clock::now())) {
                let lists = Arc::clone(lists);
                // If it is lost to the end of the process, nothing is left to do.
                let _ = try_blocking(move || lists.fold(clock::now())).await;
            }
        }
    });
}

fn every(period: Duration) -> Interval {
    let mut ticks = time::interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
