//! How long things take, in buckets of microseconds: the histogram of [`super::recorder`].

use std::{
    cell::Cell,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

use metrics::HistogramFn;

/// Upper bounds in microseconds. Envoy gives up at 20,000.
pub(super) const BOUNDS_US: [u64; 21] = [
    5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 20_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 2_500_000, 5_000_000, 10_000_000,
];

const BUCKETS: usize = BOUNDS_US.len() + 1;
const STRIPES: usize = 16;

/// A histogram striped by thread, so that cores don't fight over its lines; a record is two relaxed additions.
#[derive(Default)]
pub struct Latency {
    stripes: [Stripe; STRIPES],
}

#[derive(Default)]
#[repr(align(128))]
struct Stripe {
    buckets: [AtomicU64; BUCKETS],
    sum_ns: AtomicU64,
}

/// What was recorded so far, over all threads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recorded {
    /// Not cumulative; the last is above every bound.
    pub buckets: [u64; BUCKETS],
    pub sum_ns: u64,
}

impl Recorded {
    /// How many there were.
    pub fn total(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

/// In seconds.
impl HistogramFn for Latency {
    fn record(&self, seconds: f64) {
        Latency::record(self, Duration::try_from_secs_f64(seconds).unwrap_or_default());
    }
}

impl Latency {
    pub fn record(&self, took: Duration) {
        let ns = took.as_nanos() as u64;
        let bucket = BOUNDS_US.partition_point(|bound| bound * 1_000 < ns);
        let stripe = &self.stripes[stripe()];
        stripe.buckets[bucket].fetch_add(1, Relaxed);
        stripe.sum_ns.fetch_add(ns, Relaxed);
    }

    pub fn recorded(&self) -> Recorded {
        let mut all = Recorded::default();
        for stripe in &self.stripes {
            for (sum, bucket) in all.buckets.iter_mut().zip(&stripe.buckets) {
                *sum += bucket.load(Relaxed);
            }
            all.sum_ns += stripe.sum_ns.load(Relaxed);
        }
        all
    }
}

/// The stripe of this thread, dealt out in order of first use.
fn stripe() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local!(static MINE: Cell<usize> = Cell::new(NEXT.fetch_add(1, Relaxed) % STRIPES));
    MINE.with(Cell::get)
}
