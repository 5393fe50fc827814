//! The metrics of envoyproxy/ratelimit beside our own: its names and its arithmetic (reference §5 and §12), for the
//! dashboards that a team brings along. Counted only where somebody reads them: USE_PROMETHEUS or a StatsD sink.

use std::{
    borrow::Cow,
    collections::HashMap,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use parking_lot::RwLock;

use super::{
    detailed::{self, DetailedSeries, SeriesKey},
    hit_counts::{COUNTERS, HitCounts},
};
use crate::metrics::{Latency, Meters};
use crate::{
    limit::Entry,
    rules::{DomainIndex, Rule, Rules},
};

/// What of the reference's metrics there is.
#[derive(Clone, Copy, Debug)]
pub struct ReferenceSettings {
    /// They are counted: a page or a sink has them.
    pub is_on: bool,
    /// They are on Prometheus' page.
    pub on_page: bool,
    /// From this part of a limit on a hit is near it (NEAR_LIMIT_RATIO).
    pub near_limit_ratio: f32,
    /// Series whose names carry values of requests; the rest is `other`.
    pub series_max: usize,
    /// Look-ups of remembered denials are counted as those of the reference's local cache.
    pub local_cache: bool,
    /// The page's response times are in milliseconds (PROMETHEUS_RESPONSE_TIME_AS_MILLISECONDS).
    pub response_time_in_ms: bool,
}

impl Default for ReferenceSettings {
    fn default() -> ReferenceSettings {
        ReferenceSettings {
            is_on: false,
            on_page: false,
            near_limit_ratio: 0.8,
            series_max: 100_000,
            local_cache: true,
            response_time_in_ms: false,
        }
    }
}

/// Unknown domains told apart. Their names are the clients', and part of metric names.
const UNKNOWN_DOMAINS_MAX: usize = 256;

/// Longer names of unknown domains are `other` too.
const DOMAIN_BYTES_MAX: usize = 256;

/// What the reference counts beside the hits of each rule.
pub struct Reference {
    pub(in crate::metrics) settings: ReferenceSettings,
    detailed: DetailedSeries,
    unknown_domains: RwLock<HashMap<Box<str>, AtomicU64>>,
    unknown_others: AtomicU64,
    pub(super) shadowed: AtomicU64,
    /// Descriptors that met a limit which may be in the reference's local cache, and those of them that it would have had.
    lookups: AtomicU64,
    local_hits: AtomicU64,
    /// Calls of gRPC health's `Check`.
    pub(super) checks: Latency,
}

impl Reference {
    pub(crate) fn new(settings: ReferenceSettings) -> Reference {
        Reference {
            settings,
            detailed: DetailedSeries::new(settings.series_max),
            unknown_domains: RwLock::default(),
            unknown_others: AtomicU64::new(0),
            shadowed: AtomicU64::new(0),
            lookups: AtomicU64::new(0),
            local_hits: AtomicU64::new(0),
            checks: Latency::default(),
        }
    }

    /// `None` where nobody reads these metrics; else the ratio that [`HitCounts::of`] needs.
    pub(crate) fn near_ratio(&self) -> Option<f32> {
        self.settings.is_on.then_some(self.settings.near_limit_ratio)
    }

    /// Hits of a descriptor that met `rule`.
    pub(crate) fn ruled(
        &self,
        meters: &Meters,
        (domain, name): (DomainIndex, &str),
        (rule, limit): (&Rule, Option<usize>),
        entries: &[Entry<'_>],
        counts: HitCounts,
    ) {
        if !meters.add(domain, rule, limit, counts) {
            self.detailed.add(name, detailed::key_of_ruled(name, rule, entries), counts);
        }
    }

    /// Hits of a descriptor that brought its own limit.
    pub(crate) fn requested(&self, domain: &str, entries: &[Entry<'_>], counts: HitCounts) {
        self.detailed.add(domain, detailed::key_of_requested(domain, entries), counts);
    }

    /// Hits by a limit of a caller's own: of all values together, as anybody may bring one.
    pub(crate) fn own(&self, domain: &str, entries: &[Entry<'_>], counts: HitCounts) {
        self.detailed.add(domain, detailed::key_of_own(domain, entries), counts);
    }

    /// Whether somebody reads how often denials were looked for in memory.
    pub(crate) fn has_local_cache(&self) -> bool {
        self.settings.is_on && self.settings.local_cache
    }

    /// A denial was looked for in memory for each of `lookups` descriptors, and found for `hits` of them.
    pub(crate) fn looked_up(&self, lookups: u64, hits: u64) {
        self.lookups.fetch_add(lookups, Relaxed);
        if hits > 0 {
            self.local_hits.fetch_add(hits, Relaxed);
        }
    }

    /// Look-ups and hits, where somebody reads them.
    pub(super) fn local_cache(&self) -> Option<(u64, u64)> {
        // Hits first: those of a request are counted after its look-ups.
        let hits = self.local_hits.load(Relaxed);
        self.has_local_cache().then(|| (self.lookups.load(Relaxed).max(hits), hits))
    }

    /// Somebody asked for health over gRPC.
    pub(crate) fn checked(&self, took: Duration) {
        self.checks.record(took);
    }

    /// Global SHADOW_MODE let a request pass.
    pub(crate) fn shadowed(&self) {
        self.shadowed.fetch_add(1, Relaxed);
    }

    pub(crate) fn unknown_domain(&self, domain: &str) {
        let known = |domain: &str| self.unknown_domains.read().get(domain).map(|count| count.fetch_add(1, Relaxed));
        if !self.settings.is_on || known(domain).is_some() {
            return;
        }
        let mut seen = self.unknown_domains.write();
        let is_other = seen.len() >= UNKNOWN_DOMAINS_MAX || domain.len() > DOMAIN_BYTES_MAX;
        let is_other = is_other && !seen.contains_key(domain);
        self.unknown_others.fetch_add(u64::from(is_other), Relaxed);
        let name = if is_other { "other" } else { domain };
        seen.entry(name.into()).or_default().fetch_add(1, Relaxed);
    }

    /// What was counted as `other`.
    pub(crate) fn others(&self) -> u64 {
        self.detailed.others() + self.unknown_others.load(Relaxed)
    }

    pub(super) fn each_unknown_domain(&self, mut visit: impl FnMut(Cow<'_, str>, u64)) {
        for (domain, count) in self.unknown_domains.read().iter() {
            visit(detailed::sanitised(domain), count.load(Relaxed));
        }
    }

    /// The hits of every key, not yet added up: rules may have the same key. In the order of [`COUNTERS`].
    pub(super) fn each_hits(
        &self,
        rules: &Rules,
        meters: &Meters,
        mut visit: impl FnMut(&SeriesKey, [u64; COUNTERS.len()]),
    ) {
        meters.each_hits(rules, |domain, rule, counts| {
            if counts != [0; COUNTERS.len()] {
                visit(&SeriesKey::of_rule(domain.name(), rule), counts);
            }
        });
        self.detailed.each(visit);
    }
}
