//! The recorder behind the handles: a registry of `metrics-util` that holds plain atomics, and the striped histogram of
//! [`super::latency`]. The exporter's own recorder adds to a second atomic with each count, keeps every sample of a
//! histogram until it is drained, and can't take a series off the page.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use metrics::{
    Counter, Gauge, Histogram, Key, KeyName, Label, Level, Metadata, SharedString, Unit, atomics::AtomicU64,
};
use metrics_util::registry::{Registry, Storage};

use super::{
    latency::Latency,
    page::{Page, Times, Value},
    table::Metric,
};

/// Where the numbers of series are. A gauge's are the bits of an `f64`.
pub(super) struct Cells;

impl<K> Storage<K> for Cells {
    type Counter = Arc<AtomicU64>;
    type Gauge = Arc<AtomicU64>;
    type Histogram = Arc<Latency>;

    fn counter(&self, _: &K) -> Arc<AtomicU64> {
        Arc::default()
    }

    fn gauge(&self, _: &K) -> Arc<AtomicU64> {
        Arc::default()
    }

    fn histogram(&self, _: &K) -> Arc<Latency> {
        Arc::default()
    }
}

/// A counter that is read here too. Adding is one relaxed addition.
#[derive(Clone, Debug, Default)]
pub(super) struct Count(Arc<AtomicU64>);

impl Count {
    pub(super) fn of(cell: &Arc<AtomicU64>) -> Count {
        Count(Arc::clone(cell))
    }

    pub(super) fn add(&self, more: u64) {
        self.0.fetch_add(more, Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// The number in a gauge's cell.
pub(super) fn level(cell: &AtomicU64) -> f64 {
    f64::from_bits(cell.load(Relaxed))
}

/// The series of one process but for those of its rules, which [`super::Meters`] has. Handles are resolved when what
/// counts with them is made; only those of [`Recorder::show_count`] and [`Recorder::show_level`] are looked up again.
pub(super) struct Recorder(Registry<Key, Cells>);

const METADATA: Metadata<'static> = Metadata::new(module_path!(), Level::INFO, None);

impl Recorder {
    pub(super) fn new() -> Recorder {
        Recorder(Registry::new(Cells))
    }

    pub(super) fn counter(&self, metric: Metric, labels: &[&str]) -> Counter {
        metrics::Recorder::register_counter(self, &key(metric, labels), &METADATA)
    }

    /// One counter for each value of the metric's only label.
    pub(super) fn counters<const N: usize>(&self, metric: Metric, values: [&str; N]) -> [Counter; N] {
        values.map(|value| self.counter(metric, &[value]))
    }

    /// A counter that is read here too.
    pub(super) fn count(&self, metric: Metric, labels: &[&str]) -> Count {
        self.0.get_or_create_counter(&key(metric, labels), Count::of)
    }

    pub(super) fn gauge(&self, metric: Metric, labels: &[&str]) -> Gauge {
        metrics::Recorder::register_gauge(self, &key(metric, labels), &METADATA)
    }

    /// A histogram that takes durations, not a number of seconds.
    pub(super) fn latency(&self, metric: Metric) -> Arc<Latency> {
        self.0.get_or_create_histogram(&key(metric, &[]), Arc::clone)
    }

    /// A counter that is kept elsewhere has come to `count`.
    pub(super) fn show_count(&self, metric: Metric, labels: &[&str], count: u64) {
        self.counter(metric, labels).absolute(count);
    }

    /// What is measured elsewhere is `level` now.
    pub(super) fn show_level(&self, metric: Metric, labels: &[&str], level: f64) {
        self.gauge(metric, labels).set(level);
    }

    /// Takes those gauges of `metrics` off the page whose only label isn't one of `values`.
    pub(super) fn keep_only(&self, metrics: &[Metric], values: &[&str]) {
        self.0.retain_gauges(|key, _| {
            !Metric::named(key.name()).is_some_and(|metric| metrics.contains(&metric))
                || key.labels().all(|label| values.contains(&label.value()))
        });
    }

    /// Takes those gauges of `metrics` off the page whose labels, a line each, aren't one of `series`.
    pub(super) fn keep_only_series(&self, metrics: &[Metric], series: &[String]) {
        self.0.retain_gauges(|key, _| {
            let labels = || key.labels().map(Label::value).collect::<Vec<_>>().join("\n");
            !Metric::named(key.name()).is_some_and(|metric| metrics.contains(&metric)) || series.contains(&labels())
        });
    }

    /// Puts every series on the page.
    pub(super) fn put(&self, page: &mut Page) {
        let mut put = |key: &Key, value| {
            let metric = Metric::named(key.name()).expect("only metrics of the table are registered");
            page.put(metric, key.labels().map(Label::value), value);
        };
        self.0.visit_counters(|key, cell| put(key, Value::Count(cell.load(Relaxed))));
        self.0.visit_gauges(|key, cell| put(key, Value::Level(level(cell))));
        self.0.visit_histograms(|key, of| put(key, Value::Times(Box::new(Times::of(&of.recorded())))));
    }
}

/// Descriptions are those of the table, so none are taken.
impl metrics::Recorder for Recorder {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        self.0.get_or_create_counter(key, |cell| Counter::from_arc(Arc::clone(cell)))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        self.0.get_or_create_gauge(key, |cell| Gauge::from_arc(Arc::clone(cell)))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        self.0.get_or_create_histogram(key, |latency| Histogram::from_arc(Arc::clone(latency)))
    }
}

fn key(metric: Metric, labels: &[&str]) -> Key {
    let row = metric.row();
    debug_assert_eq!(row.labels.len(), labels.len(), "{} has other labels", row.name);
    let labels = row.labels.iter().zip(labels).map(|(name, value)| Label::new(*name, (*value).to_owned()));
    Key::from_parts(row.name, labels.collect::<Vec<_>>())
}
