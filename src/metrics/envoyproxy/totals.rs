//! The reference's metrics as StatsD gets them there: names with dots (reference §12.2) and what each counts so far.

use std::{
    collections::{BTreeMap, HashMap},
    sync::atomic::Ordering::Relaxed,
};

use super::tally::COUNTERS;
use crate::limiter::Snapshot;
use crate::metrics::{
    Metrics,
    latency::Recorded,
    stores::{self, Number},
};

/// What was counted since the start, by name. A sink sends what was added.
#[derive(Clone, Debug, Default)]
pub(super) struct Totals {
    pub(super) counters: HashMap<String, u64>,
    /// Sent as they are, each time.
    pub(super) gauges: BTreeMap<String, u64>,
    pub(super) response_times: Recorded,
    /// Of gRPC health.
    pub(super) checks: Recorded,
}

pub(super) const RESPONSE_TIME: &str = "ratelimit_server.ShouldRateLimit.response_time";
pub(super) const CHECK_TIME: &str = "ratelimit_server.Check.response_time";

const RULES: &str = "ratelimit.service.rate_limit";

impl Metrics {
    pub(super) fn totals(&self, snapshot: &Snapshot) -> Totals {
        let (reference, response_times) = (&self.reference, self.decision.recorded());
        let checks = reference.checks.recorded();
        let mut counters = HashMap::new();
        let mut add = |name: String, count: u64| {
            if count > 0 {
                *counters.entry(name).or_insert(0) += count;
            }
        };
        reference.each_hits(snapshot, |key, counts| {
            let parts: Vec<&str> = key.parts().collect();
            for (counter, count) in COUNTERS.into_iter().zip(counts) {
                add(format!("{RULES}.{}.{counter}", parts.join(".")), count);
            }
        });
        reference.each_unknown_domain(|domain, count| add(format!("{RULES}.{domain}.domain_not_found"), count));
        let ones = [
            ("ratelimit.service.call.should_rate_limit.redis_error", &reference.redis_errors),
            ("ratelimit.service.call.should_rate_limit.service_error", &reference.service_errors),
            ("ratelimit.service.config_load_success", &reference.loads),
            ("ratelimit.service.config_load_error", &reference.load_errors),
            ("ratelimit.service.global_shadow_mode", &reference.shadowed),
        ];
        for (name, count) in ones {
            add(name.to_owned(), count.load(Relaxed));
        }
        add("ratelimit_server.ShouldRateLimit.total_requests".to_owned(), response_times.buckets.iter().sum());
        add("ratelimit_server.Check.total_requests".to_owned(), checks.buckets.iter().sum());
        let mut gauges = BTreeMap::new();
        for Number { name, is_gauge, value } in stores::reference(&self.stores.lock(), self.reference.local_cache()) {
            match is_gauge {
                true => drop(gauges.insert(name, value)),
                false => add(name, value),
            }
        }
        Totals { counters, gauges, response_times, checks }
    }
}
