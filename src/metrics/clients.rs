//! Connections that ended against the client's will, by listener: what a flood, a slow client or a broken one looks like
//! from here.

use metrics::Counter;

use super::{recorder::Recorder, table::Metric};

/// A listener, as metrics and the log name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenerKind {
    Grpc,
    Http,
    Admin,
    Metrics,
}

impl ListenerKind {
    const ALL: [ListenerKind; 4] = [ListenerKind::Grpc, ListenerKind::Http, ListenerKind::Admin, ListenerKind::Metrics];

    pub const fn name(self) -> &'static str {
        match self {
            ListenerKind::Grpc => "grpc",
            ListenerKind::Http => "http",
            ListenerKind::Admin => "admin",
            ListenerKind::Metrics => "metrics",
        }
    }
}

/// By listener, in the order of [`ListenerKind::ALL`].
pub struct Clients {
    refused: [Counter; 4],
    slow: [Counter; 4],
    broken: [Counter; 4],
}

impl Clients {
    pub(super) fn new(recorder: &Recorder) -> Clients {
        let counters = |metric| recorder.counters(metric, ListenerKind::ALL.map(ListenerKind::name));
        Clients {
            refused: counters(Metric::RefusedConnections),
            slow: counters(Metric::SlowClients),
            broken: counters(Metric::BrokenConnections),
        }
    }

    /// A connection came beyond the bound.
    pub fn refused(&self, at: ListenerKind) {
        self.refused[at as usize].increment(1);
    }

    /// A client did not send or take in time what it had to.
    pub fn slow(&self, at: ListenerKind) {
        self.slow[at as usize].increment(1);
    }

    /// A client broke the protocol, or used it against us: resets in bulk, headers without end.
    pub fn broken(&self, at: ListenerKind) {
        self.broken[at as usize].increment(1);
    }
}
