//! What is known of run-time overrides, by domain: series are bounded by the rules.

use std::time::Duration;

use super::{recorder::Recorder, table::Metric};
use crate::{
    limit::UnixMicros,
    run_time::overrides::{DomainStats, Overrides},
};

/// A metric, and where its number is.
type OfDomain = (Metric, fn(&DomainStats) -> u64);

const OF_DOMAINS: [OfDomain; 3] = [
    (Metric::RunTimeOverrides, |shown| shown.rows as u64),
    (Metric::RunTimeOverridesExpired, |shown| shown.expired as u64),
    (Metric::RunTimeOverridesGeneration, |shown| shown.generation),
];

pub(super) fn show(recorder: &Recorder, overrides: &Overrides, now: UnixMicros) {
    let shown = overrides.shown(now);
    for of in &shown {
        for (metric, read) in OF_DOMAINS {
            recorder.show_level(metric, &[&of.domain], read(of) as f64);
        }
    }
    let domains: Vec<&str> = shown.iter().map(|of| &*of.domain).collect();
    recorder.keep_only(&OF_DOMAINS.map(|(metric, _)| metric), &domains);
    let longest = shown.iter().map(|of| of.age).max().unwrap_or(Duration::ZERO);
    show_switches(recorder, overrides, &domains, now);
    recorder.show_level(Metric::RunTimeOverridesSyncAge, &[], longest.as_secs_f64());
    recorder.show_count(Metric::RunTimeOverridesLost, &[], overrides.losses());
}

/// Of switches that hold: one that has ended leaves the page.
fn show_switches(recorder: &Recorder, overrides: &Overrides, domains: &[&str], now: UnixMicros) {
    let wall = overrides.wall(now);
    let mut words: Vec<String> = Vec::new();
    for domain in domains {
        for switch in overrides.switches(domain).iter().filter(|switch| wall < switch.ends) {
            let labels = [*domain, &*switch.target, switch.mode.name()];
            let seconds = |at: UnixMicros| at.0 as f64 / 1e6;
            recorder.show_level(Metric::LimitSwitchEnds, &labels, seconds(switch.ends));
            recorder.show_level(Metric::LimitSwitchSince, &labels, seconds(switch.at));
            words.push(labels.join("\n"));
        }
    }
    recorder.keep_only_series(&[Metric::LimitSwitchEnds, Metric::LimitSwitchSince], &words);
}
