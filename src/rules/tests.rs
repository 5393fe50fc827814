//! Loading and matching through the public surface: what loads, what is refused and where, what matches.

mod cases;
mod domains;
mod files;
mod forms;
mod lists;
mod matching;
pub(crate) mod reading;
mod tiers;

use std::path::Path;

use super::*;

fn sources(files: &[(&str, &str)]) -> Sources {
    let files = files.iter().map(|(path, text)| Source { path: path.into(), bytes: text.as_bytes().to_vec() });
    Sources { files: files.collect(), ..Sources::default() }
}

fn load_one(text: &str) -> LoadedRules {
    load(&sources(&[("a.yaml", text)]), &Defaults::default(), None)
}

/// The rules of a text without errors or warnings.
#[track_caller]
fn good(text: &str) -> Rules {
    let load = load_one(text);
    assert!(load.problems.is_empty(), "{}", load.problems.render());
    load.rules
}

/// What is said of a text, a line for each problem, without the path.
fn said(text: &str) -> Vec<String> {
    let kind = |problem: &Problem| if problem.severity == Severity::Error { "error" } else { "warning" };
    let load = load_one(text);
    load.problems.iter().map(|it| format!("{} {}:{} {}", kind(it), it.line, it.column, it.what)).collect()
}

/// The one descriptor's limit of `domain: d` that `limit` says.
#[track_caller]
fn limit_of(limit: &str) -> RuleLimit {
    let rules = good(&format!("domain: d\ndescriptors: [{{key: a, rate_limit: {limit}}}]"));
    let domain = rules.domains[0].rules[0].limits.len();
    assert_eq!(domain, 1, "one limit: {limit}");
    let mut domains = rules.domains;
    let domain = Arc::into_inner(domains.remove(0)).expect("nobody else has it");
    domain.rules.into_iter().next().expect("there is one rule").limits.remove(0)
}

fn entries<'a>(pairs: &[(&'a str, &'a str)]) -> Vec<Entry<'a>> {
    pairs.iter().map(|(key, value)| Entry { key, value }).collect()
}

/// The id of the rule that some entries end at.
fn found(rules: &Rules, pairs: &[(&str, &str)]) -> Option<String> {
    match rules.find("d", &entries(pairs)) {
        RuleMatch::Rule { rule, .. } => Some(rule.id.to_string()),
        RuleMatch::NoMatch => None,
        RuleMatch::UnknownDomain => panic!("the domain is known"),
    }
}
