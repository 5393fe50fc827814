//! Rules on disk, checked and compiled to what a request is matched against. Reads YAML, reports every problem
//! with its place, and never awaits, logs or reads a clock.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use crate::limit::{Algorithm, CountDenied, Entry, Limit};

/// One rule file as it was read. Reading is apart from parsing, so that a set can be hashed before it is trusted.
pub struct Source {
    pub path: PathBuf,
    pub bytes: Vec<u8>,
}

/// What holds for limits that say nothing themselves: the process' settings.
#[derive(Clone, Copy, Debug, Default)]
pub struct Defaults {
    pub algorithm: Algorithm,
    pub count_denied: CountDenied,
    pub merge_domains: bool,
}

/// Everything a decision needs of the rules, immutable; reload swaps the whole.
#[derive(Default)]
pub struct Rules {
    pub domains: BTreeMap<Box<str>, Arc<Domain>>,
}

pub struct Domain {
    pub name: Box<str>,
}

/// A node of a domain's tree that a descriptor can end at.
pub struct Rule {
    pub limits: Vec<RuleLimit>,
    /// `unlimited: true`: matched, never counted, reported with the largest remaining.
    pub unlimited: bool,
    pub name: Box<str>,
    pub replaces: Vec<Box<str>>,
    pub shadow_mode: bool,
    pub quota_mode: bool,
}

/// One limit of a rule (today at most one; several come with the list form).
pub struct RuleLimit {
    /// The same in metrics, JSON, explain and API: `api/user/endpoint=/checkout#hourly`.
    pub id: Arc<str>,
    pub limit: Limit,
    pub name: Option<Box<str>>,
    pub enforce: bool,
    pub count_denied: CountDenied,
}

pub enum Found<'r> {
    UnknownDomain,
    NoMatch,
    Rule(&'r Rule),
}

impl Rules {
    pub fn find(&self, _domain: &str, _entries: &[Entry<'_>]) -> Found<'_> {
        todo!()
    }
}
