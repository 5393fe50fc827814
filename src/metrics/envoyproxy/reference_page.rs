//! The reference's metrics as Prometheus gets them there: names and labels of its default mapping (reference §12.3).
//! A key's third and further levels are dropped, and what then has the same labels is added up. So its series of hits are
//! made when a page is: they are no counters of their own, but sums over the counters of rules, as StatsD has them apart.

use std::{collections::BTreeMap, sync::atomic::Ordering::Relaxed};

use super::hit_counts::{COUNTERS, MAPPED};
use crate::{
    metrics::{
        Meters, Metrics,
        latency::Recorded,
        page::{Page, Times, Value},
        stores::{self, Number},
        table::{Kind, Metric},
    },
    rules::Rules,
};

/// The buckets that Prometheus' client library has by default; each is one of [`crate::metrics::latency::BOUNDS_US`], and a
/// thousandth of it too.
const RESPONSE_TIMES_US: [u64; 11] =
    [5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000, 10_000_000];

/// The metrics of [`COUNTERS`]. Those that the reference's mapping doesn't know have a name for each key.
const METRICS: [Metric; COUNTERS.len()] = [
    Metric::NearLimit,
    Metric::OverLimit,
    Metric::ShadowMode,
    Metric::TotalHits,
    Metric::WithinLimit,
    Metric::OverLimitWithLocalCache,
    Metric::TotalNegativeHits,
];

impl Metrics {
    /// Brings to the recorder and to `page` what is known by the reference's names.
    pub(in crate::metrics) fn show_reference(&self, page: &mut Page, rules: &Rules, meters: &Meters) {
        let (recorder, reference) = (&self.recorder, &self.reference);
        put_hits(page, self, rules, meters);
        reference.each_unknown_domain(|domain, count| {
            let name = metric_name(&format!("ratelimit_service_rate_limit_{domain}_domain_not_found"));
            page.add_named(Metric::DomainNotFound, name, count);
        });
        let errors = [("redis_error", self.failed.get()), ("service_error", self.invalid.get())];
        for (kind, count) in errors.iter().filter(|(_, count)| *count > 0) {
            recorder.show_count(Metric::ShouldRateLimitError, &[*kind], *count);
        }
        recorder.show_count(Metric::ConfigLoadSuccess, &[], self.reloads_ok.get());
        recorder.show_count(Metric::ConfigLoadError, &[], self.reloads_failed.get());
        recorder.show_count(Metric::GlobalShadowMode, &[], reference.shadowed.load(Relaxed));
        for Number { metric, value, .. } in stores::reference(&self.stores.lock(), reference.local_cache()) {
            match metric.row().kind {
                Kind::Counter => recorder.show_count(metric, &[], value),
                Kind::Gauge | Kind::Histogram => recorder.show_level(metric, &[], value as f64),
            }
        }
        let methods = [("ShouldRateLimit", self.decision.recorded()), ("Check", reference.checks.recorded())];
        // A method that nobody called has no series.
        let called = |(method, recorded): &&(&str, Recorded)| *method == "ShouldRateLimit" || recorded.total() > 0;
        for (method, recorded) in methods.iter().filter(called) {
            recorder.show_count(Metric::TotalRequests, &[*method], recorded.total());
            let times = response_times(recorded, reference.settings.response_time_in_ms);
            page.put(Metric::ResponseTime, [*method], Value::Times(Box::new(times)));
        }
    }
}

fn put_hits(page: &mut Page, metrics: &Metrics, rules: &Rules, meters: &Meters) {
    let mut rows: BTreeMap<[String; 3], [u64; COUNTERS.len()]> = BTreeMap::new();
    metrics.reference.each_hits(rules, meters, |key, counts| {
        let counted = COUNTERS.into_iter().zip(METRICS).zip(counts).skip(MAPPED);
        for ((counter, metric), count) in counted.filter(|(_, count)| *count > 0) {
            let key = key.parts().collect::<Vec<_>>().join("_");
            page.add_named(metric, metric_name(&format!("ratelimit_service_rate_limit_{key}_{counter}")), count);
        }
        let mut parts = key.parts().map(str::to_owned);
        let labels = std::array::from_fn(|_| parts.next().unwrap_or_default());
        let sums = rows.entry(labels).or_default();
        sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
    });
    for ([domain, key1, key2], counts) in &rows {
        let levels = if key2.is_empty() { 2 } else { 3 };
        for (metric, count) in METRICS.into_iter().zip(counts).take(MAPPED).filter(|(_, count)| **count > 0) {
            let labels = [&**domain, key1, key2].into_iter().take(levels);
            page.put(metric, labels, Value::Count(*count));
        }
    }
}

/// In milliseconds the buckets' bounds keep their numbers, as there: the largest is 10 ms.
fn response_times(recorded: &Recorded, is_in_ms: bool) -> Times {
    let (ns_per_unit, shorter) = if is_in_ms { (1e6, 1_000) } else { (1e9, 1) };
    let bounds = RESPONSE_TIMES_US.map(|bound| (bound as f64 / 1e6, bound / shorter));
    Times::with_bounds(recorded, bounds, ns_per_unit)
}

/// As the reference makes a name of what its mapping doesn't know: every other character becomes `_`.
fn metric_name(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' }).collect()
}
