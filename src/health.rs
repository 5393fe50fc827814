//! Whether this process is fit to be asked: what the probes and gRPC health say. Truthful for both names that
//! clients check, and never unfit because of Redis: an outage there must not restart or empty the fleet.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use tonic_health::{ServingStatus, server::HealthReporter};

use crate::store::Store;

/// The names that gRPC health answers for: the process, and the reference's own.
const SERVICES: [&str; 2] = ["", "ratelimit"];

pub struct Health {
    draining: AtomicBool,
    reporter: HealthReporter,
    store: Store,
}

/// What `/readyz` says.
#[derive(Debug, serde::Serialize)]
pub struct Readiness {
    pub ready: bool,
    pub draining: bool,
    pub store: &'static str,
    /// `false`: decisions are made by `on_store_failure`.
    pub store_answers: bool,
}

impl Health {
    pub async fn new(reporter: HealthReporter, store: Store) -> Health {
        for service in SERVICES {
            reporter.set_service_status(service, ServingStatus::Serving).await;
        }
        Health { draining: AtomicBool::new(false), reporter, store }
    }

    /// Turns not ready, so that no new work is sent while the rest is finished.
    pub async fn drain(&self) {
        self.draining.store(true, Relaxed);
        for service in SERVICES {
            self.reporter.set_service_status(service, ServingStatus::NotServing).await;
        }
    }

    pub fn draining(&self) -> bool {
        self.draining.load(Relaxed)
    }

    pub fn readiness(&self) -> Readiness {
        let draining = self.draining();
        Readiness { ready: !draining, draining, store: self.store.name(), store_answers: self.store.answers() }
    }
}
