//! The rules in force: their files, and what is wrong with them. Knows nothing of gRPC or HTTP.

use std::{collections::HashMap, path::Path, sync::Arc};

use super::{GetRulesResponse, RuleProblem, RuleSource, rule_text::has_file};
use crate::{
    limit::moment,
    limiter::Snapshot,
    rules::{Domain, Problem, Severity},
};

/// Of these `domains` (`None` is all).
pub(super) fn get(snapshot: &Snapshot, domains: Option<&[String]>) -> GetRulesResponse {
    let is_all = domains.is_none();
    let is_meant = |of: &&Domain| domains.is_none_or(|domains| domains.iter().any(|domain| domain == of.name()));
    let domains: Vec<&Domain> = snapshot.rules.domains().iter().map(|domain| &**domain).filter(is_meant).collect();
    // A file with errors may be of no domain yet; whoever sees one domain alone sees its files' problems.
    let is_of_it = |problem: &&Problem| is_all || domains.iter().any(|of| has_file(of, &problem.path));
    GetRulesResponse {
        version: snapshot.version,
        hash: snapshot.rules.hash().to_owned(),
        loaded_at: moment::write(snapshot.loaded_at),
        files: domains.iter().flat_map(|domain| sources(domain, snapshot)).collect(),
        problems: snapshot.problems.iter().filter(is_of_it).map(problem).collect(),
        problems_left_out: u32::try_from(snapshot.problems.more()).unwrap_or(u32::MAX),
    }
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
        text: snapshot.texts.in_force.get(path).or(snapshot.texts.read.get(path)).is_some(),
    };
    let limits = limits_by_file(domain);
    let rules = domain.files().iter().map(|path| source(path, false, *limits.get(path.as_path()).unwrap_or(&0)));
    let rows = domain.override_files().iter().map(|path| source(path, true, domain.overrides().rows_of(path)));
    rules.chain(rows).collect()
}

fn limits_by_file(domain: &Domain) -> HashMap<&Path, usize> {
    let mut limits = HashMap::new();
    // The rules of a file stand together: comparing paths would take longer than all the rest.
    for rules in domain.rules().chunk_by(|one, next| Arc::ptr_eq(&one.file, &next.file)) {
        *limits.entry(rules[0].file.as_path()).or_default() +=
            rules.iter().map(|rule| rule.limits.len()).sum::<usize>();
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
