//! Which rules an override is for, said and asked about before it is set.

use std::io::{self, IsTerminal as _, Write as _};

use super::table;
use crate::{front::api::Override, visible};

/// A line for each rule: what holds there for who is matched, and what will.
pub(super) fn lines(planned: &Override) -> String {
    let after = table::numbers(&planned.limits, planned.unlimited);
    let line = |rule: &crate::front::api::TouchedRule| {
        let before = table::numbers(&rule.before, rule.before.is_empty());
        visible::text(&format!("touches {}: {before} → {after}", rule.rule)).into_owned() + "\n"
    };
    let mut out: String = planned.touches.iter().map(line).collect();
    if let Some(more) = planned.touches_left_out {
        out += &format!("touches {more} more rules\n");
    }
    out
}

/// Whether it is to be done. Asked only on a terminal, and only where more than one rule is touched.
pub(super) fn is_meant(service: &str, planned: &Override) -> anyhow::Result<bool> {
    let rules = planned.touches.len() + planned.touches_left_out.unwrap_or_default() as usize;
    if rules < 2 || !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Ok(true);
    }
    write!(io::stderr(), "change {rules} rules of {service}? --rule names one. [y/N] ")?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(["y", "yes"].contains(&answer.trim().to_lowercase().as_str()))
}
