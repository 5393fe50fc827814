//! The reference's metrics as Prometheus gets them there: names and labels of its default mapping (reference §12.3).
//! A key's third and further levels are dropped, and what then has the same labels is added up.

use std::{collections::BTreeMap, fmt::Write, sync::atomic::Ordering::Relaxed};

use super::{
    Metrics,
    latency::{BOUNDS_US, Recorded},
    render::{head, row},
    tally::COUNTERS,
};
use crate::limiter::Snapshot;

/// The buckets that Prometheus' client library has by default; each is one of [`BOUNDS_US`].
const RESPONSE_TIMES_US: [u64; 11] =
    [5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000, 10_000_000];

const METHOD: &str = "ShouldRateLimit";

impl Metrics {
    pub(super) fn render_reference(&self, out: &mut String, snapshot: &Snapshot) {
        let reference = &self.reference;
        if !reference.settings.on_page {
            return;
        }
        self.hits(out, snapshot);
        let mut unknown = BTreeMap::new();
        reference.each_unknown_domain(|domain, count| *unknown.entry(metric_name(&domain)).or_insert(0) += count);
        for (domain, count) in unknown {
            let name = format!("ratelimit_service_rate_limit_{domain}_domain_not_found");
            one(out, &name, "Descriptors of a domain that no rule file names.", count);
        }
        let name = "ratelimit_service_should_rate_limit_error";
        let errors = [("redis_error", &reference.redis_errors), ("service_error", &reference.service_errors)];
        head(out, name, "counter", "Requests answered with an error: the store's, or one of the request.");
        for (kind, count) in errors.map(|(kind, count)| (kind, count.load(Relaxed))) {
            if count > 0 {
                row(out, name, &[("err_type", kind)], count);
            }
        }
        let ones = [
            ("ratelimit_service_config_load_success", "Times that every rule file was taken.", &reference.loads),
            ("ratelimit_service_config_load_error", "Times that some rule file was not.", &reference.load_errors),
            ("ratelimit_service_global_shadow_mode", "Requests that SHADOW_MODE let pass.", &reference.shadowed),
        ];
        for (name, help, count) in ones {
            one(out, name, help, count.load(Relaxed));
        }
        let recorded = self.decision.recorded();
        let name = "ratelimit_service_total_requests";
        head(out, name, "counter", "Requests for a decision.");
        row(out, name, &[("grpc_method", METHOD)], recorded.buckets.iter().sum());
        response_times(out, &recorded, if reference.settings.response_time_in_ms { 1e3 } else { 1e6 });
    }

    fn hits(&self, out: &mut String, snapshot: &Snapshot) {
        let mut rows: BTreeMap<[String; 3], [u64; COUNTERS.len()]> = BTreeMap::new();
        self.reference.each_hits(snapshot, |key, counts| {
            let mut parts = key.parts().map(str::to_owned);
            let labels = std::array::from_fn(|_| parts.next().unwrap_or_default());
            let sums = rows.entry(labels).or_default();
            sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
        });
        for (index, counter) in COUNTERS.into_iter().enumerate() {
            let name = format!("ratelimit_service_rate_limit_{counter}");
            head(out, &name, "counter", "Hits of each rule, as envoyproxy/ratelimit counts them.");
            for ([domain, key1, key2], counts) in rows.iter().filter(|(_, counts)| counts[index] > 0) {
                let labels = [("domain", &**domain), ("key1", key1), ("key2", key2)];
                let levels = if key2.is_empty() { 2 } else { 3 };
                row(out, &name, &labels[..levels], counts[index]);
            }
        }
    }
}

/// `per_unit` is how many microseconds the unit has.
fn response_times(out: &mut String, recorded: &Recorded, per_unit: f64) {
    let name = "ratelimit_service_response_time_seconds";
    head(out, name, "histogram", "From a request's arrival to its answer.");
    let method = format!("grpc_method=\"{METHOD}\"");
    for bound in RESPONSE_TIMES_US {
        let within: u64 = recorded.buckets.iter().zip(BOUNDS_US).filter(|(_, to)| *to <= bound).map(|(n, _)| n).sum();
        let _ = writeln!(out, "{name}_bucket{{{method},le=\"{}\"}} {within}", bound as f64 / per_unit);
    }
    let total: u64 = recorded.buckets.iter().sum();
    let _ = writeln!(out, "{name}_bucket{{{method},le=\"+Inf\"}} {total}");
    let sum = recorded.sum_ns as f64 / 1e3 / per_unit;
    let _ = writeln!(out, "{name}_sum{{{method}}} {sum}\n{name}_count{{{method}}} {total}");
}

fn one(out: &mut String, name: &str, help: &str, count: u64) {
    head(out, name, "counter", help);
    let _ = writeln!(out, "{name} {count}");
}

/// As the reference makes a name of what its mapping doesn't know: every other character becomes `_`.
fn metric_name(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' }).collect()
}
