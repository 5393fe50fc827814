//! The phases of the process, in order. Each is logged as it begins, so that the last line of the log says how far a start
//! or a stop has come.

use std::time::Duration;

use tracing::info;

/// What the process does now. `tollgate serve` goes through all of them, in this order; [`Embedded`](super::Embedded) has
/// no listeners and nobody to drain, and goes through the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The settings are valid, and the process asks the system for what they need, such as open files.
    Settings,
    /// Rules are read, or the first ones of a control plane are waited for. An error in them ends the start.
    Rules,
    /// The store is opened that the settings ask for. A Redis that is away is not waited for.
    Store,
    /// Certificates are read and ports are bound, so that one that is taken ends the start before anything is served.
    Listeners,
    /// Requests are answered, until the process is to stop or a task that it needs ends early.
    Ready,
    /// Probes say that it is not ready. Requests are still accepted, so that load balancers have time to notice.
    Drain { delay: Duration },
    /// No connection is accepted. Requests in flight are finished until the timeout, and what is left then is abandoned.
    Deadline { timeout: Duration },
}

impl Phase {
    /// Logs that this phase begins.
    pub(super) fn begin(self) {
        let version = (self == Phase::Settings).then_some(env!("CARGO_PKG_VERSION"));
        let (delay, timeout) = match self {
            Phase::Drain { delay } => (Some(delay), None),
            Phase::Deadline { timeout } => (None, Some(timeout)),
            _ => (None, None),
        };
        let (delay, timeout) = (delay.map(tracing::field::debug), timeout.map(tracing::field::debug));
        let (name, sentence) = self.words();
        info!(phase = name, version, delay, timeout, "{sentence}");
    }

    /// Its name and its sentence in the log.
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Phase::Settings => ("settings", "starting: the settings are valid"),
            Phase::Rules => ("rules", "loading rules"),
            Phase::Store => ("store", "opening the store"),
            Phase::Listeners => ("listeners", "opening listeners"),
            Phase::Ready => ("ready", "answering requests"),
            Phase::Drain { .. } => ("drain", "not ready any more; requests are still accepted"),
            Phase::Deadline { .. } => ("deadline", "finishing requests in flight; no more are accepted"),
        }
    }
}
