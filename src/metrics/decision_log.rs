//! What the decision log wrote, and what it lacks.

use metrics::Counter;

use super::{recorder::Recorder, table::Metric};

pub struct DecisionLogCounts {
    /// Lines that were written.
    pub written: Counter,
    /// Decisions that came faster than they could be written.
    pub slow: Counter,
    /// Lines that the file couldn't take.
    pub unwritable: Counter,
}

impl DecisionLogCounts {
    pub(super) fn new(recorder: &Recorder) -> DecisionLogCounts {
        let lost = |reason| recorder.counter(Metric::DecisionLogLost, &[reason]);
        DecisionLogCounts {
            written: recorder.counter(Metric::DecisionLogLines, &[]),
            slow: lost("slow"),
            unwritable: lost("unwritable"),
        }
    }
}
