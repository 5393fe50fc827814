//! Every metric, its name and its meaning, in one place: [`table`]. Counting goes through handles of the `metrics` crate
//! that are resolved when what counts is made, so that a request pays one addition for each; behind them is [`recorder`],
//! and the series of rules, which leave the page with them, are in [`limits`]. Series are bounded by the rules; where
//! clients' words make them, by a number.

mod clients;
mod decision_log;
mod envoyproxy;
mod handshakes;
mod latency;
mod limits;
mod meters;
mod overrides;
mod page;
mod recorder;
mod refusals;
mod render;
mod stores;
mod table;
#[cfg(test)]
mod tests;
mod text;
mod unmatched;

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use metrics::{Counter, Gauge};
use parking_lot::Mutex;

pub use crate::metrics::envoyproxy::hit_counts::HitCounts;
pub use crate::metrics::envoyproxy::reference::{Reference, ReferenceSettings};
pub use crate::metrics::envoyproxy::sink::{Sink, SinkProtocol, flush};
pub use crate::metrics::envoyproxy::statsd::{Dialect, Rewriting};
pub use crate::metrics::envoyproxy::totals::StatsdTotals;
pub use clients::{Clients, ListenerKind};
pub use decision_log::DecisionLogCounts;
pub use handshakes::{HandshakeFailure, HandshakeFailures};
pub use latency::{Latency, Recorded};
pub use limits::LimitOutcome;
pub use meters::Meters;
pub(crate) use meters::requested_id;
pub use page::reference_document;
pub use refusals::{Refusal, Refusals};
pub use unmatched::Unmatched;

use recorder::{Count, Recorder};
use table::Metric;

use crate::{
    limit::Code,
    run_time::overrides::Overrides,
    store::{Store, StoreError},
    trace::Tracer,
};

/// The handles that requests and tasks count with. No global: each server of a process has its own.
pub struct Metrics {
    recorder: Arc<Recorder>,
    ok: Count,
    over_limit: Count,
    invalid: Count,
    failed: Count,
    /// Not on the page, where each limit has its own.
    by_policy: Count,
    unknown_domain: Counter,
    store_errors: [Count; 5],
    reloads_ok: Count,
    reloads_failed: Count,
    last_reload_successful: Gauge,
    last_reload_success: Gauge,
    rules_version: Gauge,
    domains: Gauge,
    connections: Gauge,
    replicas: Gauge,
    pub clients: Clients,
    panics: Counter,
    shed: Counter,
    overdue_admissions: Counter,
    log_fallbacks: Counter,
    refused_checks: [Counter; 4],
    without_unit: Counter,
    pub handshakes: HandshakeFailures,
    pub refusals: Refusals,
    /// From a request's arrival to its answer.
    pub decision: Arc<Latency>,
    /// From a question to the store to its answer, queueing included; only where the store is remote.
    pub store: Arc<Latency>,
    pub unmatched: Unmatched,
    /// As envoyproxy/ratelimit counts.
    pub reference: Reference,
    /// Unset where nothing is traced.
    tracer: OnceLock<Arc<Tracer>>,
    /// Asked for their own numbers at each scrape.
    stores: Mutex<Vec<Store>>,
    overrides: OnceLock<Arc<Overrides>>,
    /// Lines of the decision log.
    pub decision_log: DecisionLogCounts,
    /// Bytes of the lists of who is refused most; unset where there are none.
    top_bytes: OnceLock<Box<dyn Fn() -> u64 + Send + Sync>>,
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics::new(ReferenceSettings::default())
    }
}

impl Metrics {
    pub fn new(reference: ReferenceSettings) -> Metrics {
        let recorder = Arc::new(Recorder::new());
        recorder.show_level(Metric::BuildInfo, &[env!("CARGO_PKG_VERSION")], 1.0);
        let request = |code| recorder.count(Metric::Requests, &[code]);
        let reload = |result| recorder.count(Metric::RulesReloads, &[result]);
        let counter = |metric| recorder.counter(metric, &[]);
        let gauge = |metric| recorder.gauge(metric, &[]);
        Metrics {
            ok: request("ok"),
            over_limit: request("over_limit"),
            invalid: request("invalid"),
            failed: request("error"),
            by_policy: Count::of(&Arc::default()),
            unknown_domain: counter(Metric::UnknownDomainRequests),
            store_errors: STORE_ERRORS.map(|kind| recorder.count(Metric::StoreErrors, &[kind])),
            reloads_ok: reload("success"),
            reloads_failed: reload("failure"),
            last_reload_successful: gauge(Metric::RulesLastReloadSuccessful),
            last_reload_success: gauge(Metric::RulesLastReloadSuccess),
            rules_version: gauge(Metric::RulesVersion),
            domains: gauge(Metric::RulesDomains),
            connections: gauge(Metric::GrpcConnections),
            replicas: gauge(Metric::Replicas),
            clients: Clients::new(&recorder),
            panics: counter(Metric::Panics),
            shed: counter(Metric::ShedRequests),
            overdue_admissions: counter(Metric::OverdueAdmissions),
            log_fallbacks: counter(Metric::SlidingLogFallbacks),
            refused_checks: recorder.counters(Metric::RefusedChecks, RefusedCheck::ALL.map(RefusedCheck::name)),
            without_unit: counter(Metric::LimitsWithoutUnit),
            handshakes: HandshakeFailures::new(&recorder),
            refusals: Refusals::new(&recorder),
            decision: recorder.latency(Metric::DecisionDuration),
            store: recorder.latency(Metric::StoreDuration),
            unmatched: Unmatched::new(&recorder),
            reference: Reference::new(reference),
            tracer: OnceLock::new(),
            stores: Mutex::default(),
            overrides: OnceLock::new(),
            decision_log: DecisionLogCounts::new(&recorder),
            top_bytes: OnceLock::new(),
            recorder,
        }
    }

    pub fn decided(&self, overall: Code) {
        match overall {
            Code::Ok => self.ok.add(1),
            Code::OverLimit => self.over_limit.add(1),
        }
    }

    /// A request that was refused for what it says.
    pub fn invalid(&self) {
        self.invalid.add(1);
    }

    /// A request that was answered with an error.
    pub fn failed(&self) {
        self.failed.add(1);
    }

    pub fn unknown_domain(&self, domain: &str) {
        self.unknown_domain.increment(1);
        self.reference.unknown_domain(domain);
    }

    pub fn panicked(&self) {
        self.panics.increment(1);
    }

    pub fn replicas(&self, living: u32) {
        self.replicas.set(f64::from(living));
    }

    /// A request that a failure policy decided.
    pub fn answered_by_policy(&self) {
        self.by_policy.add(1);
    }

    /// What the requests came to, since the start.
    pub fn totals_of_requests(&self) -> RequestTotals {
        let refused = self.over_limit.get();
        let answered = self.ok.get() + refused + self.failed.get() + self.invalid.get();
        RequestTotals { answered, refused, degraded: self.by_policy.get() }
    }

    /// Number of circuit breakers that are open, one for each core and node.
    pub fn breakers_open(&self) -> u32 {
        stores::breakers_open(&self.stores.lock())
    }

    /// A request that found too many others under way.
    pub fn shed(&self) {
        self.shed.increment(1);
    }

    /// A request that a policy admitted since the store, though connected, did not answer in time.
    pub fn admitted_overdue(&self) {
        self.overdue_admissions.increment(1);
    }

    /// A limit that came with a request and was decided by another algorithm than the default.
    pub fn log_fallback(&self) {
        self.log_fallbacks.increment(1);
    }

    /// A check that brought what its caller may not.
    pub fn refused_check(&self, reason: RefusedCheck) {
        self.refused_checks[reason as usize].increment(1);
    }

    /// Limits that came with a request and had no unit of time.
    pub fn without_unit(&self, limits: u64) {
        self.without_unit.increment(limits);
    }

    pub fn store_failed(&self, error: &StoreError) {
        let kind = match error {
            StoreError::Unreachable(_) => 0,
            StoreError::Timeout(_) => 1,
            StoreError::Refused(_) => 2,
            StoreError::Overloaded => 3,
            StoreError::Defect => 4,
        };
        self.store_errors[kind].add(1);
    }

    /// Questions to the store that failed, since the start.
    pub fn count_store_errors(&self) -> u64 {
        self.store_errors.iter().map(Count::get).sum()
    }

    /// Rules come from a control plane, and it is connected or isn't.
    pub fn control_plane(&self, connected: bool) {
        self.recorder.show_level(Metric::ControlPlaneConnected, &[], f64::from(u8::from(connected)));
    }

    /// Shows what becomes of spans.
    pub fn trace(&self, tracer: Arc<Tracer>) {
        self.tracer.get_or_init(|| tracer);
    }

    /// Shows what is known of run-time overrides.
    pub fn show_overrides(&self, overrides: &Arc<Overrides>) {
        // It is called once.
        let _ = self.overrides.set(Arc::clone(overrides));
    }

    /// Shows how many bytes the lists take of who is refused most.
    pub fn show_top(&self, bytes: impl Fn() -> u64 + Send + Sync + 'static) {
        // It is called once.
        let _ = self.top_bytes.set(Box::new(bytes));
    }

    /// Shows the numbers of one more way to the store.
    pub fn watch(&self, store: Store) {
        self.stores.lock().push(store);
    }

    /// Whether every way to the store that is watched can be used now.
    pub fn stores_answer(&self) -> bool {
        self.stores.lock().iter().all(Store::answers)
    }

    pub fn connected(&self) {
        self.connections.increment(1.0);
    }

    pub fn disconnected(&self) {
        self.connections.decrement(1.0);
    }

    /// Rules came into force: all that are on disk, or some domains with older ones.
    pub fn reloaded(&self, version: u64, domains: usize, complete: bool, since_epoch: Duration) {
        self.rules_version.set(version as f64);
        self.domains.set(domains as f64);
        self.last_reload_successful.set(if complete { 1.0 } else { 0.0 });
        if complete {
            self.reloads_ok.add(1);
            self.last_reload_success.set(since_epoch.as_secs_f64());
        } else {
            self.reloads_failed.add(1);
        }
    }
}

/// Numbers of requests since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestTotals {
    /// All, also those that were answered with an error.
    pub answered: u64,
    pub refused: u64,
    /// Decided by a failure policy.
    pub degraded: u64,
}

/// What a check brought that needs a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusedCheck {
    /// A limit over a longer window than TOLLGATE_CHECK_WINDOW_MAX.
    Window,
    /// A limit of a bucket that rules may share.
    Bucket,
    /// More new counters than TOLLGATE_CHECK_NEW_COUNTERS.
    NewCounters,
    /// Negative hits.
    Return,
}

impl RefusedCheck {
    const ALL: [RefusedCheck; 4] =
        [RefusedCheck::Window, RefusedCheck::Bucket, RefusedCheck::NewCounters, RefusedCheck::Return];

    const fn name(self) -> &'static str {
        match self {
            RefusedCheck::Window => "window",
            RefusedCheck::Bucket => "bucket",
            RefusedCheck::NewCounters => "new_counters",
            RefusedCheck::Return => "return",
        }
    }
}

/// In the order of [`Metrics::store_failed`].
const STORE_ERRORS: [&str; 5] = ["unreachable", "timeout", "refused", "overloaded", "defect"];
