//! Connections that ended against the client's will, by listener: what a flood, a slow client or a broken one looks like
//! from here.

use metrics::Counter;

use super::{recorder::Recorder, table::Metric};

/// A listener, as metrics and the log name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Surface {
    Grpc,
    Http,
    Admin,
    Metrics,
}

impl Surface {
    const ALL: [Surface; 4] = [Surface::Grpc, Surface::Http, Surface::Admin, Surface::Metrics];

    pub const fn name(self) -> &'static str {
        match self {
            Surface::Grpc => "grpc",
            Surface::Http => "http",
            Surface::Admin => "admin",
            Surface::Metrics => "metrics",
        }
    }
}

/// By listener, in the order of [`Surface::ALL`].
pub struct Clients {
    refused: [Counter; 4],
    slow: [Counter; 4],
    broken: [Counter; 4],
}

impl Clients {
    pub(super) fn new(recorder: &Recorder) -> Clients {
        let counters = |metric| recorder.counters(metric, Surface::ALL.map(Surface::name));
        Clients {
            refused: counters(Metric::RefusedConnections),
            slow: counters(Metric::SlowClients),
            broken: counters(Metric::BrokenConnections),
        }
    }

    /// A connection came beyond the bound.
    pub fn refused(&self, at: Surface) {
        self.refused[at as usize].increment(1);
    }

    /// A client did not send or take in time what it had to.
    pub fn slow(&self, at: Surface) {
        self.slow[at as usize].increment(1);
    }

    /// A client broke the protocol, or used it against us: resets in bulk, headers without end.
    pub fn broken(&self, at: Surface) {
        self.broken[at as usize].increment(1);
    }
}
