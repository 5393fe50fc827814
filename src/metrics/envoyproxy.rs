//! The names that envoyproxy/ratelimit gives its metrics, and their way out by StatsD.

pub(crate) mod detailed;
pub(crate) mod hit_counts;
pub(crate) mod reference;
pub(crate) mod reference_page;
pub(crate) mod sink;
pub(crate) mod statsd;
pub(crate) mod totals;
