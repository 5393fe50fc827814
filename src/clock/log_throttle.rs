//! Lines of the log that would come with every request, or as often as a client likes, are written once a minute: a
//! flood, or a clock that was set back, is one event and not millions.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::limit::{Micros, SECOND, UnixMicros};

#[cfg(test)]
mod tests;

const EVERY: Micros = Micros(60 * SECOND.0);

/// When a line was last written, in microseconds since 1970; 0 for never.
#[derive(Debug, Default)]
pub(crate) struct LogThrottle(AtomicU64);

impl LogThrottle {
    /// Whether it is time to write the line again; a clock that was set back doesn't silence it for long.
    pub(crate) fn is_due(&self, now: UnixMicros) -> bool {
        let written = self.0.load(Relaxed);
        let is_due = written == 0 || now.0.abs_diff(written) >= EVERY.0;
        is_due && self.0.compare_exchange(written, now.0.max(1), Relaxed, Relaxed).is_ok()
    }
}

/// A paced line that says how many events were left out since the last one.
#[derive(Debug, Default)]
pub(crate) struct PacedEvents {
    line: LogThrottle,
    left_out: AtomicU64,
}

impl PacedEvents {
    /// So many events at once. `Some` where a line is due: how many events have had none since the last line.
    pub(crate) fn happened(&self, times: u64, now: UnixMicros) -> Option<u64> {
        if self.line.is_due(now) {
            return Some(self.left_out.swap(0, Relaxed));
        }
        self.left_out.fetch_add(times, Relaxed);
        None
    }
}
