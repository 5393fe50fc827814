//! Opens what can be changed while the service runs: overrides, kept where the counters are, resets, and the fleet.

use std::sync::Arc;

use anyhow::Context;

use super::{
    backend::{Backend, side},
    tasks::Tasks,
};
use crate::sources::publish::Publisher;
use crate::{
    metrics::Metrics,
    run_time::{
        RunTime,
        fleet::Fleet,
        overrides::Overrides,
        reset::{CounterStores, Resets},
    },
    settings::StoreSettings,
    store::{deferred::DeferredCharges, memory::Memory},
};

/// Everything, kept up to date by `tasks`. Rules that come later are shown to it by `publisher`.
pub(super) fn open(
    backend: &Backend,
    (settings, fleet): (&StoreSettings, &str),
    (fallback, deferred): (&Arc<Memory>, &Arc<DeferredCharges>),
    (publisher, metrics): (&Publisher, &Metrics),
    tasks: &Tasks,
) -> anyhow::Result<RunTime> {
    let (overrides, heard, home, fleet) = match backend {
        Backend::Memory(memory, _) => {
            let overrides = Overrides::in_process(settings.state_dir.as_deref()).context("TOLLGATE_STATE_DIR")?;
            (overrides, None, CounterStores::Memory(Arc::clone(memory)), Fleet::of_one(fleet))
        }
        Backend::Redis(redis) => {
            let (main, heard) = side(redis, Some(Overrides::channel(redis)), tasks);
            let fleet = Fleet::in_redis(fleet, main.clone());
            (Overrides::in_redis(main.clone()), Some(heard), CounterStores::Redis(main), fleet)
        }
        Backend::Split(redis, per_second) => {
            let (main, heard) = side(redis, Some(Overrides::channel(redis)), tasks);
            let (per_second, _) = side(per_second, None, tasks);
            let fleet = Fleet::in_redis(fleet, main.clone());
            (Overrides::in_redis(main.clone()), Some(heard), CounterStores::Split { main, per_second }, fleet)
        }
    };
    let overrides = Arc::new(overrides);
    overrides.prepare(&publisher.snapshot.load().rules);
    publisher.show_rules_to(&overrides);
    metrics.show_overrides(&overrides);
    tasks.spawn("run-time overrides", Arc::clone(&overrides).run(heard));
    Ok(RunTime {
        overrides,
        resets: Resets { stores: home, fallback: Arc::clone(fallback), deferred: Arc::clone(deferred) },
        fleet: Arc::new(fleet),
        reloads: Arc::clone(&publisher.reloads),
    })
}
