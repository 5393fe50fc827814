//! What each limit decided. Counters stand beside the rules and leave with them; a limit that stays over a reload
//! keeps its numbers.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use crate::metrics::envoyproxy::{
    named,
    tally::{COUNTERS, Hits, Tally},
};
use crate::{
    limit::FailurePolicy,
    rules::{Domain, DomainIndex, Rule, Rules, override_id},
};

/// What a limit's answer came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Ok,
    OverLimit,
    /// Refused, but without a say: `shadow_mode` or `enforce: false`.
    Shadow,
}

impl Outcome {
    pub(super) const ALL: [Outcome; 3] = [Outcome::Ok, Outcome::OverLimit, Outcome::Shadow];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Outcome::Ok => "ok",
            Outcome::OverLimit => "over_limit",
            Outcome::Shadow => "shadow",
        }
    }
}

/// Decisions of one limit, by outcome, and its hits as the reference counts them; what only an outage counts comes last.
#[derive(Default)]
#[repr(align(64))]
pub(super) struct Meter {
    outcomes: [AtomicU64; 3],
    pub(super) hits: Hits,
    /// Requests that its policy decided in the store's place, by policy.
    degraded: [AtomicU64; 4],
}

impl Meter {
    fn count(&self, outcome: Outcome) {
        self.outcomes[outcome as usize].fetch_add(1, Relaxed);
    }

    pub(super) fn get(&self, outcome: Outcome) -> u64 {
        self.outcomes[outcome as usize].load(Relaxed)
    }

    pub(super) fn degraded(&self, policy: FailurePolicy) -> u64 {
        self.degraded[policy as usize].load(Relaxed)
    }
}

/// One meter for each limit of a set of rules, found by position.
#[derive(Default)]
pub struct Meters {
    domains: Vec<DomainMeters>,
}

#[derive(Default)]
struct DomainMeters {
    /// By [`Rule::index`].
    rules: Vec<RuleMeters>,
    /// Limits that came with requests.
    requested: Arc<Meter>,
    /// Limits of overrides that take the place of none of their rule's.
    overridden: Arc<Meter>,
}

struct RuleMeters {
    /// By position of the limit.
    limits: Box<[Arc<Meter>]>,
    /// Its hits are counted under names that carry values of requests.
    is_named: bool,
}

/// The id under which limits that came with requests are counted.
pub(crate) fn requested_id(domain: &str) -> String {
    format!("{domain}/(request)")
}

impl Meters {
    /// Meters for `rules`; those of `last` whose limits have the same id go on.
    pub fn new(rules: &Rules, last: Option<(&Rules, &Meters)>) -> Meters {
        let old: HashMap<String, Arc<Meter>> = last.map(|(rules, meters)| meters.by_id(rules)).unwrap_or_default();
        let meter = |id: &str| old.get(id).cloned().unwrap_or_default();
        let rule_meters = |rule: &Rule| RuleMeters {
            limits: rule.limits.iter().map(|limit| meter(&limit.id)).collect(),
            is_named: named::is_named(rule),
        };
        let domain_meters = |domain: &Arc<Domain>| DomainMeters {
            rules: domain.rules().iter().map(rule_meters).collect(),
            requested: meter(&requested_id(domain.name())),
            overridden: meter(&override_id(domain.name())),
        };
        Meters { domains: rules.domains().iter().map(domain_meters).collect() }
    }

    /// `limit` is the position of the rule's limit that decided, or whose place an override takes.
    pub fn count(&self, domain: DomainIndex, rule: &Rule, limit: Option<usize>, outcome: Outcome) {
        match limit {
            Some(limit) => self.of(domain, rule).limits[limit].count(outcome),
            None => self.domains[domain.0 as usize].overridden.count(outcome),
        }
    }

    /// Adds to a limit's hits; `false` if those are counted under names of their own, or nowhere yet.
    pub(super) fn add(&self, domain: DomainIndex, rule: &Rule, limit: Option<usize>, tally: Tally) -> bool {
        let meters = self.of(domain, rule);
        // All limits of a rule have one name there.
        match meters.limits.get(limit.unwrap_or(0)).filter(|_| !meters.is_named) {
            Some(meter) => meter.hits.add(tally),
            None => return false,
        }
        true
    }

    fn of(&self, domain: DomainIndex, rule: &Rule) -> &RuleMeters {
        &self.domains[domain.0 as usize].rules[rule.index as usize]
    }

    pub fn count_requested(&self, domain: DomainIndex, outcome: Outcome) {
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
        meter.degraded[policy as usize].fetch_add(1, Relaxed);
    }

    /// Every meter with its limit's id and the name of its domain.
    pub(super) fn each<'r>(&'r self, rules: &'r Rules, mut visit: impl FnMut(&'r str, &str, &'r Arc<Meter>)) {
        for (domain, meters) in rules.domains().iter().zip(&self.domains) {
            for (rule, of_rule) in domain.rules().iter().zip(&meters.rules) {
                for (limit, meter) in rule.limits.iter().zip(&of_rule.limits) {
                    visit(domain.name(), &limit.id, meter);
                }
            }
            visit(domain.name(), &requested_id(domain.name()), &meters.requested);
            visit(domain.name(), &override_id(domain.name()), &meters.overridden);
        }
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
                    visit(domain, rule, meter.hits.get());
                }
            }
        }
    }

    fn by_id(&self, rules: &Rules) -> HashMap<String, Arc<Meter>> {
        let mut all = HashMap::new();
        self.each(rules, |_, id, meter| {
            all.insert(id.to_string(), Arc::clone(meter));
        });
        all
    }
}
