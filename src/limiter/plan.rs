//! Turns a request into the list of its counter checks: which counters it touches, with what limit, cost and role. These
//! are the matching rules of envoyproxy/ratelimit (`replaces`, `unlimited`, limits that come with the request, quota and
//! shadow) and Tollgate's overrides. It asks no store.
//!
//! What limits a descriptor is the first of these that there is:
//!
//! 1. the caller's own limit, for the last descriptor of a request of the API's `check`;
//! 2. a run-time override of the rule that matched;
//! 3. the limit that the descriptor brings (Envoy's `limit`), in a domain that is known;
//! 4. an override in a file;
//! 5. the limits of the rule. Nothing, if no rule matched or the rule has none.
//!
//! A limit of 2, 4 or 5 is left out if a rule that another descriptor matched names it, or the whole rule, in
//! `replaces`. A check's role is *shadow* if its rule or its limit never denies this client, else *quota* in quota mode,
//! else *enforced*.
//!
//! Invariants: (1) one planned descriptor for each descriptor of the request, in order; (2) the ranges of the planned
//! descriptors are consecutive, and together they are all checks; (3) a descriptor's checks are its limits that apply,
//! in their order; (4) a counter's key has the algorithm and the window of its limit, but not how many hits it admits,
//! so that a raised limit or an override goes on with the count.
//!
//! Example: a request has the descriptors `user=alice`, `path=/up` and `host=x`. The rule of `user` has a limit named
//! `burst` of 10 per second and one of 100 per minute; the rule of `path` has one of 5 per minute and replaces `burst`;
//! `host` has no rule. The plan is: `user` with check 0 (100 per minute), `path` with check 1 (5 per minute), `host`
//! without a match. If alice has a run-time override of 500 per minute, check 0 has that limit instead, and the same
//! counter.

use std::ops::Range;

use smallvec::SmallVec;

use super::{
    budgets::{Budgets, Learned, RequestedKind},
    decision::DecideError,
    modes::Modes,
    switched::{self, Switching},
};
use crate::{
    limit::{
        Algorithm, ClientPart, Cost, CountDenied, DESCRIPTORS_MAX, Descriptor, ENTRIES_MAX, EnforcedShare, Entry,
        FailurePolicy, HITS_MAX, Limit, Origin, Request, SLIDING_LOG_MAX, Unit, UnixMicros,
    },
    rules::{
        DomainIndex, Rule, RuleLimit, RuleMatch, Rules,
        rows::{OverrideLimits, RowRef},
    },
    run_time::{
        overrides::{DomainChanges, ResolvedOverride},
        switches::SwitchMode,
    },
    store::{CounterCheck, Gate, Key, Role},
};

/// The rule number under which limits that come with requests share the capacity of a full memory store.
const REQUESTED: u32 = u32::MAX;

/// What a request is matched against, and when.
#[derive(Clone, Copy)]
pub(super) struct PlanInputs<'a> {
    pub rules: &'a Rules,
    /// What is changed at run time in the domain, if anything is.
    pub changes: Option<&'a DomainChanges>,
    pub budgets: &'a Budgets,
    pub now: UnixMicros,
}

/// A request that was matched against the rules: its counter checks, and what each descriptor's checks are for.
pub(super) struct Plan<'a> {
    /// What each descriptor matched, in order.
    pub descriptors: SmallVec<[PlannedDescriptor<'a>; 3]>,
    /// The counter checks of all descriptors, in order.
    pub checks: SmallVec<[CounterCheck<'a>; 3]>,
    pub gate: Gate,
}

/// What one descriptor was matched to. The ranges are positions in [`Plan::checks`].
pub(super) enum PlannedDescriptor<'a> {
    UnknownDomain,
    NoMatch,
    /// A rule without a limit, or one replaced by another descriptor's rule.
    NoLimit,
    /// Unlimited by the rule itself, or by an override.
    Unlimited(Option<AppliedOverride<'a>>),
    /// A rule's or an override's limits, with one check for each that applies.
    Ruled {
        domain: DomainIndex,
        rule: &'a Rule,
        applied: AppliedLimits<'a>,
        checks: Range<usize>,
    },
    /// The request brought its own limit.
    Requested {
        domain: DomainIndex,
        checks: Range<usize>,
    },
}

/// The override that takes the place of a rule's limits.
#[derive(Clone, Copy)]
pub(super) enum AppliedOverride<'a> {
    InFile(RowRef<'a>),
    RunTime(&'a ResolvedOverride),
}

/// The limits that apply to a descriptor in a request: those of its rule, or of an override in their place.
#[derive(Clone, Copy)]
pub(super) struct AppliedLimits<'a> {
    rule: &'a Rule,
    limits: &'a [RuleLimit],
    /// Bit `n` is set if the limit at position `n` doesn't apply: another rule of the request replaces it, or it is
    /// switched off.
    left_out: u32,
    /// The override that the limits come from, if they do.
    pub overridden_by: Option<AppliedOverride<'a>>,
}

impl<'a> AppliedLimits<'a> {
    /// The limits that `is_so` is true of, as bits by position; also of those that don't apply.
    fn bits(self, is_so: impl Fn(&'a RuleLimit) -> bool) -> u32 {
        let positions = self.limits.iter().enumerate().filter(|(_, limit)| is_so(limit)).map(|(position, _)| position);
        positions.fold(0, |bits, position| bits | 1 << position)
    }

    /// The rule's limit that one of these is or stands for; an override's own where that isn't clear.
    pub(super) fn identity(self, limit: &'a RuleLimit) -> &'a RuleLimit {
        self.rule_position(limit).map_or(limit, |place| &self.rule.limits[place])
    }

    /// The limit of each check, in order.
    pub(super) fn limits(self) -> impl Iterator<Item = &'a RuleLimit> {
        let stays = move |(position, _): &(usize, &RuleLimit)| self.left_out & (1 << position) == 0;
        self.limits.iter().enumerate().filter(stays).map(|(_, limit)| limit)
    }

    pub(super) fn limit(self, check: usize) -> Option<&'a RuleLimit> {
        self.limits().nth(check)
    }

    /// For each check the position of its limit in the rule. For an override's limit this is the limit that it
    /// replaces, if it is clear which.
    pub(super) fn rule_positions(self) -> impl Iterator<Item = Option<usize>> {
        self.limits().map(move |limit| self.rule_position(limit))
    }

    fn rule_position(self, limit: &RuleLimit) -> Option<usize> {
        match self.overridden_by {
            None => self.limits.iter().position(|own| std::ptr::eq(own, limit)),
            Some(_) if self.limits.len() == 1 && self.rule.limits.len() == 1 => Some(0),
            Some(_) => limit
                .name
                .as_ref()
                .and_then(|name| self.rule.limits.iter().position(|own| own.name.as_ref() == Some(name))),
        }
    }

    /// The limit whose id is reported for a check: the rule's limit that it is, or that it replaces; else the override's
    /// own.
    pub(super) fn counted_as(self, check: usize) -> Option<&'a RuleLimit> {
        self.limit(check).map(|limit| self.identity(limit))
    }

    /// As [`AppliedLimits::counted_as`], for each check in order.
    pub(super) fn all_counted_as(self) -> impl Iterator<Item = &'a RuleLimit> {
        self.limits().map(move |limit| self.rule_position(limit).map_or(limit, |place| &self.rule.limits[place]))
    }

    /// The failure policy of each check, in order.
    pub(super) fn policies(self, default: FailurePolicy) -> impl Iterator<Item = FailurePolicy> {
        self.limits().map(move |limit| limit.on_store_failure.or(self.rule.on_store_failure).unwrap_or(default))
    }
}

impl PlannedDescriptor<'_> {
    pub(super) fn checks(&self) -> Range<usize> {
        match self {
            PlannedDescriptor::Ruled { checks, .. } | PlannedDescriptor::Requested { checks, .. } => checks.clone(),
            PlannedDescriptor::UnknownDomain
            | PlannedDescriptor::NoMatch
            | PlannedDescriptor::NoLimit
            | PlannedDescriptor::Unlimited(_) => 0..0,
        }
    }
}

impl<'a> Plan<'a> {
    /// An empty plan.
    pub(super) fn new(modes: Modes) -> Plan<'a> {
        let gate = Gate { quota_open: false, never_deny: modes.shadow };
        Plan { descriptors: SmallVec::new(), checks: SmallVec::new(), gate }
    }

    /// Fills the plan. `wall` returns the time by which overrides end; it is only called if an override that ends would
    /// apply. In place, because a plan is long: passing it on by value makes the processor wait until all of it is
    /// written, before it can look for the first counter.
    pub(super) fn fill(
        &mut self,
        request: &'a Request<'_>,
        by: PlanInputs<'a>,
        modes: Modes,
        wall: impl Fn() -> UnixMicros + Copy,
    ) -> Result<(), DecideError> {
        check(request)?;
        let mut found: SmallVec<[RuleMatch<'a>; 4]> = SmallVec::new();
        for descriptor in &request.descriptors {
            found.push(by.rules.find(request.domain, &descriptor.entries));
        }
        for (descriptor, found_rule) in request.descriptors.iter().zip(&found) {
            let planned = self.add(request, (descriptor, *found_rule), &found, by, modes, wall);
            // Global QUOTA_MODE counts a descriptor without a limit as a quota that is never used up. So does a quota
            // rule that is also in shadow mode, and therefore never refuses (reference §3, M23 and M24).
            let open = match &planned {
                PlannedDescriptor::UnknownDomain | PlannedDescriptor::NoMatch | PlannedDescriptor::NoLimit => {
                    modes.quota
                }
                // A switch may enforce the limits of a rule in shadow mode.
                PlannedDescriptor::Ruled { rule, checks, .. } => {
                    let is_shadow = |check: &CounterCheck<'_>| check.role == Role::Shadow;
                    rule.shadow_mode
                        && (rule.quota_mode || modes.quota)
                        && self.checks[checks.clone()].iter().all(is_shadow)
                }
                PlannedDescriptor::Unlimited(_) | PlannedDescriptor::Requested { .. } => false,
            };
            self.gate.quota_open |= open;
            self.descriptors.push(planned);
        }
        Ok(())
    }

    fn add(
        &mut self,
        request: &'a Request<'_>,
        (descriptor, found): (&'a Descriptor<'_>, RuleMatch<'a>),
        all: &[RuleMatch<'a>],
        by: PlanInputs<'a>,
        modes: Modes,
        wall: impl Fn() -> UnixMicros + Copy,
    ) -> PlannedDescriptor<'a> {
        let rules = by.rules;
        let start = self.checks.len();
        if let Some(limit) = request.caller_limit.filter(|_| self.descriptors.len() + 1 == request.descriptors.len()) {
            let Some(domain) = rules.domain(request.domain) else { return PlannedDescriptor::UnknownDomain };
            return self.add_requested(caller_check(request, descriptor, *limit, modes), domain, by, wall);
        }
        let set = match (by.changes.and_then(|changes| changes.overrides.as_ref()), found) {
            (Some(lookup), RuleMatch::Rule { domain, rule }) => {
                lookup.find(rules.of(domain), rule, &descriptor.entries, wall)
            }
            _ => None,
        };
        if let (Some((requests, unit)), None) = (descriptor.limit, set) {
            // A limit that comes with the request beats every rule, but only in a domain that is known.
            let Some(domain) = rules.domain(request.domain) else { return PlannedDescriptor::UnknownDomain };
            // If a rule counts the same entries in the same window, both have the same counter, so it must get the same
            // bucket.
            let variable = if let RuleMatch::Rule { rule, .. } = found { rule.variable } else { 0 };
            let check = requested_check((request, descriptor), (requests, unit), variable, by, modes);
            return self.add_requested(check, domain, by, wall);
        }
        match found {
            RuleMatch::Rule { domain, rule } => {
                let on_disk = || {
                    let (row, probe) = rules.override_of(domain, rule, &descriptor.entries, wall)?;
                    Some((row.limits(), probe, AppliedOverride::InFile(row)))
                };
                let set = set.map(|(row, probe)| (&*row.limits, probe, AppliedOverride::RunTime(row)));
                let (limits, shared, row) = match set.or_else(on_disk) {
                    None if rule.unlimited => return PlannedDescriptor::Unlimited(None),
                    None => (rule.limits.as_slice(), rule.shared.as_slice(), None),
                    Some((OverrideLimits::Unlimited, _, row)) => return PlannedDescriptor::Unlimited(Some(row)),
                    Some((OverrideLimits::Limits(limits), probe, row)) => {
                        (limits.as_slice(), probe.shared.as_deref().unwrap_or(&rule.shared), Some(row))
                    }
                };
                let left_out = replaced(rule, limits, request, all);
                let mut counted = AppliedLimits { rule, limits, left_out, overridden_by: row };
                let switching = Switching::of(by.changes);
                if !switching.is_empty() {
                    counted.left_out |= counted.bits(|limit| switching.is_off(rule, counted.identity(limit), wall));
                }
                for limit in counted.limits() {
                    let place = counted.rule_position(limit);
                    let learned = by.budgets.of(domain, rule, place);
                    let when = limit.count_denied;
                    let charge_denied = charges_denied(when, (request, descriptor), (learned, by.now));
                    let cost = cost(request, descriptor, charge_denied);
                    let mut check = rule_check((request, descriptor), (rule, shared), (limit, place), cost, modes);
                    if let Some(switch) = switching.of_limit(rule, counted.identity(limit), wall) {
                        switched::apply(&mut check, switch, matches!(row, Some(AppliedOverride::RunTime(_))));
                        if let SwitchMode::Enforce(share) = switch.mode
                            && let Some(share) = switched::share(share, limit, row.is_some())
                        {
                            let part = || client_part(rule, counted.identity(limit), &check.key);
                            check.role = role(rule, share, part, modes);
                        }
                    }
                    self.checks.push(check);
                }
                match start..self.checks.len() {
                    checks if checks.is_empty() => PlannedDescriptor::NoLimit,
                    checks => PlannedDescriptor::Ruled { domain, rule, applied: counted, checks },
                }
            }
            RuleMatch::UnknownDomain => PlannedDescriptor::UnknownDomain,
            RuleMatch::NoMatch => PlannedDescriptor::NoMatch,
        }
    }

    /// Adds the check of a limit that the request brought.
    fn add_requested(
        &mut self,
        mut check: CounterCheck<'a>,
        domain: DomainIndex,
        by: PlanInputs<'a>,
        wall: impl Fn() -> UnixMicros + Copy,
    ) -> PlannedDescriptor<'a> {
        let switch = Switching::of(by.changes).of_requested(check.key.domain, wall);
        if switch.is_some_and(|switch| switch.mode == SwitchMode::Off) {
            return PlannedDescriptor::NoLimit;
        }
        if let Some(switch) = switch {
            switched::apply(&mut check, switch, false);
        }
        let start = self.checks.len();
        self.checks.push(check);
        PlannedDescriptor::Requested { domain, checks: start..start + 1 }
    }
}

fn check(request: &Request<'_>) -> Result<(), DecideError> {
    if request.domain.is_empty() {
        return Err(DecideError::EmptyDomain);
    }
    if request.descriptors.is_empty() {
        return Err(DecideError::NoDescriptors);
    }
    if request.descriptors.len() > DESCRIPTORS_MAX {
        return Err(DecideError::TooManyDescriptors);
    }
    let entries: usize = request.descriptors.iter().map(|descriptor| descriptor.entries.len()).sum();
    if entries > ENTRIES_MAX {
        return Err(DecideError::TooManyEntries);
    }
    Ok(())
}

/// The limits, as bits by position, that another rule of the request names in its `replaces`. Mutual replacement
/// removes both. A rule that is beaten by the request's own limit replaces nothing.
fn replaced(rule: &Rule, limits: &[RuleLimit], request: &Request<'_>, all: &[RuleMatch<'_>]) -> u32 {
    let mut replaced = 0;
    for (descriptor, found) in request.descriptors.iter().zip(all) {
        let RuleMatch::Rule { rule: by, .. } = found else { continue };
        if by.replaces.is_empty() || descriptor.limit.is_some() {
            continue;
        }
        if !rule.name.is_empty() && by.replaces.contains(&rule.name) {
            return u32::MAX;
        }
        for (position, limit) in limits.iter().enumerate() {
            if limit.name.as_ref().is_some_and(|name| by.replaces.contains(name)) {
                replaced |= 1 << position;
            }
        }
    }
    replaced
}

/// Whether a descriptor's hits are charged even if they are refused. A request from Envoy also shows here whether the
/// limit is a budget.
#[inline]
fn charges_denied(
    when: CountDenied,
    (request, descriptor): (&Request<'_>, &Descriptor<'_>),
    (learned, now): (&Learned, UnixMicros),
) -> bool {
    if when == CountDenied::Auto && shows_budget(request, descriptor) {
        learned.note(now);
    }
    when.charges(request.origin, descriptor.hits, || learned.is_budget(now))
}

/// Whether the request is how Envoy checks a budget beforehand, whose cost it reports afterwards.
fn shows_budget(request: &Request<'_>, descriptor: &Descriptor<'_>) -> bool {
    request.origin == Origin::Envoy && matches!(descriptor.hits, None | Some(0))
}

#[inline]
fn rule_check<'a>(
    (request, descriptor): (&'a Request<'_>, &'a Descriptor<'_>),
    (rule, shared): (&'a Rule, &'a [Option<Box<str>>]),
    (limit, place): (&'a RuleLimit, Option<usize>),
    cost: Cost,
    modes: Modes,
) -> CounterCheck<'a> {
    // A counter goes on under an override, and with it its share of a bounded store.
    let identity = place.map_or(limit, |place| &rule.limits[place]);
    let key = Key {
        domain: request.domain,
        entries: &descriptor.entries,
        shared,
        limit_name: &limit.key_name,
        variable: rule.variable,
    };
    let share = if rule.shadow_mode { EnforcedShare::NONE } else { limit.enforce };
    let role = role(rule, share, || client_part(rule, identity, &key), modes);
    CounterCheck { key, limit: limit.limit, cost, role, rule: identity.id_hash as u32 }
}

/// What a refusal of a client does who is in this `part`, which is only asked for where it depends on it.
#[inline]
fn role(rule: &Rule, share: EnforcedShare, part: impl FnOnce() -> Option<ClientPart>, modes: Modes) -> Role {
    if share.is_none() || (share.is_partial() && !part().is_some_and(|part| share.contains(part))) {
        Role::Shadow
    } else if rule.quota_mode || modes.quota {
        Role::Quota
    } else {
        Role::Enforced
    }
}

/// The part of the client whose counter this is, with the limit of this identity. `None` if all clients share the counter:
/// it would be all or nothing, so nobody is denied.
#[cold]
pub(super) fn client_part(rule: &Rule, identity: &RuleLimit, key: &Key<'_>) -> Option<ClientPart> {
    let Entry { key, value } = key.entries[rule.client_position(key.shared)?];
    Some(ClientPart::of(&identity.id, key, value))
}

/// Whether a limit that came with a request admits more hits than an exact log may hold, where the log is the default.
pub(super) fn outgrows_log(requests: u32, modes: Modes) -> bool {
    modes.algorithm == Algorithm::SlidingLog && requests > SLIDING_LOG_MAX
}

fn requested_check<'a>(
    (request, descriptor): (&'a Request<'_>, &'a Descriptor<'_>),
    (requests, unit): (u32, Unit),
    variable: usize,
    by: PlanInputs<'_>,
    modes: Modes,
) -> CounterCheck<'a> {
    let (requested, now) = (by.budgets.requested(), by.now);
    let kind = || RequestedKind::of(request.domain, &descriptor.entries, unit);
    if modes.count_denied == CountDenied::Auto && shows_budget(request, descriptor) {
        requested.note(kind(), now);
    }
    let is_budget = || requested.is_budget(kind(), now);
    let charge_denied = modes.count_denied.charges(request.origin, descriptor.hits, is_budget);
    // The request can't know the default algorithm, so it is decided by a sliding window instead of being refused.
    let algorithm = if outgrows_log(requests, modes) { Algorithm::SlidingWindow } else { modes.algorithm };
    CounterCheck {
        key: Key { domain: request.domain, entries: &descriptor.entries, shared: &[], limit_name: "", variable },
        limit: Limit::new(requests, unit.window(), algorithm),
        cost: cost(request, descriptor, charge_denied),
        role: if modes.quota { Role::Quota } else { Role::Enforced },
        rule: REQUESTED,
    }
}

/// The check of the caller's own limit. Its counter can't be anybody else's: neither the empty key of the first entry
/// nor this limit name can be written in rules, and Envoy's requests can't have both.
fn caller_check<'a>(
    request: &'a Request<'_>,
    descriptor: &'a Descriptor<'_>,
    limit: Limit,
    modes: Modes,
) -> CounterCheck<'a> {
    let key =
        Key { domain: request.domain, entries: &descriptor.entries, shared: &[], limit_name: "check", variable: 1 };
    // Only the API's requests have one.
    let charge_denied = modes.count_denied.charges(Origin::Api, descriptor.hits, || false);
    let cost = cost(request, descriptor, charge_denied);
    CounterCheck { key, limit, cost, role: if modes.quota { Role::Quota } else { Role::Enforced }, rule: REQUESTED }
}

fn cost(request: &Request<'_>, descriptor: &Descriptor<'_>, charge_denied: bool) -> Cost {
    Cost { hits: request.hits_of(descriptor).clamp(-HITS_MAX, HITS_MAX), charge_denied }
}
