//! The page that Prometheus scrapes: what the recorders hold, put together metric by metric in the order of the table.

use std::{collections::BTreeMap, fmt::Write};

use super::{
    latency::{BOUNDS_US, Recorded},
    table::{Metric, Row, Section, TABLE},
    text::{self, head, row},
};

/// Metrics with more series are not sorted: nobody reads a page of a hundred thousand limits but Prometheus, to which the
/// order is nothing, and sorting would be a third of the work.
const SORTED_MAX: usize = 10_000;

/// What was read for one page.
pub(super) struct Page {
    /// By metric.
    series: [Vec<(String, Value)>; TABLE.len()],
    /// Of metrics whose names hold words of rules or requests, by name.
    named: BTreeMap<String, (Metric, u64)>,
    /// Their metrics are on the page, if only by name.
    shown: Vec<Section>,
}

/// The value of a series.
pub(super) enum Value {
    Count(u64),
    /// A gauge's.
    Level(f64),
    Times(Box<Times>),
}

/// A histogram, as the page has it.
pub(super) struct Times {
    /// How many were at most so long, by ascending bound.
    within: Vec<(f64, u64)>,
    sum: f64,
    total: u64,
}

impl Times {
    /// In seconds, with every bound.
    pub(super) fn of(recorded: &Recorded) -> Times {
        Times::with_bounds(recorded, BOUNDS_US.map(|bound| (bound as f64 / 1e6, bound)), 1e9)
    }

    /// `bounds` are what the page says and the microseconds that it stands for, which are one of [`BOUNDS_US`];
    /// `ns_per_unit` makes the sum.
    pub(super) fn with_bounds(
        recorded: &Recorded,
        bounds: impl IntoIterator<Item = (f64, u64)>,
        ns_per_unit: f64,
    ) -> Times {
        let up_to = |bound: u64| {
            let buckets = recorded.buckets.iter().zip(BOUNDS_US).filter(|(_, to)| *to <= bound);
            buckets.map(|(count, _)| count).sum()
        };
        Times {
            within: bounds.into_iter().map(|(shown, bound)| (shown, up_to(bound))).collect(),
            sum: recorded.sum_ns as f64 / ns_per_unit,
            total: recorded.total(),
        }
    }
}

impl Page {
    pub(super) fn new() -> Page {
        Page { series: [const { Vec::new() }; TABLE.len()], named: BTreeMap::new(), shown: vec![Section::Always] }
    }

    /// Names the metrics of a section, though they may have no series yet.
    pub(super) fn show(&mut self, section: Section) {
        self.shown.push(section);
    }

    /// One series, with the values of the metric's first labels.
    pub(super) fn put<'l>(&mut self, metric: Metric, labels: impl IntoIterator<Item = &'l str>, value: Value) {
        let labels = text::labels(metric.row().labels.iter().copied().zip(labels));
        self.series[metric as usize].push((labels, value));
    }

    /// Adds to a counter whose name holds words of a rule or a request.
    pub(super) fn add_named(&mut self, metric: Metric, name: String, count: u64) {
        self.named.entry(name).or_insert((metric, 0)).1 += count;
    }

    /// The text.
    pub(super) fn write(mut self) -> String {
        let mut out = String::new();
        for of in &TABLE {
            let series = &mut self.series[of.metric as usize];
            if series.is_empty() && !self.shown.contains(&of.section) {
                continue;
            }
            if series.len() <= SORTED_MAX {
                series.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
            }
            head_of(&mut out, of, of.name);
            for (labels, value) in &*series {
                write_series(&mut out, of.name, labels, value);
            }
        }
        for (name, (metric, count)) in &self.named {
            head_of(&mut out, metric.row(), name);
            row(&mut out, name, "", count);
        }
        out
    }
}

fn head_of(out: &mut String, of: &Row, name: &str) {
    head(out, name, of.kind.name(), &of.help.replace('`', ""));
}

fn write_series(out: &mut String, name: &str, labels: &str, value: &Value) {
    match value {
        Value::Count(count) => row(out, name, labels, count),
        Value::Level(level) => row(out, name, labels, level),
        Value::Times(times) => {
            let before = if labels.is_empty() { String::new() } else { format!("{labels},") };
            let bounds = times.within.iter().map(|(bound, count)| (bound.to_string(), *count));
            for (bound, count) in bounds.chain([("+Inf".to_owned(), times.total)]) {
                let _ = writeln!(out, "{name}_bucket{{{before}le=\"{bound}\"}} {count}");
            }
            row(out, &format!("{name}_sum"), labels, times.sum);
            row(out, &format!("{name}_count"), labels, times.total);
        }
    }
}

/// `docs/src/reference/metrics-all.md`: the table, as the documentation has it.
pub fn reference_document() -> String {
    let mut out = String::from(DOCUMENT_HEAD);
    for section in Section::ALL {
        let _ = write!(out, "\n## {}\n\n", section.heading());
        let rows = TABLE.iter().filter(|row| row.section == section);
        if section == Section::EnvoyproxyNamed {
            for Row { name, kind, help, .. } in rows {
                let _ = writeln!(out, "- `{name}` ({}): {help}", kind.name());
            }
            continue;
        }
        out.push_str("| metric | kind | labels | meaning |\n|---|---|---|---|\n");
        for Row { name, kind, labels, help, .. } in rows {
            let labels: Vec<String> = labels.iter().map(|label| format!("`{label}`")).collect();
            let _ = writeln!(out, "| `{name}` | {} | {} | {help} |", kind.name(), labels.join(", "));
        }
    }
    out
}

const DOCUMENT_HEAD: &str = "# Metrics

Every metric of the page that Prometheus scrapes (`/metrics`, port 9090), in the order of the page. This file is made from
the program's own table: `TOLLGATE_BLESS=1 cargo test --test it every_metric` writes it anew. What to watch and what to do
is in [What answers carry](answers.md#metrics).

A counter begins at 0 with each process. Series of a limit or a domain leave the page with it when a reload removes it;
those of a limit that stays over a reload go on. Counters of limits are shown once they have counted something.
";
