//! What time it is where overrides are kept: the wall clock, corrected by how far Redis' is ahead of it, so that an
//! override ends on all replicas at the same moment.

use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

use crate::limit::UnixMicros;

/// An answer that took longer says too little about the time between.
const TELLING: u64 = 100_000;

/// How far Redis' clock is ahead of this process', in µs; 0 until it was learned.
#[derive(Default)]
pub(super) struct Offset(AtomicI64);

impl Offset {
    /// Redis' clock was read between the two moments of ours.
    pub(super) fn learn(&self, theirs: UnixMicros, asked: UnixMicros, answered: UnixMicros) {
        let took = answered.0.saturating_sub(asked.0);
        if took <= TELLING && asked.0 <= answered.0 {
            let between = asked.0 + took / 2;
            self.0.store(theirs.0 as i64 - between as i64, Relaxed);
        }
    }

    /// A moment of ours, on Redis' clock.
    pub(super) fn wall(&self, ours: UnixMicros) -> UnixMicros {
        UnixMicros(ours.0.saturating_add_signed(self.0.load(Relaxed)))
    }
}
