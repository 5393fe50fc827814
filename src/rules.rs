//! The rules: read from files, checked, and compiled to what requests are matched against. It reads YAML, reports every
//! problem with its location, and never awaits, logs or reads a clock.

mod allow;
mod cases;
mod changes;
mod compile;
mod diff;
mod fields;
mod full;
mod json;
mod lint;
mod load;
mod log_fields;
mod metadata;
mod name;
mod node;
mod overrides_from;
mod pen;
mod problem;
mod rate;
pub mod rows;
mod scalar;
mod schema;
mod shares;
mod shortcuts;
mod source;
mod spelling;
mod terms;
#[cfg(test)]
mod tests;
mod texts;
mod tiers;
mod tree;
mod warning;
mod written_limit;
mod yaml;

use std::{path::PathBuf, sync::Arc};

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use sha2::{Digest as _, Sha256};

pub use cases::{
    Case, CaseDescriptor, CaseFile, CaseRequest, Expected, ExpectedLimit, ExpectedStatus, ExpectedWait, Remaining,
    START, WrittenExpectation,
};
pub use changes::{LimitChange, limit_changes, limit_in_words};
pub use diff::{
    MovedRule, OtherRule, OtherRules, OverrideChange, OverrideChangeKind, OverrideChanges, OverrideGroup,
    OverrideTerms, RulesDiff, SettingChange, TierChange,
};
pub use full::{FullPieces, FullRules, FullRulesError};
pub(crate) use json::stopped as json_stopped;
pub use load::{load, load_values};
pub use log_fields::{LogFields, Template, TemplatePart};
pub(crate) use name::{domain_prefix, override_limit_id};
pub use problem::{Problem, Problems, Severity};
pub(crate) use rate::{duration as window, short_rate};
pub(crate) use rows::star;
pub use schema::{SchemaOf, schema};
pub use shortcuts::Shortcuts;
pub use source::{DotFiles, FileNames, Selection, Source, Sources};
pub use texts::{LoadedTexts, RuleText, RuleTexts};
use tree::LevelMatch;
pub use tree::Pattern;
pub use warning::Warning;

use crate::limit::{Algorithm, CountDenied, EnforcedShare, Entry, FailurePolicy, Limit, Micros, UnixMicros};

/// The process' defaults for limits, where rules don't say otherwise.
#[derive(Clone, Copy, Debug, Default)]
pub struct Defaults {
    pub algorithm: Algorithm,
    pub count_denied: CountDenied,
    /// Whether files with the same domain are one domain (MERGE_DOMAIN_CONFIG); otherwise they are an error.
    pub merge_domains: bool,
}

/// The result of loading a set of files. Each domain succeeds or fails on its own: one with an error in any of its
/// files keeps all the rules that it had, or is absent if it had none; the others are new.
pub struct LoadedRules {
    pub rules: Rules,
    pub problems: Problems,
    /// Domains that keep their last good rules.
    pub kept_domains: Vec<Box<str>>,
    /// What their files say, where it is kept for those who look at them.
    pub texts: LoadedTexts,
}

/// Everything a decision needs of the rules, immutable; reload swaps the whole.
#[derive(Clone, Default)]
pub struct Rules {
    /// The domains, sorted by name; [`DomainIndex`] is the position.
    domains: Vec<Arc<Domain>>,
    by_name: HashMap<Box<str>, u32, FixedState>,
    hash: Box<str>,
}

/// Position of a domain within its [`Rules`]; another load may give another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DomainIndex(pub u32);

/// Numbers of domains, rules and limits, for the start-up line, `check` and metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct RuleCounts {
    pub files: usize,
    pub domains: usize,
    pub rules: usize,
    pub tiers: usize,
    /// Override rows in files, with expired ones.
    pub overrides: usize,
}

/// A namespace of rules.
pub struct Domain {
    name: Box<str>,
    files: Vec<PathBuf>,
    override_files: Vec<PathBuf>,
    /// The rules in declaration order, parents before children; [`Rule::index`] is the position.
    rules: Vec<Rule>,
    tree: tree::Tree,
    overrides: rows::OverrideTable,
    /// Defaults and tiers of the domain. Overrides that come later are read with them.
    defaults: terms::DomainDefaults,
    shortcuts: Shortcuts,
    /// SHA-256 of its files' bytes.
    hash: [u8; 32],
}

/// A node of a domain's tree at which a descriptor can end. If it has no limit, it admits the descriptors that end at
/// it.
pub struct Rule {
    /// Position within its domain: what metrics are indexed by.
    pub index: u32,
    /// `api/user/endpoint=/checkout`: the same in JSON and explain.
    pub id: Arc<str>,
    /// The path to the rule: one level for each entry.
    pub path: Box<[Arc<Level>]>,
    /// The limits, which must all admit. If there are none, descriptors that end here are admitted.
    pub limits: Vec<RuleLimit>,
    /// Whether the rule is unlimited: it matches, counts nothing, and reports the largest remaining.
    pub unlimited: bool,
    /// The name in other rules' `replaces` and in `current_limit.name`. Empty if it has none, or several limits, each
    /// with a name of its own.
    pub name: Box<str>,
    /// Names of rules that don't apply to a request that also matches this one.
    pub replaces: Vec<Box<str>>,
    pub shadow_mode: bool,
    pub quota_mode: bool,
    /// Whether switches may change its limits while the service runs.
    pub switchable: bool,
    /// The failure policy of limits that name none: the descriptor's, else the domain's.
    pub on_store_failure: Option<FailurePolicy>,
    /// Whether the metric's key has the values of the request at every level.
    pub detailed_metric: bool,
    /// For each level the pattern that replaces the value, if one counter is shared over all values
    /// (`share_threshold`). As long as `path`.
    pub shared: Vec<Option<Box<str>>>,
    /// Position of the first level that is key-only or has a wildcard; the path's length if there is none.
    pub variable: usize,
    /// Free-form data for the response's dynamic metadata.
    pub metadata: Option<Arc<serde_json::Value>>,
    /// The `domain.k1_v1.k2` of envoyproxy/ratelimit, as in the file: the key of its metrics and of `/rlconfig`.
    pub metric_key: Box<str>,
    pub file: Arc<PathBuf>,
    /// 0 where there is no text: a control plane's.
    pub line: u32,
    /// How overrides of descriptors that end here are looked up; `None` if no override can apply.
    pub(crate) probes: Option<Box<[rows::Probe]>>,
}

impl Rule {
    /// Position of the first entry that tells clients apart: any value may stand there, and `shared` doesn't put all
    /// values into one counter. `None` if all who meet the rule share its counters.
    pub fn client_position(&self, shared: &[Option<Box<str>>]) -> Option<usize> {
        let is_client = |position: &usize| {
            !self.names_value(*position) && shared.get(*position).is_none_or(|pattern| pattern.is_none())
        };
        (0..self.path.len()).find(is_client)
    }

    /// Whether the rule names the value of the entry at this `position`, so that it says nothing about who asks.
    pub fn names_value(&self, position: usize) -> bool {
        self.path.get(position).is_some_and(|level| matches!(level.value, LevelValue::Exact(_)))
    }
}

/// One step of a rule's path: what an entry must be.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Level {
    pub key: Box<str>,
    pub value: LevelValue,
    /// Whether all values that match the pattern share one counter.
    pub share_threshold: bool,
    /// Whether the metric's key has the request's value at this level.
    pub value_to_metric: bool,
}

#[derive(Debug, PartialEq, Eq, Hash)]
pub enum LevelValue {
    /// Key-only: any value, each with its own counter.
    Any,
    Exact(Box<str>),
    Pattern(Pattern),
}

/// One limit of a rule.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RuleLimit {
    /// The id, which is the same in metrics, JSON, explain and API: `api/user/endpoint=/checkout#hourly`.
    pub id: Arc<str>,
    /// Hash of the id, so it is the same over reloads. A full memory store divides its capacity by it
    /// ([`crate::store::CounterCheck::rule`]).
    pub id_hash: u64,
    pub limit: Limit,
    pub name: Option<Box<str>>,
    /// The tier that gives the limit the numbers which it doesn't have itself.
    pub tier: Option<Arc<str>>,
    /// The limit's name in the counter's key ([`crate::store::Key::limit_name`]): empty unless several limits of the
    /// rule would share a counter.
    pub key_name: Box<str>,
    /// The clients whom the limit may deny; for the others it only counts and reports.
    pub enforce: EnforcedShare,
    pub count_denied: CountDenied,
    /// The failure policy. The most specific setting wins: limit, descriptor, domain; `None` leaves it to the process.
    pub on_store_failure: Option<FailurePolicy>,
}

/// What a descriptor matches.
#[derive(Clone, Copy)]
pub enum RuleMatch<'r> {
    UnknownDomain,
    NoMatch,
    Rule { domain: DomainIndex, rule: &'r Rule },
}

/// One entry on the way to a rule, for `explain`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WalkStep<'a> {
    pub entry: Entry<'a>,
    pub how: StepMatch,
}

/// What an entry matches at its level.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StepMatch {
    /// A rule for this very value.
    Exact,
    /// The first pattern, in declaration order, that matches.
    Pattern(Box<str>),
    /// The rule for this key and any value.
    KeyOnly,
    /// No rule at this level names the key.
    UnknownKey,
    /// Rules name the key, but none this value.
    UnknownValue,
    /// The rule before has no descriptors below it.
    TooDeep,
}

/// Reads a length of time as rule files write it: `30s`, `5m`, `1h30m`, `7d`, at most ten years. The error is for
/// people.
pub fn duration(text: &str) -> Result<Micros, String> {
    rate::duration(text)
}

impl Rules {
    fn new(domains: Vec<Arc<Domain>>) -> Rules {
        let mut hash = Sha256::new();
        for domain in &domains {
            hash.update((domain.name.len() as u64).to_le_bytes());
            hash.update(domain.name.as_bytes());
            hash.update(domain.hash);
        }
        let by_name = domains.iter().enumerate().map(|(index, domain)| (domain.name.clone(), index as u32)).collect();
        let hash = hex::encode(&hash.finalize()[..8]).into();
        Rules { domains, by_name, hash }
    }

    /// The rule that a descriptor's entries match. The depth must be the rule's; the deepest match counts, and matching
    /// never tries a second way.
    #[inline(always)]
    pub fn find(&self, domain: &str, entries: &[Entry<'_>]) -> RuleMatch<'_> {
        self.walk(domain, entries, |_, _| ())
    }

    /// The same walk as [`Rules::find`], with a note of each step.
    pub fn explain<'a>(&self, domain: &str, entries: &[Entry<'a>]) -> (RuleMatch<'_>, Vec<WalkStep<'a>>) {
        let mut steps = Vec::with_capacity(entries.len());
        let found = self.walk(domain, entries, |at: usize, met: Option<&LevelMatch<'_>>| {
            let how = match met {
                Some(LevelMatch::Exact(_)) => StepMatch::Exact,
                Some(LevelMatch::Pattern(pattern, _)) => StepMatch::Pattern(pattern.text().into()),
                Some(LevelMatch::KeyOnly(_)) => StepMatch::KeyOnly,
                Some(LevelMatch::UnknownValue) => StepMatch::UnknownValue,
                Some(LevelMatch::UnknownKey) => StepMatch::UnknownKey,
                None => StepMatch::TooDeep,
            };
            steps.push(WalkStep { entry: entries[at], how });
        });
        (found, steps)
    }

    // Inlined so that the result stays in registers: everything that follows waits for it.
    #[inline(always)]
    fn walk(
        &self,
        domain: &str,
        entries: &[Entry<'_>],
        mut note: impl FnMut(usize, Option<&LevelMatch<'_>>),
    ) -> RuleMatch<'_> {
        let Some(index) = self.domain(domain) else { return RuleMatch::UnknownDomain };
        let domain = &self.domains[index.0 as usize];
        let mut at = None;
        for (position, entry) in entries.iter().enumerate() {
            let met = domain.tree.step(at, entry.key, entry.value);
            note(position, met.as_ref());
            match met {
                Some(LevelMatch::Exact(rule) | LevelMatch::Pattern(_, rule) | LevelMatch::KeyOnly(rule)) => {
                    at = Some(rule)
                }
                _ => return RuleMatch::NoMatch,
            }
        }
        match at {
            Some(rule) => RuleMatch::Rule { domain: index, rule: &domain.rules[rule as usize] },
            None => RuleMatch::NoMatch,
        }
    }

    /// The position of the domain with this name.
    pub fn domain(&self, name: &str) -> Option<DomainIndex> {
        self.by_name.get(name).copied().map(DomainIndex)
    }

    /// The domain at a position that these rules gave.
    pub fn of(&self, index: DomainIndex) -> &Arc<Domain> {
        &self.domains[index.0 as usize]
    }

    /// All domains, sorted by name; [`DomainIndex`] is the position.
    pub fn domains(&self) -> &[Arc<Domain>] {
        &self.domains
    }

    /// Hex digest of the rules in force; equal on replicas that serve the same.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// Every file from which rules in force take overrides.
    pub fn override_files(&self) -> impl Iterator<Item = &PathBuf> {
        self.domains.iter().flat_map(|domain| &domain.override_files)
    }

    /// The override at `now` of a descriptor that [`Rules::find`] matched to `rule`, and the probe that found it. `now`
    /// returns the wall clock's time and is only called if a row that ends would win.
    pub fn override_of<'r>(
        &'r self,
        domain: DomainIndex,
        rule: &'r Rule,
        entries: &[Entry<'_>],
        now: impl Fn() -> UnixMicros,
    ) -> Option<(rows::RowRef<'r>, &'r rows::Probe)> {
        let probes = rule.probes.as_deref()?;
        self.domains[domain.0 as usize].overrides.find(probes, entries, now)
    }

    /// The same walk as [`Rules::override_of`], to its end: every override that fits, in the order in which they win, and
    /// why each does or doesn't.
    pub fn explain_override(
        &self,
        domain: DomainIndex,
        rule: &Rule,
        entries: &[Entry<'_>],
        now: UnixMicros,
    ) -> Vec<rows::Candidate<'_>> {
        let probes = rule.probes.as_deref().unwrap_or_default();
        self.domains[domain.0 as usize].overrides.explain(probes, entries, now)
    }

    /// Every file that has a rule in force.
    pub fn files(&self) -> impl Iterator<Item = &PathBuf> {
        self.domains.iter().flat_map(|domain| &domain.files)
    }

    pub fn count(&self) -> RuleCounts {
        RuleCounts {
            files: self.files().count(),
            domains: self.domains.len(),
            rules: self.domains.iter().map(|domain| domain.rules.len()).sum(),
            tiers: self.domains.iter().map(|domain| domain.tiers()).sum(),
            overrides: self.domains.iter().map(|domain| domain.overrides.len()).sum(),
        }
    }

    /// Every limit, in order of domain and declaration.
    pub fn limits(&self) -> impl Iterator<Item = (DomainIndex, &Rule, &RuleLimit)> {
        self.domains.iter().enumerate().flat_map(|(index, domain)| {
            let rules = domain.rules.iter();
            rules.flat_map(move |rule| rule.limits.iter().map(move |limit| (DomainIndex(index as u32), rule, limit)))
        })
    }
}

impl Domain {
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The files of its rules.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// The files that its rules name for overrides.
    pub fn override_files(&self) -> &[PathBuf] {
        &self.override_files
    }

    fn all_files(&self) -> impl Iterator<Item = &PathBuf> {
        self.files.iter().chain(&self.override_files)
    }

    /// The process' defaults with which it was read.
    pub(crate) fn process_defaults(&self) -> &Defaults {
        &self.defaults.process
    }

    pub fn tiers(&self) -> usize {
        self.defaults.tiers.len()
    }

    /// The overrides in its files.
    pub fn overrides(&self) -> &rows::OverrideTable {
        &self.overrides
    }

    /// The descriptors that the short forms of an API check mean.
    pub fn shortcuts(&self) -> &Shortcuts {
        &self.shortcuts
    }

    /// The rules in declaration order, parents before children; [`Rule::index`] is the position.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }
}
