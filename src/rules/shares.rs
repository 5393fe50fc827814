//! Whether a share of clients (`enforce: 10%`) can be told apart at all: on a counter that many share it would be all or
//! nothing, and is an error. Knows nothing of how clients are divided.

use std::sync::Arc;

use super::{
    Level,
    node::Location,
    pen::NodeReader,
    rows::{
        OverrideLimits,
        bind::RowTarget,
        shape::{Positions, fits, meets},
    },
    warning::Warning,
    written_limit::WrittenLimit,
};
use crate::limit::EnforcedShare;

impl NodeReader<'_> {
    /// Reports the limits of a rule that deny only a share, where nothing in its path tells clients apart.
    pub(super) fn check_shares(&mut self, forms: &[WrittenLimit], path: &[Arc<Level>], shadow_mode: bool) {
        for enforce in forms.iter().map(|written| written.enforce).filter(|enforce| enforce.value.is_partial()) {
            if !tells_clients_apart(path, &[]) {
                self.all_or_nothing(enforce.at, enforce.value, None);
            } else if shadow_mode {
                let what = format!("`enforce: {}` beside `shadow_mode: true` denies nobody", enforce.value);
                self.warn(enforce.at, Warning::ShadowedShare, what).hint("take `shadow_mode` out");
            }
        }
    }

    /// The same of an override: its own counter is that of whom it names, at the levels that it names. `named` is what it
    /// matches, in the order of its shape.
    pub(super) fn check_row_shares(
        &mut self,
        limits: &OverrideLimits,
        target: RowTarget<'_>,
        named: (&[Box<str>], &[&str]),
        positions: Option<&Positions>,
        at: Location,
    ) {
        let Some(share) = limits.limits().iter().map(|limit| limit.enforce).find(|share| share.is_partial()) else {
            return;
        };
        match (target, positions) {
            (RowTarget::Rule { path, .. }, Some(positions)) => {
                if !tells_clients_apart(path, positions) {
                    self.all_or_nothing(at, share, None);
                }
            }
            (RowTarget::Rule { .. }, None) => {}
            (RowTarget::Domain { rules, .. }, _) => {
                let (keys, values) = named;
                let is_met = |path: &[Arc<Level>], positions: &Positions| {
                    positions.iter().zip(values).all(|(position, value)| meets(&path[usize::from(*position)], value))
                };
                let shared = rules.iter().find(|rule| {
                    let ways = fits(keys, &rule.path);
                    let mut met = ways.iter().filter(|positions| is_met(&rule.path, positions));
                    met.any(|positions| !tells_clients_apart(&rule.path, positions))
                });
                if let Some(rule) = shared {
                    self.all_or_nothing(at, share, Some(&rule.id));
                }
            }
        }
    }

    fn all_or_nothing(&mut self, at: Location, share: EnforcedShare, rule: Option<&str>) {
        let of = rule.map(|rule| format!(" of `{rule}`")).unwrap_or_default();
        let what = format!("`enforce: {share}` would be all or nothing: all clients share the counter{of}");
        self.error(at, what).hint(
            "it needs a key without a `value` or with a pattern, and no `share_threshold`; else write true or false",
        );
    }
}

/// Whether any level has a counter for each value: one that isn't fixed, and isn't shared but for what a row names.
fn tells_clients_apart(path: &[Arc<Level>], named: &[u8]) -> bool {
    let is_client = |(position, level): (usize, &Arc<Level>)| {
        !level.is_fixed() && (!level.share_threshold || named.contains(&(position as u8)))
    };
    path.iter().enumerate().any(is_client)
}
