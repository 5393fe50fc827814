//! The reference's metrics as Prometheus gets them there: names and labels of its default mapping (reference §12.3).
//! A key's third and further levels are dropped, and what then has the same labels is added up.

use std::{collections::BTreeMap, fmt::Write, sync::atomic::Ordering::Relaxed};

use super::tally::{COUNTERS, MAPPED};
use crate::limiter::Snapshot;
use crate::metrics::{
    Metrics,
    latency::{BOUNDS_US, Recorded},
    render::{head, row},
    stores::{self, Number},
};

/// The buckets that Prometheus' client library has by default; each is one of [`BOUNDS_US`], and a
/// thousandth of it too.
const RESPONSE_TIMES_US: [u64; 11] =
    [5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000, 10_000_000];

/// What the counters are that its mapping doesn't know.
const UNMAPPED_HELP: [&str; COUNTERS.len() - MAPPED] =
    ["Hits of a rule that were denied from memory.", "Hits of a rule that were to be given back."];

impl Metrics {
    pub(crate) fn render_reference(&self, out: &mut String, snapshot: &Snapshot) {
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
        for Number { name, is_gauge, value } in stores::reference(&self.stores.lock(), self.reference.local_cache()) {
            let name = metric_name(&name);
            let kind = if is_gauge { "gauge" } else { "counter" };
            head(out, &name, kind, "As envoyproxy/ratelimit counts its pools and its local cache.");
            row(out, &name, &[], value);
        }
        self.calls(out);
    }

    fn calls(&self, out: &mut String) {
        let methods = [("ShouldRateLimit", self.decision.recorded()), ("Check", self.reference.checks.recorded())];
        // A method that nobody called has no series.
        let called = |(method, recorded): &&(&str, Recorded)| {
            *method == "ShouldRateLimit" || recorded.buckets.iter().any(|count| *count > 0)
        };
        let name = "ratelimit_service_total_requests";
        head(out, name, "counter", "Calls of the service, and of gRPC health.");
        for (method, recorded) in methods.iter().filter(called) {
            row(out, name, &[("grpc_method", method)], recorded.buckets.iter().sum());
        }
        let name = "ratelimit_service_response_time_seconds";
        head(out, name, "histogram", "From a call's arrival to its answer.");
        for (method, recorded) in methods.iter().filter(called) {
            response_times(out, name, method, recorded, self.reference.settings.response_time_in_ms);
        }
    }

    fn hits(&self, out: &mut String, snapshot: &Snapshot) {
        let mut rows: BTreeMap<[String; 3], [u64; COUNTERS.len()]> = BTreeMap::new();
        let mut unmapped: BTreeMap<String, (&str, u64)> = BTreeMap::new();
        self.reference.each_hits(snapshot, |key, counts| {
            let counted = COUNTERS.into_iter().zip(counts).skip(MAPPED).zip(UNMAPPED_HELP);
            for ((counter, count), help) in counted.filter(|((_, count), _)| *count > 0) {
                let key = key.parts().collect::<Vec<_>>().join("_");
                let name = metric_name(&format!("ratelimit_service_rate_limit_{key}_{counter}"));
                unmapped.entry(name).or_insert((help, 0)).1 += count;
            }
            let mut parts = key.parts().map(str::to_owned);
            let labels = std::array::from_fn(|_| parts.next().unwrap_or_default());
            let sums = rows.entry(labels).or_default();
            sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
        });
        for (index, counter) in COUNTERS.into_iter().enumerate().take(MAPPED) {
            let name = format!("ratelimit_service_rate_limit_{counter}");
            head(out, &name, "counter", "Hits of each rule, as envoyproxy/ratelimit counts them.");
            for ([domain, key1, key2], counts) in rows.iter().filter(|(_, counts)| counts[index] > 0) {
                let labels = [("domain", &**domain), ("key1", key1), ("key2", key2)];
                let levels = if key2.is_empty() { 2 } else { 3 };
                row(out, &name, &labels[..levels], counts[index]);
            }
        }
        for (name, (help, count)) in unmapped {
            one(out, &name, help, count);
        }
    }
}

/// In milliseconds the buckets' bounds keep their numbers, as there: the largest is 10 ms.
fn response_times(out: &mut String, name: &str, method: &str, recorded: &Recorded, is_in_ms: bool) {
    let method = format!("grpc_method=\"{method}\"");
    let (per_unit, shorter) = if is_in_ms { (1e3, 1_000) } else { (1e6, 1) };
    for bound in RESPONSE_TIMES_US {
        let reached = |to: &u64| *to <= bound / shorter;
        let within: u64 = recorded.buckets.iter().zip(BOUNDS_US).filter(|(_, to)| reached(to)).map(|(n, _)| n).sum();
        let _ = writeln!(out, "{name}_bucket{{{method},le=\"{}\"}} {within}", bound as f64 / 1e6);
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
