//! The rules in force: their files, and what is wrong with them. Knows nothing of gRPC or HTTP.

use std::{collections::HashMap, path::Path};

use super::{GetRulesResponse, RuleProblem, RuleSource};
use crate::{
    limit::moment,
    limiter::Snapshot,
    rules::{Domain, Problem, Severity},
};

/// Of one domain, or of all where none is named.
pub(super) fn get(snapshot: &Snapshot, domain: &str) -> GetRulesResponse {
    let is_meant = |of: &&Domain| domain.is_empty() || of.name() == domain;
    let domains: Vec<&Domain> = snapshot.rules.domains().iter().map(|domain| &**domain).filter(is_meant).collect();
    // A file with errors may be of no domain yet; whoever sees one domain alone sees its files' problems.
    let is_of_it = |problem: &&Problem| domain.is_empty() || domains.iter().any(|of| has_file(of, problem));
    GetRulesResponse {
        version: snapshot.version,
        hash: snapshot.rules.hash().to_owned(),
        loaded_at: moment::write(snapshot.loaded_at),
        files: domains.iter().flat_map(|domain| sources(domain, snapshot)).collect(),
        problems: snapshot.problems.iter().filter(is_of_it).map(problem).collect(),
        problems_left_out: u32::try_from(snapshot.problems.more()).unwrap_or(u32::MAX),
    }
}

fn has_file(domain: &Domain, problem: &Problem) -> bool {
    domain.files().iter().chain(domain.override_files()).any(|path| *path == problem.path)
}

/// The files of a domain, each with how many limits or override rows it has.
fn sources(domain: &Domain, snapshot: &Snapshot) -> Vec<RuleSource> {
    let kept = snapshot.kept_domains.iter().any(|kept| **kept == *domain.name());
    let source = |path: &Path, overrides: bool, entries: usize| RuleSource {
        path: path.display().to_string(),
        domain: domain.name().to_owned(),
        overrides,
        entries: u32::try_from(entries).unwrap_or(u32::MAX),
        kept,
    };
    let limits = limits_by_file(domain);
    let rules = domain.files().iter().map(|path| source(path, false, *limits.get(path.as_path()).unwrap_or(&0)));
    let rows = domain.override_files().iter().map(|path| source(path, true, domain.overrides().rows_of(path)));
    rules.chain(rows).collect()
}

fn limits_by_file(domain: &Domain) -> HashMap<&Path, usize> {
    let mut limits = HashMap::new();
    for rule in domain.rules() {
        *limits.entry(rule.file.as_path()).or_default() += rule.limits.len();
    }
    limits
}

fn problem(problem: &Problem) -> RuleProblem {
    RuleProblem {
        path: problem.path.display().to_string(),
        line: problem.line,
        column: problem.column,
        severity: if problem.severity == Severity::Error { "error" } else { "warning" }.to_owned(),
        what: problem.what.clone(),
        hint: problem.hint.clone().unwrap_or_default(),
        source_line: problem.source_line.clone(),
    }
}
