//! Learns which limits with `count_denied: auto` are budgets, whose cost Envoy reports after it is spent. A check with
//! 0 hits before the request, or a request without a cost of the descriptor's own, shows that the cost comes
//! afterwards. Without either, a cost is checked before it is spent. It knows no store and reads no clock.

use std::{
    collections::HashMap,
    hash::BuildHasher as _,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use foldhash::fast::FixedState;

use crate::{
    limit::{Entry, Unit, UnixMicros},
    rules::{Domain, DomainIndex, Rule, Rules},
};

#[cfg(test)]
mod tests;

const MINUTE: u64 = 60_000_000;

/// How long a limit stays a budget after Envoy last used it as one: an hour, and a minute more because it is noted only
/// once a minute.
const HOLDS: u64 = 61 * MINUTE;

const NEVER: u64 = u64::MAX;

/// Number of kinds of limits that come with requests: 64 KiB of memory.
const KINDS: usize = 4_096;

/// Number of slots in which a kind may be.
const WAYS: usize = 4;

/// What was learned of each limit of a set of rules, and of limits that come with requests. All cores share it. The
/// memory that decisions read is written once a minute for each limit.
#[derive(Default)]
pub struct Budgets {
    /// The learned limits of each domain, by [`DomainIndex`].
    domains: Vec<DomainBudgets>,
    requested: Arc<RequestedBudgets>,
}

#[derive(Default)]
struct DomainBudgets {
    /// Position of each rule's first entry, by [`Rule::index`].
    begins: Vec<u32>,
    /// One entry for each limit of a rule, and one more for limits of overrides that replace none of them.
    limits: Vec<Learned>,
}

/// What was learned of one limit.
pub struct Learned {
    /// When Envoy last used the limit as a budget, to the minute, in µs; or [`NEVER`].
    shown: AtomicU64,
    /// Since when it is a budget, if it is one.
    since: AtomicU64,
}

impl Default for Learned {
    fn default() -> Learned {
        Learned { shown: AtomicU64::new(NEVER), since: AtomicU64::new(NEVER) }
    }
}

impl Clone for Learned {
    fn clone(&self) -> Learned {
        let copy = |of: &AtomicU64| AtomicU64::new(of.load(Relaxed));
        Learned { shown: copy(&self.shown), since: copy(&self.since) }
    }
}

impl Learned {
    /// Notes that Envoy used the limit as a budget at `now`. Costs one atomic load, except once a minute.
    pub(super) fn note(&self, now: UnixMicros) {
        // Also if the clock was set back: otherwise the old note would hold until time gets there again.
        if self.shown.load(Relaxed).abs_diff(now.0) >= MINUTE {
            self.renew(now);
        }
    }

    #[cold]
    fn renew(&self, now: UnixMicros) {
        if self.since(now).is_none() {
            self.since.store(now.0, Relaxed);
        }
        self.shown.store(now.0, Relaxed);
    }

    pub(super) fn is_budget(&self, now: UnixMicros) -> bool {
        self.shown.load(Relaxed).abs_diff(now.0) < HOLDS
    }

    /// Since when the limit has been a budget; `None` if it isn't one.
    pub fn since(&self, now: UnixMicros) -> Option<UnixMicros> {
        self.is_budget(now).then(|| UnixMicros(self.since.load(Relaxed)))
    }
}

impl Budgets {
    /// Budgets for `rules`. Limits with the same id keep what was learned in `last`.
    pub fn new(rules: &Rules, last: Option<(&Rules, &Budgets)>) -> Budgets {
        let old = last.map(|(rules, budgets)| budgets.by_id(rules)).unwrap_or_default();
        let of_domain = |domain: &Arc<Domain>| {
            let mut all = DomainBudgets::default();
            for rule in domain.rules() {
                all.begins.push(all.limits.len() as u32);
                all.limits.extend(ids(rule).map(|id| old.get(&id).map_or_else(Learned::default, |it| (*it).clone())));
            }
            all
        };
        let domains = rules.domains().iter().map(of_domain).collect();
        Budgets { domains, requested: last.map(|(_, last)| Arc::clone(&last.requested)).unwrap_or_default() }
    }

    /// What was learned of a rule's limit, by its position; without a position, of an override's limits that replace
    /// none.
    pub fn of(&self, domain: DomainIndex, rule: &Rule, place: Option<usize>) -> &Learned {
        let all = &self.domains[domain.0 as usize];
        &all.limits[all.begins[rule.index as usize] as usize + place.unwrap_or(rule.limits.len())]
    }

    /// What was learned of limits that come with requests.
    pub fn requested(&self) -> &RequestedBudgets {
        &self.requested
    }

    /// All that was learned: mostly little, and nothing for most rules.
    fn by_id<'r>(&'r self, rules: &'r Rules) -> HashMap<(bool, &'r str), &'r Learned> {
        let mut known = HashMap::new();
        for (domain, all) in rules.domains().iter().zip(&self.domains) {
            let learned = domain.rules().iter().flat_map(ids).zip(&all.limits);
            known.extend(learned.filter(|(_, it)| it.shown.load(Relaxed) != NEVER));
        }
        known
    }
}

/// The ids of a rule's limits, and, under the rule's own id, of the limits of overrides.
fn ids(rule: &Rule) -> impl Iterator<Item = (bool, &str)> {
    rule.limits.iter().map(|limit| (true, &*limit.id)).chain([(false, &*rule.id)])
}

/// What was learned of limits that come with requests, by their kind. There is no list of such limits, so there is
/// space for a fixed number of kinds, and a new kind replaces the one that was used longest ago.
pub struct RequestedBudgets(Box<[KindSlot]>);

#[derive(Default)]
struct KindSlot {
    /// The kind in the upper half; in the lower the second since the epoch when Envoy last used it as a budget; 0 in a
    /// free slot.
    shown: AtomicU64,
    /// When the kind became a budget, in seconds since the epoch.
    since: AtomicU64,
}

/// A kind of limits that come with requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestedKind(u64);

impl Default for RequestedBudgets {
    fn default() -> RequestedBudgets {
        RequestedBudgets((0..KINDS).map(|_| KindSlot::default()).collect())
    }
}

impl RequestedKind {
    /// The kind of limits that Envoy uses in the same way: those of one domain with the same keys and the same unit.
    /// Values differ from client to client, except for those that Envoy takes from its configuration.
    pub fn of(domain: &str, entries: &[Entry<'_>], unit: Unit) -> RequestedKind {
        const CONFIGURED: [&str; 3] = ["generic_key", "header_match", "query_match"];
        let mut kind = FixedState::default().hash_one((domain, unit));
        for Entry { key, value } in entries {
            let value = if CONFIGURED.contains(key) { Some(value) } else { None };
            kind = FixedState::with_seed(kind).hash_one((key, value));
        }
        RequestedKind(kind)
    }
}

impl RequestedBudgets {
    /// As [`Learned::note`].
    pub(super) fn note(&self, kind: RequestedKind, now: UnixMicros) {
        let (tag, second) = (tag(kind), second(now));
        let slots = self.slots(kind);
        let known = slots.iter().find(|slot| slot.shown.load(Relaxed) >> 32 == tag);
        if known.is_some_and(|slot| age(slot, second) * 1_000_000 < MINUTE) {
            return;
        }
        let slot =
            known.unwrap_or_else(|| slots.iter().max_by_key(|slot| age(slot, second)).expect("there are several ways"));
        if known.is_none() || self.since(kind, now).is_none() {
            slot.since.store(second, Relaxed);
        }
        slot.shown.store(tag << 32 | second, Relaxed);
    }

    pub(super) fn is_budget(&self, kind: RequestedKind, now: UnixMicros) -> bool {
        self.since(kind, now).is_some()
    }

    /// As [`Learned::since`].
    pub fn since(&self, kind: RequestedKind, now: UnixMicros) -> Option<UnixMicros> {
        let second = second(now);
        let known = self.slots(kind).iter().find(|slot| slot.shown.load(Relaxed) >> 32 == tag(kind))?;
        let holds = age(known, second) * 1_000_000 < HOLDS;
        holds.then(|| UnixMicros(known.since.load(Relaxed) * 1_000_000))
    }

    fn slots(&self, kind: RequestedKind) -> &[KindSlot] {
        let first = kind.0 as usize % (KINDS / WAYS) * WAYS;
        &self.0[first..first + WAYS]
    }
}

/// The hash of a kind; never 0, which marks a free slot.
fn tag(kind: RequestedKind) -> u64 {
    (kind.0 >> 32).max(1)
}

/// Seconds since the epoch; the last that fits is in 2106.
fn second(now: UnixMicros) -> u64 {
    (now.0 / 1_000_000).min(u64::from(u32::MAX))
}

/// The time between two seconds, whichever is later.
fn age(slot: &KindSlot, second: u64) -> u64 {
    (slot.shown.load(Relaxed) & u64::from(u32::MAX)).abs_diff(second)
}
