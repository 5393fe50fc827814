//! Resolves limits: the numbers of a written limit with its domain's defaults, and the names of one rule's limits. It
//! knows nothing of files or of matching.

use std::{hash::BuildHasher as _, sync::Arc};

use foldhash::fast::FixedState;

use crate::limit::{Algorithm, CountDenied, FailurePolicy, Limit, SLIDING_LOG_MAX, SUB_WINDOWS_DEFAULT};

use super::{
    Defaults, RuleLimit,
    fields::Said,
    form::{Form, Manner, Tiers, name_in_list},
    pen::Pen,
    quota::Quota,
};

/// The defaults of a domain's limits, and its tiers.
pub(super) struct Around {
    pub(super) manner: Manner,
    pub(super) process: Defaults,
    pub(super) tiers: Tiers,
}

/// The numbers of a limit; what it leaves out comes from the domain and the process.
pub(super) fn numbers(form: &Form, quota: Quota, around: &Around) -> Limit {
    let algorithm = form.manner.algorithm.or(around.manner.algorithm);
    let algorithm = algorithm.map_or(around.process.algorithm, |said| said.value);
    let mut limit = Limit::new(quota.requests.value, quota.span.window(), algorithm);
    let sub_windows = form.manner.sub_windows.or(around.manner.sub_windows);
    limit.sub_windows = sub_windows.map_or(SUB_WINDOWS_DEFAULT, |said| said.value);
    limit.burst = form.burst.map_or(limit.burst, |said| said.value);
    limit
}

impl Pen<'_> {
    /// Reports numbers of a limit that don't fit each other.
    pub(super) fn check_numbers(&mut self, form: &Form, quota: Quota, limit: Limit, around: &Around) {
        let algorithm = limit.algorithm;
        if let Some(burst) = form.burst.filter(|_| !algorithm.has_burst()) {
            self.error(burst.at, format!("a {} has no burst", algorithm.name()))
                .hint("add `algorithm: token_bucket` or `leaky_bucket`");
        }
        if algorithm == Algorithm::SlidingLog && limit.requests > SLIDING_LOG_MAX {
            let what = format!("a sliding_log remembers every hit: at most {SLIDING_LOG_MAX} requests");
            self.error(quota.requests.at, what).hint("use `sliding_window`, which never admits too much either");
        }
        if let Some(own) = form.manner.sub_windows.filter(|_| algorithm != Algorithm::SlidingWindow) {
            self.warn(own.at, format!("a {} has no sub-windows: this is ignored", algorithm.name()));
        }
        let counted = form.manner.count_denied.or(around.manner.count_denied);
        if algorithm != Algorithm::FixedWindow
            && let Some(Said { value: CountDenied::Always, at }) = counted
        {
            let name = algorithm.name();
            self.warn(at, format!("in a {name}, a client that retries steadily is never admitted again"))
                .hint("leave `count_denied` out, or use `fixed_window`");
        }
    }

    /// The limits of one rule, none if it is unlimited. `id` makes a limit's id from its name, which is empty where a
    /// rule has a single one without; `policy` is for those that name none.
    pub(super) fn limits(
        &mut self,
        forms: &[Form],
        around: &Around,
        id: impl Fn(&str) -> Arc<str>,
        policy: Option<FailurePolicy>,
    ) -> Vec<RuleLimit> {
        let mut limits = Vec::with_capacity(forms.len());
        for (position, form) in forms.iter().enumerate() {
            let Some(quota) = form.quota else { continue };
            let limit = numbers(form, quota, around);
            if !form.is_checked {
                self.check_numbers(form, quota, limit, around);
            }
            let id = if forms.len() == 1 { id(&form.name) } else { id(&name_in_list(form, position)) };
            let count_denied = form.manner.count_denied.or(around.manner.count_denied);
            limits.push(RuleLimit {
                id_hash: FixedState::default().hash_one(&*id) as u32,
                id,
                limit,
                name: Some(&form.name).filter(|name| !name.is_empty()).cloned(),
                tier: form.tier.clone(),
                key_name: Box::default(),
                enforce: form.enforce,
                count_denied: count_denied.map_or(around.process.count_denied, |said| said.value),
                on_store_failure: form.manner.on_store_failure.map(|said| said.value).or(policy),
            });
        }
        name_keys(forms, &mut limits);
        limits
    }
}

/// Gives names to the counters of limits that would otherwise share one.
fn name_keys(forms: &[Form], limits: &mut [RuleLimit]) {
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
