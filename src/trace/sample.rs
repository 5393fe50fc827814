//! Which requests are sampled: as the caller decided, else a share of them by their trace's id, so that every service
//! picks the same ones.

/// How it is decided which requests are sampled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampler {
    /// Whether the caller's sampling decision is kept.
    pub respects_parent: bool,
    /// The share of all other requests that is sampled, from 0 to 1.
    pub ratio: f64,
}

impl Sampler {
    /// Whether a request is sampled; `decision` is the caller's, if there is one.
    pub fn samples(self, decision: Option<bool>, trace_id: u128) -> bool {
        match decision {
            Some(decision) if self.respects_parent => decision,
            _ => self.picks(trace_id),
        }
    }

    /// Decides by the lower half's upper 63 bits, as OpenTelemetry's libraries do.
    fn picks(self, trace_id: u128) -> bool {
        const ALL: f64 = (1u64 << 63) as f64;
        self.ratio >= 1.0 || (trace_id as u64 >> 1) < (self.ratio * ALL) as u64
    }
}
