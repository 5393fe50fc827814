//! A comparison as JSON; `docs/src/guides/diff.md` has its fields.

use serde_json::{Value, json};

use crate::{
    limit::{UnixMicros, moment},
    rules::{
        LimitChange, MovedRule, OtherRule, OverrideChange, OverrideChangeKind, OverrideGroup, OverrideTerms, RulesDiff,
        SettingChange, TierChange,
    },
};

pub(super) fn of(diff: &RulesDiff<'_>, (old, new): (&str, &str), at: UnixMicros) -> Value {
    json!({
        "differs": !diff.is_empty(),
        "old": old,
        "new": new,
        "at": moment::write(at),
        "domains": {"added": diff.domains_added, "removed": diff.domains_removed},
        "limits": diff.limits.iter().map(limit).collect::<Vec<_>>(),
        "moved": diff.moved.iter().map(moved).collect::<Vec<_>>(),
        "tiers": diff.tiers.iter().map(tier).collect::<Vec<_>>(),
        "defaults": diff.defaults.iter().map(|change| setting(change, "setting")).collect::<Vec<_>>(),
        "rules": diff.rules.iter().map(|change| setting(change, "rule")).collect::<Vec<_>>(),
        "overrides": overrides(diff),
        "other_rules": {
            "found": diff.other_rules.found.iter().map(other_rule).collect::<Vec<_>>(),
            "descriptors_tried": diff.other_rules.tried,
            "is_cut": diff.other_rules.is_cut,
        },
    })
}

fn change<T, U>(before: &Option<T>, after: &Option<U>) -> &'static str {
    match (before, after) {
        (Some(_), None) => "removed",
        (None, Some(_)) => "added",
        _ => "changed",
    }
}

fn limit(of: &LimitChange) -> Value {
    json!({
        "domain": of.domain,
        "limit": &*of.limit_id,
        "change": change(&of.before, &of.after),
        "was_called": of.was_called.as_deref(),
        "before": of.before,
        "after": of.after,
        "counts_go_on": of.counts().map(|_| of.counts_go_on),
        "text": of.to_string(),
    })
}

fn moved(of: &MovedRule) -> Value {
    let rules = of.rules.iter().map(|(before, after)| json!({"before": &**before, "after": &**after}));
    json!({
        "before": &*of.before,
        "after": &*of.after,
        "limits": of.words,
        "rules": rules.collect::<Vec<_>>(),
        "text": of.to_string(),
    })
}

fn tier(of: &TierChange) -> Value {
    json!({
        "domain": of.domain,
        "tier": of.tier,
        "change": change(&of.before, &of.after),
        "before": of.before,
        "after": of.after,
        "limits": of.limits.iter().map(|id| &**id).collect::<Vec<_>>(),
        "overrides": of.overrides,
    })
}

fn setting(of: &SettingChange, name: &str) -> Value {
    json!({
        "domain": of.domain,
        name: of.what,
        "change": change(&of.before, &of.after),
        "before": of.before,
        "after": of.after,
    })
}

fn overrides(diff: &RulesDiff<'_>) -> Value {
    let overrides = &diff.overrides;
    let (before, after) = overrides.in_force;
    json!({
        "in_force_before": before,
        "in_force_after": after,
        "removed": overrides.count(OverrideChangeKind::Removed),
        "expired": overrides.count(OverrideChangeKind::Expired),
        "changed": overrides.count(OverrideChangeKind::Changed),
        "added": overrides.count(OverrideChangeKind::Added),
        "ended": overrides.ended,
        "groups": overrides.groups.iter().map(group).collect::<Vec<_>>(),
        "rows": overrides.rows.iter().map(row).collect::<Vec<_>>(),
        "rows_left_out": overrides.differing() - overrides.rows.len(),
    })
}

fn group(of: &OverrideGroup) -> Value {
    json!({"domain": of.domain, "change": of.kind.name(), "limit": of.words, "rows": of.rows})
}

fn row(of: &OverrideChange<'_>) -> Value {
    let terms = |terms: &OverrideTerms<'_>| {
        json!({
            "limit": &*terms.words,
            "expires": terms.row.expires().map(moment::write),
            "reason": terms.row.reason(),
            "owner": terms.row.owner(),
        })
    };
    let matches = of.after.as_ref().or(of.before.as_ref()).into_iter().flat_map(|terms| terms.row.matches());
    json!({
        "domain": of.domain,
        "rule": of.rule,
        "match": matches.map(entry).collect::<Vec<_>>(),
        "change": of.kind.name(),
        "before": of.before.as_ref().map(terms),
        "after": of.after.as_ref().map(terms),
        "text": of.words,
    })
}

fn entry((key, value): (&str, &str)) -> Value {
    json!({"key": key, "value": value})
}

fn other_rule(of: &OtherRule) -> Value {
    let example = |entries: &Vec<(Box<str>, Box<str>)>| -> Vec<Value> {
        entries.iter().map(|(key, value)| entry((key, value))).collect()
    };
    json!({
        "domain": of.domain,
        "before": of.before.as_deref(),
        "after": of.after.as_deref(),
        "limited_before": of.limited.0,
        "limited_after": of.limited.1,
        "descriptors": of.descriptors,
        "examples": of.examples.iter().map(example).collect::<Vec<_>>(),
        "text": of.to_string(),
    })
}
