//! What each limit decided. Counters stand beside the rules and leave with them; a limit that stays over a reload
//! keeps its numbers.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use crate::rules::{DomainIndex, Rule, Rules};

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

/// Decisions of one limit, by outcome.
#[derive(Default)]
pub(super) struct Meter([AtomicU64; 3]);

impl Meter {
    fn count(&self, outcome: Outcome) {
        self.0[outcome as usize].fetch_add(1, Relaxed);
    }

    pub(super) fn get(&self, outcome: Outcome) -> u64 {
        self.0[outcome as usize].load(Relaxed)
    }
}

/// One meter for each limit of a set of rules, found by position.
#[derive(Default)]
pub struct Meters {
    domains: Vec<DomainMeters>,
}

#[derive(Default)]
struct DomainMeters {
    /// By [`Rule::index`], then by position of the limit.
    rules: Vec<Box<[Arc<Meter>]>>,
    /// Limits that came with requests.
    requested: Arc<Meter>,
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
        let domain_meters = |domain: &Arc<crate::rules::Domain>| DomainMeters {
            rules: domain
                .rules()
                .iter()
                .map(|rule| rule.limits.iter().map(|limit| meter(&limit.id)).collect())
                .collect(),
            requested: meter(&requested_id(domain.name())),
        };
        Meters { domains: rules.domains().iter().map(domain_meters).collect() }
    }

    pub fn count(&self, domain: DomainIndex, rule: &Rule, limit: usize, outcome: Outcome) {
        self.domains[domain.0 as usize].rules[rule.index as usize][limit].count(outcome);
    }

    pub fn count_requested(&self, domain: DomainIndex, outcome: Outcome) {
        self.domains[domain.0 as usize].requested.count(outcome);
    }

    /// Every meter with its limit's id and the name of its domain.
    pub(super) fn each<'r>(&'r self, rules: &'r Rules, mut visit: impl FnMut(&'r str, &str, &'r Arc<Meter>)) {
        for (domain, meters) in rules.domains().iter().zip(&self.domains) {
            for (rule, of_rule) in domain.rules().iter().zip(&meters.rules) {
                for (limit, meter) in rule.limits.iter().zip(of_rule) {
                    visit(domain.name(), &limit.id, meter);
                }
            }
            visit(domain.name(), &requested_id(domain.name()), &meters.requested);
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
