//! What switches do to the checks of a request: which limits are left out, and what becomes of the others. It asks no
//! store, and knows nothing of how switches are made.

use std::sync::Arc;

use crate::{
    limit::{Descriptor, EnforcedShare, Request, UnixMicros},
    metrics::requested_id,
    rules::{Rule, RuleLimit, RuleMatch, Rules},
    run_time::{
        overrides::DomainChanges,
        switches::{self, Switch, SwitchMode, Switches},
    },
    store::{CounterCheck, Role},
};

/// The switches of a request's domain; mostly there are none.
#[derive(Clone, Copy)]
pub(super) struct Switching<'a>(Option<&'a Switches>);

impl<'a> Switching<'a> {
    #[inline]
    pub(super) fn of(changes: Option<&'a DomainChanges>) -> Switching<'a> {
        Switching(changes.and_then(|changes| changes.switches.as_deref()))
    }

    pub(super) fn is_empty(self) -> bool {
        self.0.is_none()
    }

    /// The switch that holds for a limit, by the limit of the rule that it is or stands for.
    pub(super) fn of_limit(
        self,
        rule: &Rule,
        limit: &RuleLimit,
        wall: impl Fn() -> UnixMicros,
    ) -> Option<&'a Arc<Switch>> {
        let switches = self.0.filter(|_| rule.switchable)?;
        switches.of(&limit.id, &rule.id, wall)
    }

    /// Whether a limit is switched off.
    pub(super) fn is_off(self, rule: &Rule, limit: &RuleLimit, wall: impl Fn() -> UnixMicros) -> bool {
        self.of_limit(rule, limit, wall).is_some_and(|switch| switch.mode == SwitchMode::Off)
    }

    /// The switch that holds for the limits that requests bring to `domain`.
    pub(super) fn of_requested(self, domain: &str, wall: impl Fn() -> UnixMicros) -> Option<&'a Arc<Switch>> {
        let switches = self.0?;
        let id = requested_id(domain);
        switches.of(&id, &id, wall)
    }

    /// The limits that a switch changes for a descriptor, by their ids: of the rule that it matches, or the one that it
    /// brought.
    pub(super) fn of_descriptor(
        self,
        rules: &Rules,
        (request, descriptor): (&Request<'_>, &Descriptor<'_>),
        is_requested: bool,
        wall: impl Fn() -> UnixMicros + Copy,
    ) -> Vec<(Arc<str>, Arc<Switch>)> {
        if is_requested {
            let switch = self.of_requested(request.domain, wall);
            return switch
                .map(|switch| (requested_id(request.domain).into(), Arc::clone(switch)))
                .into_iter()
                .collect();
        }
        let RuleMatch::Rule { rule, .. } = rules.find(request.domain, &descriptor.entries) else { return Vec::new() };
        let switched = |limit: &RuleLimit| Some((Arc::clone(&limit.id), Arc::clone(self.of_limit(rule, limit, wall)?)));
        rule.limits.iter().filter_map(switched).collect()
    }
}

/// The share of clients that a limit denies by a switch that says `share`; `None` if it stays as it is. An override that
/// denies nobody exempts whom it is for, also from a rollout.
pub(super) fn share(share: EnforcedShare, limit: &RuleLimit, is_override: bool) -> Option<EnforcedShare> {
    Some(share).filter(|_| !(is_override && limit.enforce.is_none()))
}

/// Changes a check as a switch says. An override that was set at run time was made for this very descriptor, and isn't
/// scaled.
pub(super) fn apply(check: &mut CounterCheck<'_>, switch: &Switch, is_of_run_time: bool) {
    match switch.mode {
        // Who is denied is said by the part that a client is in, which the plan looks up.
        SwitchMode::Off | SwitchMode::Enforce(_) => {}
        SwitchMode::Shadow => check.role = Role::Shadow,
        SwitchMode::Scale(_) if is_of_run_time => {}
        SwitchMode::Scale(factor) => check.limit = switches::scaled(check.limit, factor),
    }
}
