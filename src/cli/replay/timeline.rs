//! How something went over time, in few buckets of equal length that double it once the time grows too long for them: the
//! log's length needs not be known before.

#[cfg(test)]
mod tests;

use crate::limit::{Micros, SECOND, UnixMicros};

/// Buckets of a timeline, and characters of a full sparkline.
pub(super) const BUCKETS: usize = 64;

const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// The buckets of all timelines of a replay: the same ones, so that sparklines stand below each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Buckets {
    start: UnixMicros,
    span: Micros,
}

/// Counts by bucket.
#[derive(Clone, Debug)]
pub(super) struct Timeline {
    /// That of the buckets when something was last counted.
    span: Micros,
    counts: [u64; BUCKETS],
}

/// The fullest bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Peak {
    pub(super) count: u64,
    pub(super) at: UnixMicros,
    pub(super) span: Micros,
}

impl Buckets {
    /// `first` is the first moment that is counted.
    pub(super) fn new(first: UnixMicros) -> Buckets {
        Buckets { start: UnixMicros(first.0 - first.0 % SECOND.0), span: SECOND }
    }

    pub(super) fn span(self) -> Micros {
        self.span
    }

    /// Makes room for `at`, and returns its bucket. `at` must not be before the first moment.
    pub(super) fn bucket(&mut self, at: UnixMicros) -> usize {
        let after = at.0.saturating_sub(self.start.0);
        while after / self.span.0 >= BUCKETS as u64 {
            self.span.0 *= 2;
        }
        (after / self.span.0) as usize
    }
}

impl Default for Timeline {
    fn default() -> Timeline {
        Timeline { span: SECOND, counts: [0; BUCKETS] }
    }
}

impl Timeline {
    /// Counts in a bucket of `buckets`, as they are now.
    pub(super) fn add(&mut self, buckets: Buckets, bucket: usize, count: u64) {
        self.widen(buckets.span);
        self.counts[bucket] += count;
    }

    /// Puts buckets together until they are as long as `span`.
    fn widen(&mut self, span: Micros) {
        while self.span < span {
            for pair in 0..BUCKETS / 2 {
                self.counts[pair] = self.counts[2 * pair] + self.counts[2 * pair + 1];
            }
            self.counts[BUCKETS / 2..].fill(0);
            self.span.0 *= 2;
        }
    }

    /// The counts of all buckets up to `last`.
    pub(super) fn counts(&self, buckets: Buckets, last: usize) -> Vec<u64> {
        let mut whole = self.clone();
        whole.widen(buckets.span);
        whole.counts[..=last.min(BUCKETS - 1)].to_vec()
    }

    /// The first of the fullest buckets; `None` if nothing was counted.
    pub(super) fn peak(&self, buckets: Buckets) -> Option<Peak> {
        let counts = self.counts(buckets, BUCKETS - 1);
        let (bucket, count) = counts.iter().enumerate().rev().max_by_key(|(_, count)| **count)?;
        let at = UnixMicros(buckets.start.0 + bucket as u64 * buckets.span.0);
        (*count > 0).then_some(Peak { count: *count, at, span: buckets.span })
    }
}

/// A character for each count, by its share of the largest; a blank where there is nothing.
pub(super) fn sparkline(counts: &[u64]) -> String {
    let most = counts.iter().copied().max().unwrap_or_default().max(1);
    let level = |count: u64| (u128::from(count) * LEVELS.len() as u128).div_ceil(u128::from(most)) as usize;
    counts.iter().map(|&count| if count == 0 { ' ' } else { LEVELS[level(count) - 1] }).collect()
}
