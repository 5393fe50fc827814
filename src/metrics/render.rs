//! The text that Prometheus scrapes: what the recorder holds, then what stands beside the rules.

use std::{fmt::Write, sync::atomic::Ordering::Relaxed};

use metrics_exporter_prometheus::formatting::{sanitize_label_value, write_help_line, write_type_line};

use super::{
    Metrics,
    latency::{BOUNDS_US, Latency},
    meters::Outcome,
    stores,
};
use crate::{clock, limit::FailurePolicy, limiter::Snapshot};

impl Metrics {
    /// Everything, in the exposition format.
    pub fn render(&self, snapshot: &Snapshot) -> String {
        let mut out = self.handle.render();
        latency(
            &mut out,
            "tollgate_decision_duration_seconds",
            "From a request's arrival to its answer.",
            &self.decision,
        );
        latency(
            &mut out,
            "tollgate_store_duration_seconds",
            "From a question to a remote store to its answer.",
            &self.store,
        );
        decisions(&mut out, snapshot);
        degraded(&mut out, snapshot);
        limits(&mut out, snapshot);
        overrides(&mut out, snapshot);
        head(&mut out, "tollgate_rules_info", "gauge", "Always 1; equal hashes mean equal rules.");
        row(&mut out, "tollgate_rules_info", &[("hash", snapshot.rules.hash())], 1);
        if let Some(connected) = self.control_plane.get() {
            let name = "tollgate_control_plane_connected";
            head(&mut out, name, "gauge", "1 if there is a connection to the control plane.");
            row(&mut out, name, &[], u64::from(connected.load(Relaxed)));
        }
        if let Some(tracer) = self.tracer.get() {
            let counts = tracer.counts();
            for (name, help, count) in [
                ("tollgate_trace_spans_sent_total", "Spans that the collector took.", &counts.sent),
                (
                    "tollgate_trace_spans_dropped_total",
                    "Spans that it refused, or had no room to wait.",
                    &counts.dropped,
                ),
            ] {
                head(&mut out, name, "counter", help);
                row(&mut out, name, &[], count.load(Relaxed));
            }
        }
        stores::write(&mut out, &self.stores.lock());
        if let Some(known) = self.overrides.get() {
            super::overrides::write(&mut out, known, clock::now());
        }
        let unmatched = "tollgate_unmatched_descriptors_total";
        head(&mut out, unmatched, "counter", "Descriptors of known domains that no rule matched, by their keys.");
        self.unmatched
            .each(|domain, keys, count| row(&mut out, unmatched, &[("domain", domain), ("keys", keys)], count));
        let capped = "tollgate_metric_series_capped_total";
        head(
            &mut out,
            capped,
            "counter",
            "What was counted as `other`, because clients' words may not make more series.",
        );
        let _ = writeln!(out, "{capped} {}", self.unmatched.others() + self.reference.others());
        self.render_reference(&mut out, snapshot);
        out
    }
}

/// Only outcomes that occurred: three series for each of 100,000 rules would be a slow scrape of zeroes.
fn decisions(out: &mut String, snapshot: &Snapshot) {
    let name = "tollgate_decisions_total";
    head(out, name, "counter", "Decisions of each limit, by outcome; shadow means refused without a say.");
    snapshot.meters.each(&snapshot.rules, |domain, id, meter| {
        for outcome in Outcome::ALL {
            match meter.get(outcome) {
                0 => {}
                count => row(out, name, &[("domain", domain), ("limit", id), ("result", outcome.name())], count),
            }
        }
    });
}

/// Each request once, under the limit whose policy decided it.
fn degraded(out: &mut String, snapshot: &Snapshot) {
    let name = "tollgate_degraded_decisions_total";
    head(out, name, "counter", "Requests decided by a failure policy in the store's place, by policy and limit.");
    snapshot.meters.each(&snapshot.rules, |domain, id, meter| {
        for policy in FailurePolicy::ALL {
            match meter.degraded(policy) {
                0 => {}
                count => row(out, name, &[("policy", policy.name()), ("domain", domain), ("limit", id)], count),
            }
        }
    });
}

fn limits(out: &mut String, snapshot: &Snapshot) {
    let name = "tollgate_limit_requests";
    head(out, name, "gauge", "The number of each limit: hits per its window.");
    for (_, _, limit) in snapshot.rules.limits() {
        row(out, name, &[("limit", &limit.id)], u64::from(limit.limit.requests));
    }
}

fn overrides(out: &mut String, snapshot: &Snapshot) {
    let now = clock::now();
    let rows = "tollgate_override_file_rows";
    head(out, rows, "gauge", "Overrides in the rule files of a domain and in the files that they name.");
    for domain in snapshot.rules.domains() {
        row(out, rows, &[("domain", domain.name())], domain.overrides().len() as u64);
    }
    let expired = "tollgate_override_file_rows_expired";
    head(out, expired, "gauge", "Those of them that have expired, and have no effect.");
    for domain in snapshot.rules.domains() {
        row(out, expired, &[("domain", domain.name())], domain.overrides().expired(now) as u64);
    }
}

fn latency(out: &mut String, name: &str, help: &str, latency: &Latency) {
    let recorded = latency.recorded();
    head(out, name, "histogram", help);
    let mut cumulative = 0;
    for (count, bound_us) in recorded.buckets.iter().zip(BOUNDS_US) {
        cumulative += count;
        let _ = writeln!(out, "{name}_bucket{{le=\"{}\"}} {cumulative}", bound_us as f64 / 1e6);
    }
    let total: u64 = recorded.buckets.iter().sum();
    let _ = writeln!(out, "{name}_bucket{{le=\"+Inf\"}} {total}");
    let _ = writeln!(out, "{name}_sum {}\n{name}_count {total}", recorded.sum_ns as f64 / 1e9);
}

pub(super) fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    out.push('\n');
    write_help_line(out, name, None, None, help);
    write_type_line(out, name, None, None, kind);
}

pub(super) fn row(out: &mut String, name: &str, labels: &[(&str, &str)], value: u64) {
    let labels: Vec<String> =
        labels.iter().map(|(label, value)| format!("{label}=\"{}\"", sanitize_label_value(value))).collect();
    let _ = writeln!(out, "{name}{{{}}} {value}", labels.join(","));
}
