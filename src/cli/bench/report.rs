//! What was measured, as JSON and as text: for each address and over all of them.

use std::fmt;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::load::{BenchCounts, BenchTotals};

#[cfg(test)]
mod tests;

/// Bounds of the histogram's buckets within a power of ten.
const BOUNDS: [u64; 6] = [10, 15, 20, 30, 50, 70];

/// Characters of the longest bar.
const BAR: u64 = 40;

/// What was measured. Times are in milliseconds.
#[derive(Serialize)]
pub(super) struct BenchReport {
    loop_kind: &'static str,
    seconds: f64,
    #[serde(flatten)]
    total: Measured,
    addresses: Vec<MeasuredAddress>,
}

#[derive(Serialize)]
struct MeasuredAddress {
    addr: String,
    #[serde(flatten)]
    measured: Measured,
}

#[derive(Serialize)]
struct Measured {
    requests_per_second: f64,
    ok: u64,
    over_limit: u64,
    /// Not answered, or with an error.
    errors: u64,
    /// Open loop: due, but not sent because too many were outstanding.
    not_sent: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_error: Option<String>,
    p50_ms: f64,
    p90_ms: f64,
    p99_ms: f64,
    p999_ms: f64,
    max_ms: f64,
    /// From the first bucket with an answer to the last.
    histogram: Vec<HistogramBucket>,
}

/// Answers that took from `from_ms` to just below `to_ms`.
#[derive(Debug, PartialEq, Serialize)]
struct HistogramBucket {
    from_ms: f64,
    to_ms: f64,
    count: u64,
}

impl BenchReport {
    pub(super) fn of<'a>(
        is_open: bool,
        seconds: f64,
        addresses: impl Iterator<Item = (&'a String, &'a BenchTotals)>,
    ) -> BenchReport {
        let mut all = BenchCounts::default();
        let addresses = addresses.map(|(addr, totals)| {
            all.add(&totals.seen());
            MeasuredAddress { addr: addr.clone(), measured: Measured::of(&totals.seen(), seconds) }
        });
        let addresses = addresses.collect();
        let loop_kind = if is_open { "open" } else { "closed" };
        BenchReport { loop_kind, seconds, total: Measured::of(&all, seconds), addresses }
    }

    pub(super) fn is_all_answered(&self) -> bool {
        self.total.errors + self.total.not_sent == 0
    }
}

impl Measured {
    fn of(seen: &BenchCounts, seconds: f64) -> Measured {
        let ms = |quantile: f64| seen.times_us.value_at_quantile(quantile) as f64 / 1e3;
        Measured {
            requests_per_second: ((seen.ok + seen.over_limit) as f64 / seconds).round(),
            ok: seen.ok,
            over_limit: seen.over_limit,
            errors: seen.errors,
            not_sent: seen.not_sent,
            first_error: seen.first_error.clone(),
            p50_ms: ms(0.5),
            p90_ms: ms(0.9),
            p99_ms: ms(0.99),
            p999_ms: ms(0.999),
            max_ms: seen.times_us.max() as f64 / 1e3,
            histogram: histogram(&seen.times_us),
        }
    }
}

/// The buckets from the first that isn't empty to the last.
fn histogram(times_us: &Histogram<u64>) -> Vec<HistogramBucket> {
    let mut bounds = (0..).flat_map(|power| BOUNDS.map(|bound| bound * 10u64.pow(power)));
    let mut to = 0;
    let mut buckets: Vec<HistogramBucket> = Vec::new();
    for step in times_us.iter_recorded() {
        while step.value_iterated_to() >= to {
            let from = std::mem::replace(&mut to, bounds.next().unwrap_or(u64::MAX));
            if !buckets.is_empty() || step.value_iterated_to() < to {
                buckets.push(bucket(from, to));
            }
        }
        if let Some(last) = buckets.last_mut() {
            last.count += step.count_at_value();
        }
    }
    buckets
}

fn bucket(from_us: u64, to_us: u64) -> HistogramBucket {
    HistogramBucket { from_ms: from_us as f64 / 1e3, to_ms: to_us as f64 / 1e3, count: 0 }
}

impl fmt::Display for BenchReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [_, _, ..] = &self.addresses[..] {
            for MeasuredAddress { addr, measured } in &self.addresses {
                writeln!(f, "{addr}: {} requests a second", measured.requests_per_second)?;
                measured.write_counts(f)?;
            }
        }
        writeln!(
            f,
            "{} loop, {} s: {} requests a second",
            self.loop_kind, self.seconds, self.total.requests_per_second
        )?;
        self.total.write_counts(f)?;
        self.total.write_histogram(f)
    }
}

impl Measured {
    fn write_counts(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "  admitted {}, denied {}, errors {}, not sent {}",
            self.ok, self.over_limit, self.errors, self.not_sent
        )?;
        writeln!(
            f,
            "  time to answer, ms: p50 {}, p90 {}, p99 {}, p99.9 {}, max {}",
            self.p50_ms, self.p90_ms, self.p99_ms, self.p999_ms, self.max_ms
        )?;
        match &self.first_error {
            Some(error) => writeln!(f, "  first error: {error}"),
            None => Ok(()),
        }
    }

    fn write_histogram(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (all, most) =
            self.histogram.iter().fold((0, 0), |(all, most), bucket| (all + bucket.count, most.max(bucket.count)));
        for HistogramBucket { from_ms, to_ms, count } in &self.histogram {
            let bar = "#".repeat((count * BAR).div_ceil(most) as usize);
            let percent = 100.0 * *count as f64 / all as f64;
            writeln!(f, "  {from_ms:>7} to {to_ms:>7} ms {count:>10} {percent:>5.1} % {bar}")?;
        }
        Ok(())
    }
}
