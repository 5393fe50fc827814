//! The registry of what a set of rules has on the page: series of limits and of domains. Their keys share the texts of the
//! rules, since there may be a hundred thousand limits with several series each: a key of the `metrics` crate, which owns
//! its labels, would take ten times the memory.

use std::{
    hash::{BuildHasher, Hash, Hasher},
    sync::{Arc, atomic::Ordering::Relaxed},
};

use foldhash::fast::FixedState;
use metrics::GaugeFn;
use metrics_util::{Hashable, KeyHasher, registry::Registry};

use super::{
    page::{Page, Value},
    recorder::{Cells, Count, level},
    table::Metric,
};
use crate::limit::FailurePolicy;

/// What a limit's answer came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitOutcome {
    Ok,
    OverLimit,
    /// It would have been refused, but the limit isn't enforced: `shadow_mode` or `enforce: false`.
    Shadow,
}

impl LimitOutcome {
    pub(super) const ALL: [LimitOutcome; 3] = [LimitOutcome::Ok, LimitOutcome::OverLimit, LimitOutcome::Shadow];

    pub(super) const fn name(self) -> &'static str {
        match self {
            LimitOutcome::Ok => "ok",
            LimitOutcome::OverLimit => "over_limit",
            LimitOutcome::Shadow => "shadow",
        }
    }
}

/// The series of the rules in force. Handed from one set of rules to the next, so that a limit which stays goes on.
pub(super) struct RuleSeries(Registry<SeriesKey, Cells>);

/// Whose series it is: a limit, or a domain, whose id is empty.
#[derive(Debug)]
pub(super) struct Owner {
    domain: Arc<str>,
    id: Arc<str>,
    hash: u64,
}

impl Owner {
    pub(super) fn new(domain: &Arc<str>, id: &Arc<str>) -> Owner {
        let hash = FixedState::default().hash_one((domain, id));
        Owner { domain: Arc::clone(domain), id: Arc::clone(id), hash }
    }

    pub(super) fn domain(&self) -> &str {
        &self.domain
    }

    pub(super) fn id(&self) -> &Arc<str> {
        &self.id
    }
}

/// Which of an owner's series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Series {
    Decisions(LimitOutcome),
    Degraded(FailurePolicy),
    LimitRequests,
    FileRows,
    FileRowsExpired,
    /// Of the rules as a whole, whose hash is the id.
    Info,
}

impl Series {
    const fn metric(self) -> Metric {
        match self {
            Series::Decisions(_) => Metric::Decisions,
            Series::Degraded(_) => Metric::DegradedDecisions,
            Series::LimitRequests => Metric::LimitRequests,
            Series::FileRows => Metric::OverrideFileRows,
            Series::FileRowsExpired => Metric::OverrideFileRowsExpired,
            Series::Info => Metric::RulesInfo,
        }
    }
}

#[derive(Clone, Debug)]
struct SeriesKey {
    owner: Arc<Owner>,
    series: Series,
}

impl SeriesKey {
    /// The values of the metric's labels, in their order.
    fn labels(&self) -> impl Iterator<Item = &str> {
        let Owner { domain, id, .. } = &*self.owner;
        let (domain, id): (&str, &str) = (domain, id);
        let labels = match self.series {
            Series::Decisions(outcome) => [Some(domain), Some(id), Some(outcome.name())],
            Series::Degraded(policy) => [Some(policy.name()), Some(domain), Some(id)],
            Series::LimitRequests | Series::Info => [Some(id), None, None],
            Series::FileRows | Series::FileRowsExpired => [Some(domain), None, None],
        };
        labels.into_iter().flatten()
    }
}

impl PartialEq for SeriesKey {
    fn eq(&self, other: &SeriesKey) -> bool {
        let (one, two) = (&*self.owner, &*other.owner);
        self.series == other.series && one.domain == two.domain && one.id == two.id
    }
}

impl Eq for SeriesKey {}

/// The registry takes keys that know their hash: it must be written as one `u64`.
impl Hash for SeriesKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let turned = match self.series {
            Series::Decisions(outcome) => outcome as u32,
            Series::Degraded(policy) => 8 + policy as u32,
            Series::LimitRequests => 16,
            Series::FileRows => 17,
            Series::FileRowsExpired => 18,
            Series::Info => 19,
        };
        state.write_u64(self.owner.hash.rotate_left(turned));
    }
}

impl Hashable for SeriesKey {
    type Hasher = KeyHasher;
}

impl Default for RuleSeries {
    fn default() -> RuleSeries {
        RuleSeries(Registry::new(Cells))
    }
}

impl RuleSeries {
    pub(super) fn count(&self, owner: &Arc<Owner>, series: Series) -> Count {
        self.0.get_or_create_counter(&SeriesKey { owner: Arc::clone(owner), series }, Count::of)
    }

    pub(super) fn set(&self, owner: &Arc<Owner>, series: Series, level: f64) {
        self.0.get_or_create_gauge(&SeriesKey { owner: Arc::clone(owner), series }, |cell| cell.set(level));
    }

    /// Sets a gauge that is on the page.
    pub(super) fn update(&self, owner: &Arc<Owner>, series: Series, level: f64) {
        let key = SeriesKey { owner: Arc::clone(owner), series };
        self.0.get_gauge(&key).iter().for_each(|cell| cell.set(level));
    }

    /// Takes one of an owner's series off the page, if it is there.
    pub(super) fn remove(&self, owner: &Arc<Owner>, series: Series) {
        let key = SeriesKey { owner: Arc::clone(owner), series };
        self.0.delete_counter(&key);
        self.0.delete_gauge(&key);
    }

    /// Puts the series on the page; counters that are still 0 are left out, as three series for each of a hundred thousand
    /// limits would be a slow scrape of zeroes. No text is written while the registry is locked: a request may wait for it
    /// in an outage, to count its limit's first degraded decision.
    pub(super) fn put(&self, page: &mut Page) {
        let mut all = Vec::new();
        self.0.visit_counters(|key, cell| match cell.load(Relaxed) {
            0 => {}
            count => all.push((key.clone(), Value::Count(count))),
        });
        for (key, value) in all {
            page.put(key.series.metric(), key.labels(), value);
        }
        // Those are registered when rules are loaded, never by a request.
        self.0.visit_gauges(|key, cell| page.put(key.series.metric(), key.labels(), Value::Level(level(cell))));
    }
}
