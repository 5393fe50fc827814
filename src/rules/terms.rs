//! Resolves limits: the numbers of a written limit with its domain's defaults, and the names of one rule's limits. It
//! knows nothing of files or of matching.

use std::{hash::BuildHasher as _, sync::Arc};

use foldhash::fast::FixedState;

use crate::limit::{Algorithm, CountDenied, FailurePolicy, Limit, SLIDING_LOG_MAX, SUB_WINDOWS_DEFAULT};

use super::{
    Defaults, RuleLimit,
    fields::Located,
    pen::NodeReader,
    rate::Rate,
    warning::Warning,
    written_limit::{LimitDefaults, Tiers, WrittenLimit, name_in_list},
};

/// The defaults of a domain's limits, and its tiers.
pub(super) struct DomainDefaults {
    pub(super) limits: LimitDefaults,
    pub(super) process: Defaults,
    pub(super) tiers: Tiers,
}

impl DomainDefaults {
    /// What a tier stands for where nothing else is said; `None` if that is no limit.
    pub(super) fn limit(&self, tier: &WrittenLimit) -> Option<RuleLimit> {
        let count_denied = tier.defaults.count_denied.or(self.limits.count_denied);
        Some(RuleLimit {
            id: Arc::from(""),
            id_hash: 0,
            limit: resolved_limit(tier, tier.rate?, self),
            name: None,
            tier: None,
            key_name: Box::default(),
            enforce: tier.enforce.value,
            count_denied: count_denied.map_or(self.process.count_denied, |located| located.value),
            on_store_failure: tier.defaults.on_store_failure.map(|located| located.value),
        })
    }
}

/// The numbers of a limit; what it leaves out comes from the domain and the process.
pub(super) fn resolved_limit(written: &WrittenLimit, quota: Rate, domain_defaults: &DomainDefaults) -> Limit {
    let algorithm = written.defaults.algorithm.or(domain_defaults.limits.algorithm);
    let algorithm = algorithm.map_or(domain_defaults.process.algorithm, |located| located.value);
    let mut limit = Limit::new(quota.requests.value, quota.window.window(), algorithm);
    let sub_windows = written.defaults.sub_windows.or(domain_defaults.limits.sub_windows);
    limit.sub_windows = sub_windows.map_or(SUB_WINDOWS_DEFAULT, |located| located.value);
    limit.burst = written.burst.map_or(limit.burst, |located| located.value);
    limit
}

impl NodeReader<'_> {
    /// Reports numbers of a limit that don't fit each other.
    pub(super) fn check_numbers(
        &mut self,
        written: &WrittenLimit,
        quota: Rate,
        limit: Limit,
        domain_defaults: &DomainDefaults,
    ) {
        let algorithm = limit.algorithm;
        if let Some(burst) = written.burst.filter(|_| !algorithm.has_burst()) {
            self.error(burst.at, format!("a {} has no burst", algorithm.name()))
                .hint("add `algorithm: token_bucket` or `leaky_bucket`");
        }
        if algorithm == Algorithm::SlidingLog && limit.requests > SLIDING_LOG_MAX {
            let what = format!("a sliding_log remembers every hit: at most {SLIDING_LOG_MAX} requests");
            self.error(quota.requests.at, what).hint("use `sliding_window`, which never admits too much either");
        }
        if let Some(own) = written.defaults.sub_windows.filter(|_| algorithm != Algorithm::SlidingWindow) {
            let what = format!("a {} has no sub-windows: this is ignored", algorithm.name());
            self.warn(own.at, Warning::IgnoredKey, what).hint("take `sub_windows` out, or use `sliding_window`");
        }
        let counted = written.defaults.count_denied.or(domain_defaults.limits.count_denied);
        if algorithm != Algorithm::FixedWindow
            && let Some(Located { value: CountDenied::Always, at }) = counted
        {
            let name = algorithm.name();
            self.warn(
                at,
                Warning::LockedOut,
                format!("in a {name}, a client that retries steadily is never admitted again"),
            )
            .hint("leave `count_denied` out, or use `fixed_window`");
        }
    }

    /// The limits of one rule, none if it is unlimited. `id` makes a limit's id from its name, which is empty where a
    /// rule has a single one without; `policy` is for those that name none.
    pub(super) fn limits(
        &mut self,
        forms: &[WrittenLimit],
        domain_defaults: &DomainDefaults,
        id: impl Fn(&str) -> Arc<str>,
        policy: Option<FailurePolicy>,
    ) -> Vec<RuleLimit> {
        let mut limits = Vec::with_capacity(forms.len());
        for (position, written) in forms.iter().enumerate() {
            let Some(quota) = written.rate else { continue };
            let limit = resolved_limit(written, quota, domain_defaults);
            if !written.is_checked {
                self.check_numbers(written, quota, limit, domain_defaults);
            }
            let id = if forms.len() == 1 { id(&written.name) } else { id(&name_in_list(written, position)) };
            let count_denied = written.defaults.count_denied.or(domain_defaults.limits.count_denied);
            limits.push(RuleLimit {
                id_hash: FixedState::default().hash_one(&*id),
                id,
                limit,
                name: Some(&written.name).filter(|name| !name.is_empty()).cloned(),
                tier: written.tier.clone(),
                key_name: Box::default(),
                enforce: written.enforce.value,
                count_denied: count_denied.map_or(domain_defaults.process.count_denied, |located| located.value),
                on_store_failure: written.defaults.on_store_failure.map(|located| located.value).or(policy),
            });
        }
        name_keys(forms, &mut limits);
        limits
    }
}

/// Gives names to the counters of limits that would otherwise share one.
fn name_keys(forms: &[WrittenLimit], limits: &mut [RuleLimit]) {
    for position in 0..limits.len() {
        let own = limits[position].limit;
        let shares = |other: usize| other != position && counts_alike(&own, &limits[other].limit);
        if (0..limits.len()).any(shares) {
            limits[position].key_name = name_in_list(&forms[position], position).into();
        }
    }
}

/// Whether a counter's key would be the same but for the limit's name.
fn counts_alike(one: &Limit, other: &Limit) -> bool {
    let parts = |limit: &Limit| (limit.algorithm == Algorithm::SlidingWindow).then_some(limit.sub_windows);
    (one.algorithm, one.window, parts(one)) == (other.algorithm, other.window, parts(other))
}
