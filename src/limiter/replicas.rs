//! Number of replicas that share a limit in fallback mode. It doesn't know how they are counted.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};

use parking_lot::Mutex;

/// Number of counts that are remembered; the largest is used, because a Redis that lost its data doesn't know the
/// replicas for the time of one beat.
const COUNTS: usize = 5;

/// Number of replicas that are alive. All cores of a process share it.
#[derive(Debug, Default)]
pub struct Replicas {
    expected: Option<u32>,
    /// The largest of the last counts; 0 before the first.
    seen: AtomicU32,
    last: Mutex<([u32; COUNTS], usize)>,
    is_warned: AtomicBool,
}

impl Replicas {
    /// `expected` replicas, whatever is counted; without it, as many as were counted.
    pub fn new(expected: Option<u32>) -> Replicas {
        Replicas { expected, ..Replicas::default() }
    }

    /// Notes that so many replicas were alive just now.
    pub fn observe(&self, replicas: u32) {
        let mut last = self.last.lock();
        let (counts, next) = &mut *last;
        counts[*next % COUNTS] = replicas;
        *next += 1;
        self.seen.store(counts.iter().copied().max().unwrap_or(replicas), Relaxed);
    }

    /// Number of replicas, at least 1. If none were counted yet it is 1, and the log says so once.
    pub fn count(&self) -> u32 {
        let seen = self.expected.unwrap_or_else(|| self.seen.load(Relaxed));
        if seen == 0 && !self.is_warned.swap(true, Relaxed) {
            tracing::warn!(
                "the number of replicas is unknown (none was seen in Redis), so in fallback mode each replica admits whole limits; set TOLLGATE_EXPECTED_REPLICAS to divide them"
            );
        }
        seen.max(1)
    }
}
