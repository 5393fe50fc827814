//! Limits log lines that every request would write to one in a while: a flood, or a clock that was set back, is one
//! event and not millions.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::limit::{Micros, SECOND, UnixMicros};

const EVERY: Micros = Micros(60 * SECOND.0);

/// When a line was last written; 0 for never.
#[derive(Debug, Default)]
pub(super) struct Paced(AtomicU64);

impl Paced {
    /// Whether the line may be logged again. A clock that was set back doesn't suppress it for long.
    pub(super) fn is_due(&self, now: UnixMicros) -> bool {
        let said = self.0.load(Relaxed);
        let is_due = said == 0 || now.0.abs_diff(said) >= EVERY.0;
        is_due && self.0.compare_exchange(said, now.0.max(1), Relaxed, Relaxed).is_ok()
    }
}

#[test]
fn a_line_is_due_at_first_and_then_a_minute_later_or_when_the_clock_was_set_back() {
    let (paced, at) = (Paced::default(), |seconds: u64| UnixMicros(seconds * SECOND.0));
    let due: Vec<bool> = [1_000, 1_000, 1_059, 1_060, 1_061, 900, 901].map(|seconds| paced.is_due(at(seconds))).into();
    assert_eq!(due, [true, false, false, true, false, true, false]);
}
