//! Which requests are followed: as the caller decided, else a part of them by their trace's id, so that every service
//! which is asked picks the same ones.

/// How it is decided.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampler {
    /// What the caller decided holds.
    pub heeds_parent: bool,
    /// The part of the others, from 0 to 1.
    pub ratio: f64,
}

impl Sampler {
    /// `decision` is the caller's, if there is one.
    pub fn follows(self, decision: Option<bool>, trace_id: u128) -> bool {
        match decision {
            Some(decision) if self.heeds_parent => decision,
            _ => self.picks(trace_id),
        }
    }

    /// By the lower half's upper 63 bits, as OpenTelemetry's libraries do it.
    fn picks(self, trace_id: u128) -> bool {
        const ALL: f64 = (1u64 << 63) as f64;
        self.ratio >= 1.0 || (trace_id as u64 >> 1) < (self.ratio * ALL) as u64
    }
}
