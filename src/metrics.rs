//! Every metric, its name and its meaning, in one place. Process-wide ones go through the `metrics` crate; counters of
//! limits and latencies are plain atomics beside the rules, because they are touched by every request, number as many
//! as the rules, and must leave with them. Series are bounded by the rules; where clients' words make them, by a number.

mod clients;
mod envoyproxy;
mod handshakes;
mod latency;
mod meters;
mod overrides;
mod refusals;
mod render;
mod stores;
#[cfg(test)]
mod tests;
mod unmatched;

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use metrics::{Counter, Gauge, Key, KeyName, Label, Level, Metadata, Recorder, SharedString};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

use parking_lot::Mutex;

pub use crate::metrics::envoyproxy::reference::{Reference, ReferenceSettings};
pub use crate::metrics::envoyproxy::sink::{Protocol, Sink, flush};
pub use crate::metrics::envoyproxy::statsd::{Dialect, Rewriting};
pub use crate::metrics::envoyproxy::tally::Tally;
pub use clients::{Clients, Surface};
pub use handshakes::{Handshake, Handshakes};
pub use latency::Latency;
pub(crate) use meters::requested_id;
pub use meters::{Meters, Outcome};
pub use refusals::{Refusal, Refusals};
pub use unmatched::Unmatched;

use crate::{
    limit::Code,
    run_time::overrides::Overrides,
    store::{Store, StoreError},
    trace::Tracer,
};

/// The handles that requests and tasks count with. No global: each server of a process has its own.
pub struct Metrics {
    handle: PrometheusHandle,
    ok: Counter,
    over_limit: Counter,
    invalid: Counter,
    failed: Counter,
    unknown_domain: Counter,
    store_errors: [Counter; 5],
    reloads_ok: Counter,
    reloads_failed: Counter,
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
    pub handshakes: Handshakes,
    pub refusals: Refusals,
    /// From a request's arrival to its answer.
    pub decision: Latency,
    /// From a question to the store to its answer, queueing included; only where the store is remote.
    pub store: Latency,
    pub unmatched: Unmatched,
    /// As envoyproxy/ratelimit counts.
    pub reference: Reference,
    /// Whether the control plane is connected; unset where rules come from files.
    control_plane: OnceLock<AtomicBool>,
    /// Unset where nothing is traced.
    tracer: OnceLock<Arc<Tracer>>,
    /// Asked for their own numbers at each scrape.
    stores: Mutex<Vec<Store>>,
    overrides: OnceLock<Arc<Overrides>>,
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics::new(ReferenceSettings::default())
    }
}

impl Metrics {
    pub fn new(reference: ReferenceSettings) -> Metrics {
        let recorder = PrometheusBuilder::new().build_recorder();
        let table = Table(&recorder);
        let requests = "tollgate_requests_total";
        table.describe(requests, "Requests by their overall answer.");
        let errors = "tollgate_store_errors_total";
        table.describe(errors, "Requests that the store could not answer, by kind of failure.");
        let reloads = "tollgate_rules_reloads_total";
        table.describe(reloads, "Times that changed rules were read, by whether every domain took them.");
        let refused = "tollgate_refused_checks_total";
        table.describe(refused, "Checks refused undecided, because what they bring needs a token, by what that is.");
        let build = table.gauge(
            "tollgate_build_info",
            "Always 1; the version is the label.",
            &[("version", env!("CARGO_PKG_VERSION"))],
        );
        build.set(1.0);
        Metrics {
            ok: table.counter(requests, &[("code", "ok")]),
            over_limit: table.counter(requests, &[("code", "over_limit")]),
            invalid: table.counter(requests, &[("code", "invalid")]),
            failed: table.counter(requests, &[("code", "error")]),
            unknown_domain: table
                .described("tollgate_unknown_domain_requests_total", "Requests for a domain that no rule file names."),
            store_errors: STORE_ERRORS.map(|kind| table.counter(errors, &[("kind", kind)])),
            reloads_ok: table.counter(reloads, &[("result", "success")]),
            reloads_failed: table.counter(reloads, &[("result", "failure")]),
            last_reload_successful: table.gauge(
                "tollgate_rules_last_reload_successful",
                "1 if the rules on disk are in force, 0 if a domain keeps older ones.",
                &[],
            ),
            last_reload_success: table.gauge(
                "tollgate_rules_last_reload_success_timestamp_seconds",
                "When the rules on disk last came into force.",
                &[],
            ),
            rules_version: table.gauge("tollgate_rules_version", "Counts the swaps of rules since start.", &[]),
            domains: table.gauge(
                "tollgate_rules_domains",
                "Domains that have rules in force; with 0 nothing is limited.",
                &[],
            ),
            connections: table.gauge("tollgate_grpc_connections", "Open gRPC connections.", &[]),
            replicas: table.gauge(
                "tollgate_replicas",
                "Replicas that were last seen in Redis, this one included.",
                &[],
            ),
            clients: Clients::new(&table),
            panics: table.described("tollgate_panics_total", "Panics on a request's path; each is a defect to report."),
            shed: table.described(
                "tollgate_shed_requests_total",
                "Requests beyond the bound on those under way: answered by policy, or refused before they were read.",
            ),
            overdue_admissions: table.described(
                "tollgate_overdue_admissions_total",
                "Requests that a failure policy admitted because a connected Redis did not answer in time.",
            ),
            log_fallbacks: table.described(
                "tollgate_sliding_log_fallbacks_total",
                "Limits of requests that were too large for TOLLGATE_ALGORITHM=sliding_log: decided as sliding_window.",
            ),
            refused_checks: RefusedCheck::ALL.map(|it| table.counter(refused, &[("reason", it.name())])),
            without_unit: table.described(
                "tollgate_limits_without_unit_total",
                "Limits of requests whose unit is none (UNKNOWN): the rule decided.",
            ),
            handshakes: Handshakes::new(&table),
            refusals: Refusals::new(&table),
            decision: Latency::new(),
            store: Latency::new(),
            unmatched: Unmatched::default(),
            reference: Reference::new(reference),
            control_plane: OnceLock::new(),
            tracer: OnceLock::new(),
            stores: Mutex::default(),
            overrides: OnceLock::new(),
            handle: recorder.handle(),
        }
    }

    pub fn decided(&self, overall: Code) {
        match overall {
            Code::Ok => self.ok.increment(1),
            Code::OverLimit => self.over_limit.increment(1),
        }
    }

    /// A request that was refused for what it says.
    pub fn invalid(&self) {
        self.invalid.increment(1);
        self.reference.service_errors.fetch_add(1, Relaxed);
    }

    /// A request that was answered with an error.
    pub fn failed(&self) {
        self.failed.increment(1);
        self.reference.redis_errors.fetch_add(1, Relaxed);
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
        self.store_errors[kind].increment(1);
    }

    /// Rules come from a control plane, and it is connected or isn't.
    pub fn control_plane(&self, connected: bool) {
        self.control_plane.get_or_init(AtomicBool::default).store(connected, Relaxed);
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
            self.reloads_ok.increment(1);
            self.reference.loads.fetch_add(1, Relaxed);
            self.last_reload_success.set(since_epoch.as_secs_f64());
        } else {
            self.reloads_failed.increment(1);
            self.reference.load_errors.fetch_add(1, Relaxed);
        }
    }
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

/// Registers handles with one recorder.
struct Table<'r>(&'r PrometheusRecorder);

const METADATA: Metadata<'static> = Metadata::new(module_path!(), Level::INFO, None);

impl Table<'_> {
    fn describe(&self, name: &'static str, help: &'static str) {
        self.0.describe_counter(KeyName::from_const_str(name), None, SharedString::const_str(help));
    }

    fn counter(&self, name: &'static str, labels: &[(&'static str, &'static str)]) -> Counter {
        self.0.register_counter(&key(name, labels), &METADATA)
    }

    fn described(&self, name: &'static str, help: &'static str) -> Counter {
        self.describe(name, help);
        self.counter(name, &[])
    }

    fn gauge(&self, name: &'static str, help: &'static str, labels: &[(&'static str, &'static str)]) -> Gauge {
        self.0.describe_gauge(KeyName::from_const_str(name), None, SharedString::const_str(help));
        self.0.register_gauge(&key(name, labels), &METADATA)
    }
}

fn key(name: &'static str, labels: &[(&'static str, &'static str)]) -> Key {
    let labels: Vec<Label> = labels.iter().map(|(name, value)| Label::from_static_parts(name, value)).collect();
    Key::from_parts(name, labels)
}
