//! Finds rules that can't do what they seem to: patterns that an earlier one covers, limits that another value's rule hides,
//! names that nothing has, tiers that nothing uses, limits that never decide. It looks at the compiled rules of one domain
//! without errors, and knows nothing of how they are written.

mod pointless;
mod siblings;
#[cfg(test)]
mod tests;

use std::{collections::HashSet, path::PathBuf, sync::Arc};

use smallvec::SmallVec;

use super::{
    Rule, changes,
    fields::Fields,
    node::Location,
    problem::{Problem, ProblemCollector},
    rows::OverrideTable,
    terms::DomainDefaults,
    tree::Tree,
    warning::Warning,
    written_limit::WrittenLimit,
};

/// Steps of all comparisons of one load. They take some tenths of a second; usual rules take a thousandth of them.
const STEPS_MAX: u64 = 5_000_000;

/// How many steps comparisons may still take: the time to load must stay near linear whatever the rules are.
pub(super) struct LintBudget {
    steps: u64,
}

impl Default for LintBudget {
    fn default() -> LintBudget {
        LintBudget { steps: STEPS_MAX }
    }
}

/// The comparisons have taken too long.
#[derive(Debug)]
struct Exhausted;

impl LintBudget {
    fn take(&mut self, steps: usize) -> Result<(), Exhausted> {
        self.steps = self.steps.checked_sub(steps as u64).ok_or(Exhausted)?;
        Ok(())
    }
}

/// Where the rules of a domain say what is looked at here.
#[derive(Default)]
pub(super) struct LintLocations {
    /// Of each rule: its value, or its key if it has none.
    pub(super) values: Vec<Location>,
    /// The limits of each rule that has several.
    pub(super) limits: Vec<(u32, SmallVec<[Location; 4]>)>,
    /// Each name in a `replaces`, with the rule that has it.
    pub(super) replaced: Vec<(u32, Location, Box<str>)>,
}

impl LintLocations {
    /// Of the next rule.
    pub(super) fn add(&mut self, rule: u32, fields: &Fields<'_, '_>, limits: &[WrittenLimit]) {
        self.values.push(fields.get("value").or(fields.get("key")).map_or(fields.at, |node| node.at));
        if limits.len() > 1 {
            self.limits.push((rule, limits.iter().map(|limit| limit.at).collect()));
        }
        let replaced = limits.iter().flat_map(|limit| &limit.replaces);
        self.replaced.extend(replaced.map(|replaced| (rule, replaced.at, replaced.value.clone())));
    }
}

/// What is looked at.
pub(super) struct DomainLint<'l> {
    pub(super) report: &'l mut ProblemCollector,
    pub(super) budget: &'l mut LintBudget,
    pub(super) rules: &'l [Rule],
    pub(super) tree: &'l Tree,
    pub(super) overrides: &'l OverrideTable,
    pub(super) defaults: &'l DomainDefaults,
    pub(super) locations: &'l LintLocations,
}

impl DomainLint<'_> {
    pub(super) fn run(&mut self) {
        self.siblings();
        self.replaced_names();
        self.unused_tiers();
        self.pointless_limits();
    }

    fn warn(&mut self, rule: u32, at: Location, warning: Warning, what: String) -> &mut Problem {
        self.report.warn(&self.rules[rule as usize].file, at, warning, what)
    }

    /// What a message about a rule calls the location of another.
    fn location(&self, of: u32, beside: u32) -> String {
        let (file, at) = (&self.rules[of as usize].file, self.locations.values[of as usize]);
        location(self.report, file, at, &self.rules[beside as usize].file)
    }

    /// Warns of names in `replaces` that no limit has.
    fn replaced_names(&mut self) {
        let (rules, locations) = (self.rules, self.locations);
        if locations.replaced.is_empty() {
            return;
        }
        let of_rules = rules.iter().flat_map(|rule| rule.limits.iter().filter_map(|limit| limit.name.as_deref()));
        let of_overrides = self.overrides.limit_names();
        let names: HashSet<&str> = rules.iter().map(|rule| &*rule.name).chain(of_rules).chain(of_overrides).collect();
        for (rule, at, name) in &locations.replaced {
            if !names.contains(&**name) {
                let what = format!("no limit of this domain is called `{name}`, so nothing is replaced");
                self.warn(*rule, *at, Warning::UnknownReplaces, what)
                    .hint("give the limit that is meant a `name`, or take this entry out");
            }
        }
    }

    fn unused_tiers(&mut self) {
        for (name, tier) in self.defaults.tiers.unused() {
            self.report
                .warn(&tier.path, tier.at, Warning::UnusedTier, format!("no limit and no override uses tier `{name}`"))
                .hint("take it out, unless overrides that are made while the service runs use it");
        }
    }

    fn pointless_limits(&mut self) {
        let replaced: HashSet<&str> = self.locations.replaced.iter().map(|(_, _, name)| &**name).collect();
        for (rule, at) in &self.locations.limits {
            let limits = &self.rules[*rule as usize].limits;
            for (position, _) in limits.iter().enumerate() {
                let Some(decider) = pointless::decider(limits, position, &replaced) else { continue };
                let what = format!(
                    "this limit of {} never decides: that of {} in {} refuses whatever it would",
                    changes::rate(&limits[position].limit),
                    changes::rate(&limits[decider].limit),
                    self.report.beside(&self.rules[*rule as usize].file, at[decider]),
                );
                self.report
                    .warn(&self.rules[*rule as usize].file, at[position], Warning::PointlessLimit, what)
                    .hint("take it out, or look at its numbers again");
            }
        }
    }
}

fn location(report: &ProblemCollector, file: &Arc<PathBuf>, at: Location, beside: &Arc<PathBuf>) -> String {
    match Arc::ptr_eq(file, beside) {
        true => report.beside(file, at),
        false => report.elsewhere(file, at),
    }
}
