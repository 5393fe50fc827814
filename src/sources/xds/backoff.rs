//! How long to wait before the next attempt: longer each time, from the beginning again once one succeeded.

use std::time::Duration;

use rand::Rng as _;

use crate::settings::XdsBackoff;

pub(super) struct Backoff {
    settings: XdsBackoff,
    /// Waits since the last success.
    attempts: u32,
}

impl Backoff {
    pub(super) fn new(settings: XdsBackoff) -> Backoff {
        Backoff { settings, attempts: 0 }
    }

    /// `first` doubled for every wait before this one, at most the longest, less some jitter.
    pub(super) fn next(&mut self, first: Duration) -> Duration {
        let full = first.saturating_mul(2u32.saturating_pow(self.attempts)).min(self.settings.max);
        self.attempts = self.attempts.saturating_add(1);
        full.mul_f64(1.0 - self.settings.jitter * rand::rng().random::<f64>())
    }

    pub(super) fn reset(&mut self) {
        self.attempts = 0;
    }
}
