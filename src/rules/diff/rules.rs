//! What rules say besides their limits, and rules that have none: they admit, and their place in the tree counts.

use std::collections::{HashMap, HashSet};

use super::{MovedRule, Rules, SettingChange};
use crate::rules::{Domain, Rule};

pub(super) fn changes(before: &Rules, after: &Rules, moved: &[MovedRule]) -> Vec<SettingChange> {
    let old: HashMap<&str, &Rule> = each(before).map(|(_, rule)| (&*rule.id, rule)).collect();
    let new: HashSet<&str> = each(after).map(|(_, rule)| &*rule.id).collect();
    let (left, arrived): (HashSet<&str>, HashSet<&str>) =
        moved.iter().flat_map(|moved| moved.rules.iter().map(|(from, to)| (&**from, &**to))).unzip();
    let change = |domain: &Domain, rule: &Rule, before: Option<String>, after: Option<String>| SettingChange {
        domain: domain.name().into(),
        what: (&*rule.id).into(),
        before: before.map(Into::into),
        after: after.map(Into::into),
    };
    let mut changes = Vec::new();
    for (domain, rule) in each(after) {
        match old.get(&*rule.id) {
            Some(was) => {
                let (before, after) = difference(was, rule);
                if before != after {
                    changes.push(change(domain, rule, Some(before), Some(after)));
                }
            }
            None if is_bare(rule) && !arrived.contains(&*rule.id) => {
                changes.push(change(domain, rule, None, Some(NO_LIMIT.to_owned())));
            }
            None => {}
        }
    }
    let gone = each(before).filter(|(_, rule)| is_bare(rule) && !new.contains(&*rule.id));
    let gone = gone.filter(|(_, rule)| !left.contains(&*rule.id));
    changes.extend(gone.map(|(domain, rule)| change(domain, rule, Some(NO_LIMIT.to_owned()), None)));
    changes.sort_by(|one, other| one.what.cmp(&other.what));
    changes
}

const NO_LIMIT: &str = "no limit";

fn each(rules: &Rules) -> impl Iterator<Item = (&Domain, &Rule)> {
    rules.domains().iter().flat_map(|domain| domain.rules().iter().map(|rule| (&**domain, rule)))
}

/// Whether it admits because it says nothing.
fn is_bare(rule: &Rule) -> bool {
    rule.limits.is_empty() && !rule.unlimited
}

fn difference(old: &Rule, new: &Rule) -> (String, String) {
    let (was, is): (Vec<String>, Vec<String>) =
        settings(old).into_iter().zip(settings(new)).filter(|(was, is)| was != is).unzip();
    (was.join(", "), is.join(", "))
}

/// What a limit's own words don't say.
fn settings(rule: &Rule) -> [String; 6] {
    let yes_or_no = |name: &str, is: bool| format!("{name} {is}");
    let named: Vec<&str> = rule.path.iter().filter(|level| level.value_to_metric).map(|level| &*level.key).collect();
    let replaces = match rule.replaces.as_slice() {
        [] => "replaces nothing".to_owned(),
        names => format!("replaces {}", names.join(", ")),
    };
    let metadata = rule.metadata.as_ref().map_or("no metadata".to_owned(), |metadata| format!("metadata {metadata}"));
    [
        replaces,
        format!("name `{}`", rule.name),
        yes_or_no("switchable", rule.switchable),
        yes_or_no("detailed_metric", rule.detailed_metric),
        format!("value_to_metric of {}", if named.is_empty() { "no key".to_owned() } else { named.join(", ") }),
        metadata,
    ]
}
