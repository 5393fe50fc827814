//! Whether this process should get requests: the answers of the probes and of gRPC health, for both names that clients
//! check. Redis makes it unhealthy only if that is configured: an outage there must not restart or empty the fleet.

use std::{
    convert::Infallible,
    future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use tokio::time;
use tonic_health::{ServingStatus, server::HealthReporter};
use tracing::{info, warn};

use crate::{
    clock,
    limiter::Snapshot,
    metrics::Metrics,
    run_time::overrides::Overrides,
    settings::HealthSettings,
    store::{Store, redis::Mismatch},
};

/// The names that gRPC health answers for: the process, and the reference's own.
const SERVICES: [&str; 2] = ["", "ratelimit"];

/// How soon gRPC health follows the conditions: sooner than any probe comes.
const CHECK_PERIOD: Duration = Duration::from_millis(100);

/// Longest time that a start waits for overrides to be read: Redis may be away, and rules without overrides are better
/// than no service.
const OVERRIDES_WAIT: Duration = Duration::from_secs(10);

pub struct Health {
    began: Instant,
    /// Whether overrides were read, or waited for long enough.
    has_overrides: AtomicBool,
    draining: AtomicBool,
    /// The status that gRPC health has now.
    reported_fit: AtomicBool,
    reporter: HealthReporter,
    store: Store,
    overrides: Arc<Overrides>,
    /// Has the state of every connection to the store: each core has its own.
    metrics: Arc<Metrics>,
    snapshot: Arc<ArcSwap<Snapshot>>,
    settings: HealthSettings,
}

/// The answer of `/readyz`.
#[derive(Debug, serde::Serialize)]
pub struct Readiness {
    pub ready: bool,
    pub draining: bool,
    pub store: &'static str,
    /// Whether the store answers; `false` means that at least one core decides by `on_store_failure`.
    pub store_answers: bool,
    /// Whether the overrides that were set at run time were read once, or waited for long enough.
    pub overrides_read: bool,
    /// Whether any domain has rules.
    pub rules_loaded: bool,
    /// A warning, which doesn't make it unready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl Health {
    pub async fn new(
        reporter: HealthReporter,
        (store, overrides): (Store, Arc<Overrides>),
        (snapshot, metrics): (Arc<ArcSwap<Snapshot>>, Arc<Metrics>),
        settings: HealthSettings,
    ) -> Health {
        let [has_overrides, draining, reported_fit] = [false; 3].map(AtomicBool::new);
        let began = clock::instant();
        #[rustfmt::skip]
        let health = Health {
            began, has_overrides, draining, reported_fit, reporter, store, overrides, metrics, snapshot, settings,
        };
        health.report(health.is_fit()).await;
        health
    }

    /// Turns not ready, so that no new work is sent while the rest is finished.
    pub async fn drain(&self) {
        self.draining.store(true, Relaxed);
        self.report(false).await;
    }

    /// Whether it isn't draining and has all that the settings require.
    pub fn is_fit(&self) -> bool {
        self.readiness().ready
    }

    pub fn readiness(&self) -> Readiness {
        let draining = self.draining.load(Relaxed);
        let store_answers = self.store.answers() && self.metrics.stores_answer();
        let rules_loaded = !self.snapshot.load().rules.domains().is_empty();
        let overrides_read = self.has_overrides();
        let ready = !draining
            && overrides_read
            && (store_answers || !self.settings.needs_store_connection)
            && (rules_loaded || !self.settings.needs_rules);
        let differs = || {
            self.store.mismatch().map(|Mismatch { ours, theirs }| {
                format!("another replica makes its Redis keys otherwise ({theirs}, here {ours}): they count apart")
            })
        };
        let note = self.store.refused_address().map(str::to_owned).or_else(differs);
        Readiness { ready, draining, store: self.store.name(), store_answers, overrides_read, rules_loaded, note }
    }

    /// Once true it stays so: new domains come with a reload, and no reload takes a replica out.
    fn has_overrides(&self) -> bool {
        let has = self.has_overrides.load(Relaxed)
            || self.overrides.are_read()
            || clock::instant().duration_since(self.began) >= OVERRIDES_WAIT;
        self.has_overrides.store(has, Relaxed);
        has
    }

    /// Keeps the status of gRPC health up to date. Never ends.
    pub async fn watch(&self) -> Infallible {
        while !self.is_settled() {
            time::sleep(CHECK_PERIOD).await;
            let fit = self.is_fit();
            if fit != self.reported_fit.load(Relaxed) {
                self.report(fit).await;
                let Readiness { store_answers, overrides_read, rules_loaded, .. } = self.readiness();
                match fit {
                    true => info!("healthy"),
                    false => warn!(store_answers, overrides_read, rules_loaded, "not healthy"),
                }
            }
        }
        future::pending().await
    }

    /// Whether nothing but [`Health::drain`] can change what gRPC health says: what it says is true, and what the settings
    /// ask for can't be lost any more.
    fn is_settled(&self) -> bool {
        let keeps_answering = matches!(self.store, Store::Memory(_)) || !self.settings.needs_store_connection;
        let keeps_fit = keeps_answering && !self.settings.needs_rules && self.has_overrides();
        keeps_fit && self.is_fit() == self.reported_fit.load(Relaxed)
    }

    async fn report(&self, fit: bool) {
        self.reported_fit.store(fit, Relaxed);
        let status = if fit { ServingStatus::Serving } else { ServingStatus::NotServing };
        for service in SERVICES {
            self.reporter.set_service_status(service, status).await;
        }
    }
}
