//! By how many a limit is divided while each replica counts for itself. Knows nothing of how the number is found out.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};

use parking_lot::Mutex;

/// A Redis that lost its data forgets the replicas for the time of a beat: the most of the last few counts.
const COUNTS: usize = 5;

/// Shared by all cores of a process.
#[derive(Debug, Default)]
pub struct Replicas {
    expected: Option<u32>,
    /// 0: none seen yet.
    seen: AtomicU32,
    last: Mutex<([u32; COUNTS], usize)>,
    said: AtomicBool,
}

impl Replicas {
    /// `expected` is believed whatever is seen.
    pub fn new(expected: Option<u32>) -> Replicas {
        Replicas { expected, ..Replicas::default() }
    }

    /// So many were living just now.
    pub fn saw(&self, replicas: u32) {
        let mut last = self.last.lock();
        let (counts, next) = &mut *last;
        counts[*next % COUNTS] = replicas;
        *next += 1;
        self.seen.store(counts.iter().copied().max().unwrap_or(replicas), Relaxed);
    }

    /// At least 1, which it also is where nobody knows; that is said once.
    pub fn number(&self) -> u32 {
        let seen = self.expected.unwrap_or_else(|| self.seen.load(Relaxed));
        if seen == 0 && !self.said.swap(true, Relaxed) {
            tracing::warn!(
                "no replica has been seen in Redis, so each gives out whole limits while it counts for itself; \
                 TOLLGATE_EXPECTED_REPLICAS says how many share them"
            );
        }
        seen.max(1)
    }
}
