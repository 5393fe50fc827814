//! A limiter as measurements need it: on a memory store, with every default. Shared by benchmarks and examples, of which
//! each asks it in its own way.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tollgate::{
    limit::UnixMicros,
    limiter::{Budgets, Fallback, Limiter, Modes, Snapshot},
    metrics::{Meters, Metrics},
    rules::{LoadedTexts, Problems, Rules},
    store::{
        Store,
        memory::{Memory, MemorySettings},
    },
};

/// And where its rules can be swapped.
pub(crate) fn limiter(rules: Rules, counters: Arc<Memory>) -> (Limiter, Arc<ArcSwap<Snapshot>>) {
    let snapshot = Arc::new(ArcSwap::from_pointee(snapshot(rules)));
    let (degraded, metrics) = (Arc::new(Fallback::new(memory(), 1)), Arc::new(Metrics::default()));
    (Limiter::new(Arc::clone(&snapshot), Store::Memory(counters), degraded, Modes::default(), metrics), snapshot)
}

pub(crate) fn memory() -> Arc<Memory> {
    Arc::new(Memory::new(MemorySettings::default()))
}

pub(crate) fn snapshot(rules: Rules) -> Snapshot {
    let meters = Meters::new(&rules, None);
    let budgets = Budgets::new(&rules, None);
    let loaded_at = UnixMicros(1_800_000_000_000_000);
    Snapshot {
        version: 1,
        rules,
        meters,
        budgets,
        problems: Problems::default(),
        kept_domains: Vec::new(),
        texts: LoadedTexts::default(),
        loaded_at,
    }
}
