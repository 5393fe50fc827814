//! How long things take, in buckets of microseconds: the histogram of [`super::recorder`].

#[cfg(test)]
mod tests;

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

    /// What was recorded after `before`.
    pub fn since(&self, before: &Recorded) -> Recorded {
        let mut more = self.clone();
        for (now, before) in more.buckets.iter_mut().zip(before.buckets) {
            *now = now.saturating_sub(before);
        }
        more.sum_ns = more.sum_ns.saturating_sub(before.sum_ns);
        more
    }

    /// The time in µs that this share took at most, as Prometheus reckons it: evenly within a bucket. 0 if there is nothing.
    pub fn quantile_us(&self, share: f64) -> u32 {
        let total = self.total();
        let rank = share * total as f64;
        let mut below = 0.0;
        for (index, count) in self.buckets.iter().enumerate().filter(|(_, count)| **count > 0) {
            let lower = index.checked_sub(1).map_or(0, |index| BOUNDS_US[index]) as f64;
            let upper = BOUNDS_US.get(index).map_or(lower, |bound| *bound as f64);
            if below + *count as f64 >= rank {
                return (lower + (upper - lower) * (rank - below) / *count as f64) as u32;
            }
            below += *count as f64;
        }
        0
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
