//! What is known of run-time overrides, by domain: series are bounded by the rules.

use std::{fmt::Write, time::Duration};

use super::render::{head, row};
use crate::{
    limit::UnixMicros,
    run_time::overrides::{Overrides, Shown},
};

type Gauge = (&'static str, &'static str, fn(&Shown) -> u64);

const GAUGES: [Gauge; 3] = [
    ("tollgate_run_time_overrides", "Overrides that were set at run time, as this replica knows them.", |shown| {
        shown.rows as u64
    }),
    ("tollgate_run_time_overrides_expired", "Of them, those that have ended and wait to be removed.", |shown| {
        shown.expired as u64
    }),
    (
        "tollgate_run_time_overrides_generation",
        "The last write that this replica knows; equal on all of them.",
        |shown| shown.generation,
    ),
];

pub(super) fn write(out: &mut String, overrides: &Overrides, now: UnixMicros) {
    let shown = overrides.shown(now);
    for (name, help, value) in GAUGES {
        head(out, name, "gauge", help);
        shown.iter().for_each(|of| row(out, name, &[("domain", &of.domain)], value(of)));
    }
    let age = "tollgate_run_time_overrides_sync_age_seconds";
    head(
        out,
        age,
        "gauge",
        "Since this replica last knew that it has every write, or began to ask; where nobody else writes, 0.",
    );
    let longest = shown.iter().map(|of| of.age).max().unwrap_or(Duration::ZERO);
    let _ = writeln!(out, "{age} {}", longest.as_secs_f64());
    let lost = "tollgate_run_time_overrides_lost_total";
    head(out, lost, "counter", "Times that Redis had lost overrides, which were then written back.");
    let _ = writeln!(out, "{lost} {}", overrides.losses());
}
