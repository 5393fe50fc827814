//! The clock of overrides: the wall clock, corrected by how far Redis' clock is ahead of it, so that an override ends
//! on all replicas at the same moment.

use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

use crate::limit::UnixMicros;

/// Ignore samples slower than 100 ms: the clock offset would be too uncertain.
const ROUND_TRIP_MAX: u64 = 100_000;

/// How far Redis' clock is ahead of this process' clock, in µs; 0 until it was learned.
#[derive(Default)]
pub(super) struct ClockOffset(AtomicI64);

impl ClockOffset {
    /// Learns the offset from a time that Redis read between two moments of this process.
    pub(super) fn learn(&self, theirs: UnixMicros, asked: UnixMicros, answered: UnixMicros) {
        let took = answered.0.saturating_sub(asked.0);
        if took <= ROUND_TRIP_MAX && asked.0 <= answered.0 {
            let between = asked.0 + took / 2;
            self.0.store(theirs.0 as i64 - between as i64, Relaxed);
        }
    }

    /// A moment of this process, by Redis' clock.
    pub(super) fn wall(&self, ours: UnixMicros) -> UnixMicros {
        UnixMicros(ours.0.saturating_add_signed(self.0.load(Relaxed)))
    }
}
