//! A domain as JSON, in pieces: first what holds in all of it, then rule by rule, then row by row.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::{
    limit::{CountDenied, EnforcedShare, FailurePolicy, Micros, SECOND, SUB_WINDOWS_DEFAULT, moment},
    rules::{
        Domain, Level, Rule, RuleLimit, Shortcuts,
        fields::Located,
        rows::{OverrideLimits, RowRef, ShapeScope},
        star,
        written_limit::WrittenLimit,
    },
};

/// Bytes after which a piece ends; it is longer by one rule or row at most.
const PIECE_BYTES: usize = 64 << 10;

/// The JSON object of one domain, piece by piece.
pub struct FullPieces {
    domain: Arc<Domain>,
    next: Next,
    /// The limits that rows grant, by their numbers.
    limits: Vec<String>,
}

enum Next {
    Head,
    /// The rule at this position.
    Rule(usize),
    /// The row with this number.
    Row(Option<u32>),
    End,
}

impl FullPieces {
    pub fn new(domain: Arc<Domain>) -> FullPieces {
        let limits = domain.overrides.each_limits().map(|limits| granted(limits).to_string()).collect();
        FullPieces { domain, next: Next::Head, limits }
    }

    fn rules(&self, from: usize, out: &mut String) -> Next {
        for (at, rule) in self.domain.rules.iter().enumerate().skip(from) {
            if out.len() >= PIECE_BYTES {
                return Next::Rule(at);
            }
            let comma = if at > 0 { "," } else { "" };
            out.push_str(&format!("{comma}\n{}", rule_json(rule)));
        }
        out.push_str("],\"overrides\":[");
        Next::Row(self.domain.overrides.row_numbers().next())
    }

    fn rows(&self, mut next: Option<u32>, out: &mut String) -> Next {
        let table = &self.domain.overrides;
        while let Some(number) = next {
            if out.len() >= PIECE_BYTES {
                return Next::Row(next);
            }
            let row = table.row_at(number);
            next = table.row_after(number);
            out.push_str(if number > 0 { ",\n" } else { "\n" });
            self.row(row, out);
        }
        out.push_str("]}");
        Next::End
    }

    /// Written by hand: a million of them are.
    fn row(&self, row: RowRef<'_>, out: &mut String) {
        let text = |out: &mut String, text: &str| out.push_str(&Value::from(text).to_string());
        out.push_str("{\"match\":[");
        for (at, (key, value)) in row.matches().enumerate() {
            out.push_str(if at > 0 { ",{\"key\":" } else { "{\"key\":" });
            text(out, key);
            out.push_str(",\"value\":");
            text(out, &star::write(value));
            out.push('}');
        }
        out.push_str("],\"limit\":");
        out.push_str(&self.limits[row.limits_number() as usize]);
        if let ShapeScope::Rule { id, .. } = &row.shape().scope {
            out.push_str(",\"rule\":");
            text(out, id);
        }
        let expires = row.expires().map(moment::write).unwrap_or_default();
        for (name, said) in [("expires", &*expires), ("reason", row.reason()), ("owner", row.owner())] {
            if !said.is_empty() {
                out.push_str(&format!(",\"{name}\":"));
                text(out, said);
            }
        }
        // Of rows with the same match the one with the higher rank wins.
        out.push_str(&format!(",\"rank\":{}", row.source_rank()));
        out.push_str(",\"place\":");
        text(out, &format!("{}:{}", row.location().path.display(), row.location().line));
        out.push('}');
    }
}

impl Iterator for FullPieces {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        let mut out = String::with_capacity(PIECE_BYTES + 1024);
        self.next = match self.next {
            Next::Head => {
                out.push_str(&head(&self.domain));
                Next::Rule(0)
            }
            Next::Rule(at) => self.rules(at, &mut out),
            Next::Row(next) => self.rows(next, &mut out),
            Next::End => return None,
        };
        Some(out)
    }
}

/// Everything before the rules.
fn head(domain: &Domain) -> String {
    let (own, process) = (&domain.defaults.limits, &domain.defaults.process);
    let mut defaults = Map::new();
    defaults.insert("algorithm".into(), own.algorithm.map_or(process.algorithm, value).name().into());
    defaults.insert("sub_windows".into(), own.sub_windows.map_or(SUB_WINDOWS_DEFAULT, value).into());
    defaults.insert("count_denied".into(), count_denied(own.count_denied.map_or(process.count_denied, value)));
    put_policy(&mut defaults, own.on_store_failure.map(value));
    let tiers: Map<String, Value> = domain
        .defaults
        .tiers
        .by_name
        .iter()
        .filter_map(|(name, tier)| Some((name.to_string(), tier_json(tier.limit.as_ref()?))))
        .collect();
    let Shortcuts { user, endpoint, action } = &domain.shortcuts;
    let shortcuts = json!({"user": user, "endpoint": endpoint, "action": action});
    let defaults = Value::from(defaults);
    format!("{{\"defaults\":{defaults},\"tiers\":{},\"shortcuts\":{shortcuts},\"rules\":[", Value::from(tiers))
}

fn value<V>(located: Located<V>) -> V {
    located.value
}

fn put_policy(map: &mut Map<String, Value>, policy: Option<FailurePolicy>) {
    if let Some(policy) = policy {
        map.insert("on_store_failure".into(), policy.name().into());
    }
}

fn count_denied(when: CountDenied) -> Value {
    match when {
        CountDenied::Always => true.into(),
        CountDenied::Never => false.into(),
        other => other.name().into(),
    }
}

fn enforce(share: EnforcedShare) -> Value {
    match share {
        share if share.is_none() => false.into(),
        share if share.is_partial() => share.to_string().into(),
        _ => true.into(),
    }
}

fn window(window: Micros) -> Value {
    match window.0 {
        micros if micros.is_multiple_of(SECOND.0) => format!("{}s", micros / SECOND.0).into(),
        micros => format!("{micros}us").into(),
    }
}

/// As it is written: what it leaves out is left to whoever names it.
fn tier_json(tier: &WrittenLimit) -> Value {
    let mut map = Map::new();
    put_policy(&mut map, tier.defaults.on_store_failure.map(value));
    let Some(rate) = tier.rate else {
        map.insert("unlimited".into(), true.into());
        return map.into();
    };
    map.insert("requests".into(), rate.requests.value.into());
    map.insert("window".into(), window(rate.window.window()));
    let own = [
        ("algorithm", tier.defaults.algorithm.map(|own| own.value.name().into())),
        ("sub_windows", tier.defaults.sub_windows.map(|own| own.value.into())),
        ("count_denied", tier.defaults.count_denied.map(|own| count_denied(own.value))),
        ("burst", tier.burst.map(|own| own.value.into())),
    ];
    map.extend(own.into_iter().filter_map(|(key, own): (&str, Option<Value>)| Some((key.to_owned(), own?))));
    map.insert("enforce".into(), enforce(tier.enforce.value));
    map.into()
}

fn limit_json(limit: &RuleLimit) -> Map<String, Value> {
    let numbers = limit.limit;
    let mut map = Map::new();
    map.insert("requests".into(), numbers.requests.into());
    map.insert("window".into(), window(numbers.window));
    map.insert("algorithm".into(), numbers.algorithm.name().into());
    if numbers.algorithm == crate::limit::Algorithm::SlidingWindow {
        map.insert("sub_windows".into(), numbers.sub_windows.into());
    }
    if numbers.algorithm.has_burst() && numbers.burst > 0 {
        map.insert("burst".into(), numbers.burst.into());
    }
    map.insert("count_denied".into(), count_denied(limit.count_denied));
    map.insert("enforce".into(), enforce(limit.enforce));
    put_policy(&mut map, limit.on_store_failure);
    for (key, said) in [("tier", limit.tier.as_deref()), ("name", limit.name.as_deref())] {
        if let Some(said) = said {
            map.insert(key.into(), said.into());
        }
    }
    map
}

fn granted(limits: &OverrideLimits) -> Value {
    match limits {
        OverrideLimits::Unlimited => "unlimited".into(),
        OverrideLimits::Limits(limits) => limits.iter().map(|limit| Value::from(limit_json(limit))).collect(),
    }
}

fn rule_json(rule: &Rule) -> Value {
    let mut map = Map::new();
    map.insert("id".into(), (&*rule.id).into());
    map.insert("path".into(), rule.path.iter().map(|level| level_json(level)).collect());
    let mut limits: Vec<Map<String, Value>> = rule.limits.iter().map(limit_json).collect();
    if rule.unlimited {
        let mut unlimited = Map::new();
        unlimited.insert("unlimited".into(), true.into());
        if !rule.name.is_empty() {
            unlimited.insert("name".into(), (&*rule.name).into());
        }
        limits.push(unlimited);
    }
    if let Some(first) = limits.first_mut().filter(|_| !rule.replaces.is_empty()) {
        first.insert("replaces".into(), rule.replaces.iter().map(|name| json!({"name": name})).collect());
    }
    match limits.len() {
        0 => {}
        1 => drop(map.insert("rate_limit".into(), limits.swap_remove(0).into())),
        _ => drop(map.insert("rate_limit".into(), limits.into_iter().map(Value::from).collect())),
    }
    let flags = [
        ("shadow_mode", rule.shadow_mode, false),
        ("quota_mode", rule.quota_mode, false),
        ("detailed_metric", rule.detailed_metric, false),
        ("switchable", rule.switchable, true),
    ];
    for (key, is, default) in flags {
        if is != default {
            map.insert(key.into(), is.into());
        }
    }
    put_policy(&mut map, rule.on_store_failure);
    if let Some(metadata) = &rule.metadata {
        map.insert("metadata".into(), Value::clone(metadata));
    }
    map.insert("place".into(), format!("{}:{}", rule.file.display(), rule.line).into());
    map.into()
}

fn level_json(level: &Level) -> Value {
    let mut map = Map::new();
    map.insert("key".into(), (&*level.key).into());
    if let Some(value) = level.value.text() {
        map.insert("value".into(), value.into());
    }
    for (key, is) in [("share_threshold", level.share_threshold), ("value_to_metric", level.value_to_metric)] {
        if is {
            map.insert(key.into(), true.into());
        }
    }
    map.into()
}
