//! What each limit decided. The handles of a limit's counters are resolved when its rules are loaded and stand beside
//! them, so that a decision is one addition; a limit that stays over a reload keeps them, and one that goes takes its
//! series along.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

use super::{
    limits::{LimitOutcome, Owner, RuleSeries, Series},
    page::Page,
    recorder::Count,
};
use crate::metrics::envoyproxy::{
    detailed,
    hit_counts::{COUNTERS, HitCounters, HitCounts},
};
use crate::{
    limit::{FailurePolicy, UnixMicros},
    rules::{Domain, DomainIndex, Rule, Rules, override_limit_id},
};

/// The counters of one limit.
#[derive(Clone)]
struct Meter {
    /// By outcome.
    decisions: [Count; 3],
    rest: Arc<Rest>,
}

/// What a limit counts besides, shared by all sets of rules that have the limit.
struct Rest {
    owner: Arc<Owner>,
    /// As envoyproxy/ratelimit counts them.
    hits: HitCounters,
    /// Requests that its policy decided in the store's place, by policy: registered by the first, since most limits never
    /// see an outage.
    degraded: OnceLock<Box<[Count; 4]>>,
    /// Its series are off the page.
    is_retired: AtomicBool,
}

impl Meter {
    fn new(series: &RuleSeries, owner: Owner) -> Meter {
        let owner = Arc::new(owner);
        let decisions = LimitOutcome::ALL.map(|outcome| series.count(&owner, Series::Decisions(outcome)));
        let rest =
            Rest { owner, hits: HitCounters::default(), degraded: OnceLock::new(), is_retired: AtomicBool::new(false) };
        Meter { decisions, rest: Arc::new(rest) }
    }

    fn count(&self, outcome: LimitOutcome) {
        self.decisions[outcome as usize].add(1);
    }

    fn count_degraded(&self, series: &RuleSeries, policy: FailurePolicy) {
        let Rest { owner, degraded, is_retired, .. } = &*self.rest;
        let counts = degraded.get_or_init(|| {
            let counts = Box::new(FailurePolicy::ALL.map(|policy| series.count(owner, Series::Degraded(policy))));
            // A request that began with rules which have been replaced since. Whoever is second of this and
            // `Meter::retire` takes the series away.
            if is_retired.load(SeqCst) {
                FailurePolicy::ALL.iter().for_each(|policy| series.remove(owner, Series::Degraded(*policy)));
            }
            counts
        });
        counts[policy as usize].add(1);
    }

    /// Takes its series off the page.
    fn retire(&self, series: &RuleSeries) {
        let Rest { owner, is_retired, .. } = &*self.rest;
        is_retired.store(true, SeqCst);
        LimitOutcome::ALL.iter().for_each(|outcome| series.remove(owner, Series::Decisions(*outcome)));
        FailurePolicy::ALL.iter().for_each(|policy| series.remove(owner, Series::Degraded(*policy)));
        series.remove(owner, Series::LimitRequests);
    }
}

/// One meter for each limit of a set of rules, found by position.
#[derive(Default)]
pub struct Meters {
    domains: Vec<DomainMeters>,
    /// What the rules as a whole have on the page, by their hash.
    whole: Option<Arc<Owner>>,
    series: Arc<RuleSeries>,
}

struct DomainMeters {
    owner: Arc<Owner>,
    /// By [`Rule::index`].
    rules: Vec<RuleMeters>,
    /// Limits that came with requests.
    requested: Meter,
    /// Limits of overrides that take the place of none of their rule's.
    overridden: Meter,
}

struct RuleMeters {
    /// By position of the limit.
    limits: Box<[Meter]>,
    /// Its hits are counted under names that carry values of requests.
    is_detailed: bool,
}

/// The id under which limits that came with requests are counted.
pub(crate) fn requested_id(domain: &str) -> String {
    format!("{domain}/(request)")
}

impl Meters {
    /// Meters for `rules`; those of `last` whose limits have the same id go on, and the series of the others leave the page.
    pub fn new(rules: &Rules, last: Option<(&Rules, &Meters)>) -> Meters {
        let series = last.map(|(_, meters)| Arc::clone(&meters.series)).unwrap_or_default();
        let mut old: HashMap<Arc<str>, Meter> = last.map(|(_, meters)| meters.by_id()).unwrap_or_default();
        let mut meter = |domain: &Arc<str>, id: &Arc<str>| {
            old.remove(id).unwrap_or_else(|| Meter::new(&series, Owner::new(domain, id)))
        };
        let domain_meters = |domain: &Arc<Domain>| {
            let name: Arc<str> = domain.name().into();
            let rules = domain.rules().iter().map(|rule| RuleMeters {
                limits: rule.limits.iter().map(|limit| meter(&name, &limit.id)).collect(),
                is_detailed: detailed::is_detailed(rule),
            });
            DomainMeters {
                rules: rules.collect(),
                requested: meter(&name, &requested_id(&name).into()),
                overridden: meter(&name, &override_limit_id(&name).into()),
                owner: Arc::new(Owner::new(&name, &"".into())),
            }
        };
        let domains = rules.domains().iter().map(domain_meters).collect();
        let whole = Some(Arc::new(Owner::new(&"".into(), &rules.hash().into())));
        let meters = Meters { domains, whole, series };
        meters.show(rules);
        old.values().for_each(|meter| meter.retire(&meters.series));
        if let Some((_, last)) = last {
            last.retire_domains_but(&meters);
        }
        meters
    }

    /// Puts on the page what the rules say.
    fn show(&self, rules: &Rules) {
        for (domain, meters) in rules.domains().iter().zip(&self.domains) {
            self.series.set(&meters.owner, Series::FileRows, domain.overrides().len() as f64);
            self.series.set(&meters.owner, Series::FileRowsExpired, 0.0);
            for (rule, of_rule) in domain.rules().iter().zip(&meters.rules) {
                for (limit, meter) in rule.limits.iter().zip(&of_rule.limits) {
                    let requests = f64::from(limit.limit.requests);
                    self.series.set(&meter.rest.owner, Series::LimitRequests, requests);
                }
            }
        }
        self.whole.iter().for_each(|whole| self.series.set(whole, Series::Info, 1.0));
    }

    /// Takes off the page what the rules as a whole and their domains have there and `next` hasn't.
    fn retire_domains_but(&self, next: &Meters) {
        let stays: HashSet<&str> = next.domains.iter().map(|meters| meters.owner.domain()).collect();
        for DomainMeters { owner, .. } in &self.domains {
            if !stays.contains(owner.domain()) {
                self.series.remove(owner, Series::FileRows);
                self.series.remove(owner, Series::FileRowsExpired);
            }
        }
        let id = |of: &Meters| of.whole.as_ref().map(|whole| Arc::clone(whole.id()));
        if id(self) != id(next) {
            self.whole.iter().for_each(|whole| self.series.remove(whole, Series::Info));
        }
    }

    /// Puts the series of `rules` on the page.
    pub(super) fn put(&self, page: &mut Page, rules: &Rules, now: UnixMicros) {
        for (domain, meters) in rules.domains().iter().zip(&self.domains) {
            self.series.update(&meters.owner, Series::FileRowsExpired, domain.overrides().expired(now) as f64);
        }
        self.series.put(page);
    }

    /// `limit` is the position of the rule's limit that decided, or whose place an override takes.
    pub fn count(&self, domain: DomainIndex, rule: &Rule, limit: Option<usize>, outcome: LimitOutcome) {
        match limit {
            Some(limit) => self.of(domain, rule).limits[limit].count(outcome),
            None => self.domains[domain.0 as usize].overridden.count(outcome),
        }
    }

    /// Adds to a limit's hits; `false` if those are counted under names of their own, or nowhere yet.
    pub(super) fn add(&self, domain: DomainIndex, rule: &Rule, limit: Option<usize>, counts: HitCounts) -> bool {
        let meters = self.of(domain, rule);
        // All limits of a rule have one name there.
        match meters.limits.get(limit.unwrap_or(0)).filter(|_| !meters.is_detailed) {
            Some(meter) => meter.rest.hits.add(counts),
            None => return false,
        }
        true
    }

    fn of(&self, domain: DomainIndex, rule: &Rule) -> &RuleMeters {
        &self.domains[domain.0 as usize].rules[rule.index as usize]
    }

    pub fn count_requested(&self, domain: DomainIndex, outcome: LimitOutcome) {
        self.domains[domain.0 as usize].requested.count(outcome);
    }

    /// A request that `policy` decided in the store's place: that of a rule's limit, as in [`Meters::count`], or, without
    /// a rule, that of a limit that came with the request.
    pub fn count_degraded(&self, domain: DomainIndex, of: Option<(&Rule, Option<usize>)>, policy: FailurePolicy) {
        let meters = &self.domains[domain.0 as usize];
        let meter = match of {
            Some((rule, Some(limit))) => &meters.rules[rule.index as usize].limits[limit],
            Some((_, None)) => &meters.overridden,
            None => &meters.requested,
        };
        meter.count_degraded(&self.series, policy);
    }

    /// The hits of every rule that has a limit and names of its own words only.
    pub(super) fn each_hits<'r>(
        &'r self,
        rules: &'r Rules,
        mut visit: impl FnMut(&'r Domain, &'r Rule, [u64; COUNTERS.len()]),
    ) {
        for (domain, meters) in rules.domains().iter().zip(&self.domains) {
            for (rule, of_rule) in domain.rules().iter().zip(&meters.rules) {
                for meter in &of_rule.limits {
                    visit(domain, rule, meter.rest.hits.get());
                }
            }
        }
    }

    /// Every limit of the rules, in their order, with its decisions by outcome: admitted, refused, would be refused.
    pub fn each_limit<'r>(&self, rules: &'r Rules, mut visit: impl FnMut(&'r Rule, [u64; 3])) {
        for (domain, meters) in rules.domains().iter().zip(&self.domains) {
            for (rule, of_rule) in domain.rules().iter().zip(&meters.rules) {
                for meter in &of_rule.limits {
                    visit(rule, meter.decisions.each_ref().map(Count::get));
                }
            }
        }
    }

    fn by_id(&self) -> HashMap<Arc<str>, Meter> {
        let of_domain = |domain: &DomainMeters| {
            let of_rules = domain.rules.iter().flat_map(|rule| rule.limits.iter());
            let all = of_rules.chain([&domain.requested, &domain.overridden]);
            all.map(|meter| (Arc::clone(meter.rest.owner.id()), meter.clone())).collect::<Vec<_>>()
        };
        self.domains.iter().flat_map(of_domain).collect()
    }
}
