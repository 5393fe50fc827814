//! Overrides: limits for exact values of descriptors' keys. Owns what a row is, which of several wins, and the table
//! that finds it, whose look-ups neither allocate nor take longer with more rows. It knows nothing of files' formats,
//! and gets the time as an argument.

pub(super) mod bind;
pub(super) mod builder;
pub(crate) mod columns;
pub(super) mod compare;
pub(crate) mod csv;
pub(super) mod files;
pub(super) mod read;
mod records;
mod row_index;
mod row_key;
pub(super) mod shape;
pub(crate) mod star;
mod table;
#[cfg(test)]
mod tests;
mod touched;

use std::{hash::BuildHasher as _, path::Path, sync::Arc};

use foldhash::fast::FixedState;

pub use shape::{Probe, Shape, ShapeScope, hash, probes};
pub use table::{Candidate, OverrideTable, RowRef, Standing};
pub use touched::TouchedRule;

use super::RuleLimit;
use crate::limit::UnixMicros;

/// What replaces a rule's limits. Rows with equal limits share one value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum OverrideLimits {
    Unlimited,
    /// Limits that must all admit; at least one.
    Limits(Vec<RuleLimit>),
}

impl OverrideLimits {
    /// Limits whose numbers were resolved before, with ids as [`super::Domain::read_override_limits`] gives them.
    pub fn resolved(domain: &str, mut limits: Vec<RuleLimit>) -> OverrideLimits {
        let id: Arc<str> = super::name::override_limit_id(domain).into();
        let id_hash = FixedState::default().hash_one(&*id);
        limits.iter_mut().for_each(|limit| (limit.id, limit.id_hash) = (Arc::clone(&id), id_hash));
        if limits.is_empty() { OverrideLimits::Unlimited } else { OverrideLimits::Limits(limits) }
    }

    /// The limits; none if it is unlimited.
    pub fn limits(&self) -> &[RuleLimit] {
        match self {
            OverrideLimits::Unlimited => &[],
            OverrideLimits::Limits(limits) => limits,
        }
    }
}

/// One override that was checked against its domain, as the API and the command line read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OverrideRow {
    pub shape: Shape,
    /// The values of the match, one for each key of `shape`, in their order.
    pub values: Box<[Box<str>]>,
    pub limits: Arc<OverrideLimits>,
    /// When the override ends; from then on it is ignored.
    pub expires: Option<UnixMicros>,
    pub reason: Box<str>,
    pub owner: Box<str>,
}

impl OverrideRow {
    /// Key and value of each entry of the match.
    pub fn matches(&self) -> impl Iterator<Item = (&str, &str)> {
        self.shape.keys.iter().zip(&self.values).map(|(key, value)| (&**key, &**value))
    }
}

/// Location of a row in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowLocation<'t> {
    pub path: &'t Path,
    pub line: u32,
}
