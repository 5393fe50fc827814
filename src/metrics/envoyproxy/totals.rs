//! The reference's metrics as StatsD gets them there: names with dots (reference §12.2) and what each counts so far.

use std::{
    collections::{BTreeMap, HashMap},
    sync::atomic::Ordering::Relaxed,
};

use super::hit_counts::COUNTERS;
use crate::{
    metrics::{
        Meters, Metrics,
        latency::Recorded,
        stores::{self, Number},
        table::Kind,
    },
    rules::Rules,
};

/// What was counted since the start, by name. A sink sends what was added.
#[derive(Clone, Debug, Default)]
pub struct StatsdTotals {
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
    /// By the reference's names, with what the rules in force have counted.
    pub fn totals(&self, rules: &Rules, meters: &Meters) -> StatsdTotals {
        let (reference, response_times) = (&self.reference, self.decision.recorded());
        let checks = reference.checks.recorded();
        let mut counters = HashMap::new();
        let mut add = |name: String, count: u64| {
            if count > 0 {
                *counters.entry(name).or_insert(0) += count;
            }
        };
        reference.each_hits(rules, meters, |key, counts| {
            let parts: Vec<&str> = key.parts().collect();
            for (counter, count) in COUNTERS.into_iter().zip(counts) {
                add(format!("{RULES}.{}.{counter}", parts.join(".")), count);
            }
        });
        reference.each_unknown_domain(|domain, count| add(format!("{RULES}.{domain}.domain_not_found"), count));
        let ones = [
            ("ratelimit.service.call.should_rate_limit.redis_error", self.failed.get()),
            ("ratelimit.service.call.should_rate_limit.service_error", self.invalid.get()),
            ("ratelimit.service.config_load_success", self.reloads_ok.get()),
            ("ratelimit.service.config_load_error", self.reloads_failed.get()),
            ("ratelimit.service.global_shadow_mode", reference.shadowed.load(Relaxed)),
        ];
        for (name, count) in ones {
            add(name.to_owned(), count);
        }
        add("ratelimit_server.ShouldRateLimit.total_requests".to_owned(), response_times.total());
        add("ratelimit_server.Check.total_requests".to_owned(), checks.total());
        let mut gauges = BTreeMap::new();
        for Number { metric, name, value } in stores::reference(&self.stores.lock(), self.reference.local_cache()) {
            match metric.row().kind {
                Kind::Counter => add(name.to_owned(), value),
                Kind::Gauge | Kind::Histogram => drop(gauges.insert(name.to_owned(), value)),
            }
        }
        StatsdTotals { counters, gauges, response_times, checks }
    }
}
