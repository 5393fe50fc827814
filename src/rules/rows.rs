//! Overrides: limits for exact values of descriptors' keys. Owns what a row is, which of several wins, and the table that
//! finds it, whose lookups neither allocate nor take longer for more rows. Knows nothing of files' formats, and is handed
//! the time.

pub(super) mod builder;
pub(crate) mod csv;
pub(super) mod files;
mod heads;
mod name;
pub(super) mod read;
mod records;
mod shape;
mod table;
#[cfg(test)]
mod tests;

use std::{hash::BuildHasher as _, path::Path, sync::Arc};

use foldhash::fast::FixedState;

pub use shape::{Probe, Scope, Shape, hash, probes};
pub use table::{Candidate, RowRef, Standing, Table};

use super::RuleLimit;
use crate::limit::UnixMicros;

/// What takes the place of a rule's limits. Rows that grant the same share one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Grant {
    Unlimited,
    /// All must admit; at least one.
    Limits(Vec<RuleLimit>),
}

impl Grant {
    /// Limits with numbers that were resolved before: called as [`super::Domain::read_grant`] calls them.
    pub fn resolved(domain: &str, mut limits: Vec<RuleLimit>) -> Grant {
        let id: Arc<str> = super::name::override_id(domain).into();
        let id_hash = FixedState::default().hash_one(&*id) as u32;
        limits.iter_mut().for_each(|limit| (limit.id, limit.id_hash) = (Arc::clone(&id), id_hash));
        if limits.is_empty() { Grant::Unlimited } else { Grant::Limits(limits) }
    }

    /// None: unlimited.
    pub fn limits(&self) -> &[RuleLimit] {
        match self {
            Grant::Unlimited => &[],
            Grant::Limits(limits) => limits,
        }
    }
}

/// One override by itself, checked against its domain: what the API and the command line make of what they are given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub shape: Shape,
    /// As many as `shape` has keys, in their order.
    pub values: Box<[Box<str>]>,
    pub grant: Arc<Grant>,
    /// From this moment on it is as if it weren't there.
    pub expires: Option<UnixMicros>,
    pub reason: Box<str>,
    pub owner: Box<str>,
}

impl Row {
    /// Key and value of each entry that it names.
    pub fn matches(&self) -> impl Iterator<Item = (&str, &str)> {
        self.shape.keys.iter().zip(&self.values).map(|(key, value)| (&**key, &**value))
    }
}

/// Where a row of a file stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowPlace<'t> {
    pub path: &'t Path,
    pub line: u32,
}
