//! The names that envoyproxy/ratelimit gives its metrics, and their way out by StatsD.

pub(crate) mod named;
pub(crate) mod reference;
pub(crate) mod reference_page;
pub(crate) mod sink;
pub(crate) mod statsd;
pub(crate) mod tally;
pub(crate) mod totals;
