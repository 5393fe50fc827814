//! Problems of rules in the log: errors, and warnings about a file as a whole, a line each; all other warnings as one count
//! by name, because a set of rules may have thousands, and `tollgate check` and `/rules` have them all with their lines.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use tracing::{error, warn};

use crate::rules::{Problem, Severity, Warning};

/// Problems that are logged one by one.
const LOGGED_MAX: usize = 20;

/// Logs some problems of `of`, such as "rule files", and how many were left out of them already.
pub(super) fn log<'p>(problems: impl Iterator<Item = &'p Problem>, more: usize, of: &str) {
    let (counted, single): (Vec<&Problem>, Vec<&Problem>) = problems.partition(|problem| is_counted(problem));
    for problem in single.iter().take(LOGGED_MAX) {
        match problem.severity {
            Severity::Error => error!("{problem}"),
            Severity::Warning => warn!("{problem}"),
        }
    }
    if let Some(counts) = counts(&counted) {
        warn!("{counts} in {of}: `tollgate check` and `/rules` say where");
    }
    let more = single.len().saturating_sub(LOGGED_MAX) + more;
    if more > 0 {
        warn!(more, "further problems in {of}");
    }
}

/// Whether it is a warning that has a place.
fn is_counted(problem: &Problem) -> bool {
    problem.severity == Severity::Warning && problem.has_place()
}

/// `3 warnings (2 hidden-rules, 1 unused-tier)`; `None` of none.
fn counts(warnings: &[&Problem]) -> Option<String> {
    let mut by_name: BTreeMap<&str, usize> = BTreeMap::new();
    for warning in warnings {
        *by_name.entry(warning.name.map_or("other", Warning::name)).or_default() += 1;
    }
    let names: Vec<String> = by_name.iter().map(|(name, count)| format!("{count} {name}")).collect();
    let plural = if warnings.len() == 1 { "" } else { "s" };
    (!names.is_empty()).then(|| format!("{} warning{plural} ({})", warnings.len(), names.join(", ")))
}
