//! What decisions are made with: the rules in force, the store, the fallback in memory, and what changes at run time. Opened
//! once for the process; each core makes its own service of it, with its own connection to the store.

use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tracing::{info, warn};

use super::{
    backend::{self, Backend},
    decision_log::DecisionLog,
    insight,
    modes::modes,
    run_time, stats,
    tasks::Tasks,
    traces,
};
use crate::{
    front::{api::Insight, envoy::RateLimit},
    limiter::{Fallback, Limiter, Snapshot},
    metrics::{self, Metrics},
    run_time::RunTime,
    settings::{
        DecisionSettings, OverloadSettings, ResponseSettings, Settings, StatsSettings, StoreKind, StoreSettings,
    },
    sources::publish::Publisher,
    store::{Store, memory::Memory},
    trace::{TraceSettings, Tracer},
};

/// What every core makes its service of.
#[derive(Clone)]
pub(super) struct Limiting {
    pub metrics: Arc<Metrics>,
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    pub run_time: RunTime,
    pub insight: Arc<Insight>,
    /// Until it is kept.
    decision_log: Arc<Mutex<Option<DecisionLog>>>,
    /// `None`: no request is traced.
    tracer: Option<Arc<Tracer>>,
    backend: Backend,
    /// Where this replica counts while the store can't be reached.
    fallback: Arc<Memory>,
    degraded: Arc<Fallback>,
    decisions: DecisionSettings,
    responses: ResponseSettings,
    bounds: OverloadSettings,
}

impl Limiting {
    /// Opens the store and what is kept beside the counters. Doesn't wait for Redis; `tasks` keep up with it.
    pub(super) fn open(
        settings: &Settings,
        publisher: &Publisher,
        metrics: &Arc<Metrics>,
        tasks: &Tasks,
    ) -> anyhow::Result<Limiting> {
        let (insight, decision_log) = insight::open(settings)?;
        let backend = Backend::new(&settings.store, settings.decisions.algorithm, &insight.privacy)?;
        announce(&backend, &settings.store);
        let fallback = Arc::new(backend.fallback(&settings.store));
        let degraded = Arc::new(backend::open_fallback(settings, &fallback));
        let counted = (&fallback, &degraded.deferred);
        let run_time =
            run_time::open(&backend, (&settings.store, &settings.insight.fleet), counted, (publisher, metrics), tasks)?;
        Ok(Limiting {
            metrics: Arc::clone(metrics),
            snapshot: Arc::clone(&publisher.snapshot),
            run_time,
            insight: Arc::new(insight),
            decision_log: Arc::new(Mutex::new(decision_log)),
            tracer: None,
            backend,
            fallback,
            degraded,
            decisions: settings.decisions,
            responses: settings.responses.clone(),
            bounds: settings.overload,
        })
    }

    /// Traces requests as the settings say.
    pub(super) fn traced(self, settings: Option<&TraceSettings>, tasks: &Tasks) -> Limiting {
        let tracer = traces::start(settings, &self.metrics, tasks);
        Limiting { tracer, ..self }
    }

    /// A service with its own connection to the store, which `tasks` keep until they stop.
    pub(super) fn service(&self, tasks: &Tasks) -> (RateLimit, Store) {
        let modes = modes(&self.decisions, self.responses.dynamic_metadata);
        let store = self.backend.open(&self.degraded.deferred, tasks);
        self.metrics.watch(store.clone());
        let (snapshot, degraded) = (Arc::clone(&self.snapshot), Arc::clone(&self.degraded));
        let limiter = Limiter::new(snapshot, store.clone(), degraded, modes, Arc::clone(&self.metrics))
            .with_run_time(self.run_time.clone())
            .with_top(self.insight.top.as_ref().map(|lists| lists.core()))
            .with_feed(Arc::clone(&self.insight.feed));
        let service = RateLimit::new(limiter, self.decisions.store_timeout, &self.responses, &self.bounds);
        (service.with_tracer(self.tracer.clone(), self.insight.privacy.clone()), store)
    }

    /// Starts writing the decision log, if there is one, once for the process.
    pub(super) fn keep_decision_log(&self, tasks: &Tasks) -> anyhow::Result<()> {
        match self.decision_log.lock().take() {
            Some(log) => log.start(Arc::clone(&self.insight.feed), Arc::clone(&self.metrics), tasks),
            None => Ok(()),
        }
    }

    /// Starts what keeps the counters in shape, once for the process: sweeping, saving, and seeing how many replicas there
    /// are.
    pub(super) fn keep_counters(&self, store: Store, tasks: &Tasks) {
        let counted_here = [Some(Arc::clone(&self.fallback)), self.backend.memory()].into_iter().flatten().collect();
        let top = self.insight.top.clone();
        if let Some(lists) = &top {
            let lists = Arc::clone(lists);
            self.metrics.show_top(move || lists.bytes());
        }
        backend::sweep(counted_here, Arc::clone(&self.degraded.deferred), top, tasks);
        let (degraded, overrides) = (Arc::clone(&self.degraded), Arc::clone(&self.run_time.overrides));
        backend::count_replicas(store, degraded, overrides, Arc::clone(&self.metrics), tasks);
        self.backend.keep(tasks);
    }

    /// Starts what reports: whether Redis evicts counters, the last hour, and metrics to StatsD servers.
    pub(super) fn report(&self, settings: &StatsSettings, store: Store, tasks: &Tasks) {
        backend::watch_evictions(store, tasks);
        let history = Arc::clone(&self.insight.history);
        insight::keep_history(history, Arc::clone(&self.metrics), Arc::clone(&self.snapshot), tasks);
        let sinks = stats::sinks(settings);
        if !sinks.is_empty() {
            let (metrics, snapshot) = (Arc::clone(&self.metrics), Arc::clone(&self.snapshot));
            let stopping = tasks.stopping().clone();
            let totals = move || {
                let snapshot = snapshot.load();
                metrics.totals(&snapshot.rules, &snapshot.meters)
            };
            let flushing = metrics::flush(sinks, settings.flush_interval, totals, stopping);
            tasks.spawn_to_finish("StatsD", flushing);
        }
    }
}

fn announce(backend: &Backend, settings: &StoreSettings) {
    info!(store = backend.name(), reason = settings.reason, "the store is chosen");
    // Counting in memory is right for one replica; in a fleet each would give out the whole limit.
    if settings.kind == StoreKind::Memory && std::env::var_os("KUBERNETES_SERVICE_HOST").is_some() {
        warn!(
            "counters are in memory inside Kubernetes, so each replica admits the whole limit; set REDIS_URL to share limits"
        );
    }
}
