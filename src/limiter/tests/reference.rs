//! envoyproxy/ratelimit's decisions as the plainest model there is, held against random rules and requests. The model
//! gives every answer that was recorded from the real one (`tests/conformance`); rules are matched by walking their
//! file, patterns by trying every way.

use std::collections::HashMap;

use proptest::{collection::vec, option, prelude::*, sample::select, test_runner::RngSeed};
use serde_json::{Value, json};

use super::*;
use crate::limiter::Status;

const KEYS: &[&str] = &["k", "l"];
const VALUES: &[&str] = &["", "a", "b", "ab", "aa", "aba", "*", "a*"];
const PATTERNS: &[&str] = &["*", "a*", "*b", "a*a", "a*b*"];
const UNITS: &[Unit] = &[Unit::Hour, Unit::Day, Unit::Year];

const MODES: Modes = Modes {
    algorithm: Algorithm::FixedWindow,
    count_denied: CountDenied::Always,
    on_store_failure: FailurePolicy::Error,
    ..super::MODES
};

const DEFAULTS: Defaults =
    Defaults { algorithm: Algorithm::FixedWindow, count_denied: CountDenied::Always, merge_domains: false };

/// One descriptor of a request.
#[derive(Clone, Debug)]
struct Asks {
    entries: Vec<(&'static str, &'static str)>,
    hits: Option<i64>,
    limit: Option<(u32, Unit)>,
}

/// What stands under `rate_limit`.
fn rate_limit() -> impl Strategy<Value = Value> {
    let requests = select(vec![0, 1, 2, 3, 5, u32::MAX]);
    let names = || select(vec!["", "n", "m"]);
    (prop::bool::weighted(0.1), requests, select(UNITS), names(), vec(names(), 0..3)).prop_map(
        |(unlimited, requests, unit, name, replaces)| {
            let mut limit = match unlimited {
                true => json!({"unlimited": true}),
                false => json!({"requests_per_unit": requests, "unit": unit.name()}),
            };
            if !name.is_empty() {
                limit["name"] = name.into();
            }
            // Its own name, or none, is refused there.
            let replaces = replaces.into_iter().filter(|other| !other.is_empty() && *other != name);
            limit["replaces"] = replaces.map(|name| json!({"name": name})).collect();
            limit
        },
    )
}

/// A descriptor of a rule file, with what stands below it.
fn rule() -> impl Strategy<Value = Value> {
    let value =
        prop_oneof![Just(None), select(vec!["a", "b", "ab", "aba"]).prop_map(Some), select(PATTERNS).prop_map(Some)];
    let flags = (prop::bool::weighted(0.2), prop::bool::weighted(0.3), any::<bool>());
    let alone =
        (select(KEYS), value, flags, option::weighted(0.8, rate_limit())).prop_map(|(key, value, flags, limit)| {
            let (shadow, quota, share) = flags;
            let mut rule = json!({"key": key, "shadow_mode": shadow, "quota_mode": quota});
            if let Some(value) = value {
                rule["value"] = value.into();
                rule["share_threshold"] = (share && value.contains('*')).into();
            }
            if let Some(limit) = limit {
                rule["rate_limit"] = limit;
            }
            rule
        });
    alone.prop_recursive(3, 24, 4, |below| {
        (below.clone(), vec(below, 0..4)).prop_map(|(mut rule, below)| {
            rule["descriptors"] = siblings(below);
            rule
        })
    })
}

/// Without those that name the same as one before, which are refused.
fn siblings(rules: Vec<Value>) -> Value {
    let mut kept: Vec<Value> = Vec::new();
    for rule in rules {
        if !kept.iter().any(|other| other["key"] == rule["key"] && other["value"] == rule["value"]) {
            kept.push(rule);
        }
    }
    kept.into()
}

fn asks() -> impl Strategy<Value = Asks> {
    // Few are deep: most should meet a rule.
    let depth = prop_oneof![1 => Just(0usize), 12 => Just(1), 4 => Just(2), 1 => Just(3)];
    let entries = depth.prop_flat_map(|depth| vec((select(KEYS), select(VALUES)), depth));
    let hits = option::weighted(0.2, select(vec![0, 1, 3, HITS_MAX]));
    let limit = option::weighted(0.2, (select(vec![0, 1, 3, u32::MAX]), select(UNITS)));
    (entries, hits, limit).prop_map(|(entries, hits, limit)| Asks { entries, hits, limit })
}

/// The reference, as it counts and judges.
struct Model {
    rules: Value,
    shadow: bool,
    quota: bool,
    counters: HashMap<String, i64>,
}

/// A limit that a descriptor met.
#[derive(Clone, Debug)]
struct Limiting {
    requests: u32,
    unit: Unit,
    name: String,
    shadow: bool,
    quota: bool,
    counter: String,
}

impl Model {
    fn rule(&self, entries: &[(&str, &str)]) -> Option<(&Value, Vec<String>)> {
        let (mut at, mut counter) = (&self.rules, Vec::new());
        for &(key, value) in entries {
            let below = at["descriptors"].as_array()?;
            let named = |rule: &&Value| rule["key"] == key;
            let text = |rule: &Value| rule["value"].as_str().unwrap_or_default().to_owned();
            let exact = below.iter().filter(named).find(|rule| !value.is_empty() && text(rule) == value);
            let pattern = || below.iter().filter(named).find(|rule| is_pattern(rule) && matches(&text(rule), value));
            let any = || below.iter().filter(named).find(|rule| text(rule).is_empty());
            at = exact.or_else(pattern).or_else(any)?;
            let shared = at["share_threshold"] == true;
            counter.push(if shared { format!("{key}~{}", text(at)) } else { format!("{key}={value}") });
        }
        (!entries.is_empty()).then_some((at, counter))
    }

    /// `None`: nothing applies. `Some(None)`: unlimited.
    fn limiting(&self, asks: &Asks, replaced: &[Value]) -> Option<Option<Limiting>> {
        if let Some((requests, unit)) = asks.limit {
            let counter: Vec<_> = asks.entries.iter().map(|(key, value)| format!("{key}={value}")).collect();
            let counter = format!("{counter:?}{unit:?}");
            return Some(Some(Limiting { requests, unit, name: String::new(), shadow: false, quota: false, counter }));
        }
        let (rule, counter) = self.rule(&asks.entries)?;
        let limit = rule.get("rate_limit")?;
        if limit["unlimited"] == true {
            return Some(None);
        }
        if replaced.iter().any(|name| *name == limit["name"]) {
            return None;
        }
        let unit = Unit::parse(limit["unit"].as_str()?)?;
        Some(Some(Limiting {
            requests: limit["requests_per_unit"].as_u64()? as u32,
            unit,
            name: limit["name"].as_str().unwrap_or_default().to_owned(),
            shadow: rule["shadow_mode"] == true,
            quota: rule["quota_mode"] == true,
            counter: format!("{counter:?}{unit:?}"),
        }))
    }

    /// The overall code, and of each status its code, what remains, and its limit.
    fn ask(&mut self, descriptors: &[Asks], hits: i64) -> (Code, Vec<Told>) {
        let ruled = descriptors.iter().filter(|asks| asks.limit.is_none());
        let replaced: Vec<Value> = ruled
            .filter_map(|asks| self.rule(&asks.entries)?.0["rate_limit"]["replaces"].as_array().cloned())
            .flatten()
            .map(|other| other["name"].clone())
            .collect();
        let (mut reported, mut quotas, mut denied) = (Vec::new(), Vec::new(), false);
        for asks in descriptors {
            let limiting = match self.limiting(asks, &replaced) {
                Some(None) => {
                    reported.push((Code::Ok, u32::MAX, None));
                    continue;
                }
                limiting => limiting.flatten(),
            };
            let (mut code, mut remaining) = (Code::Ok, 0);
            if let Some(limit) = &limiting {
                let count = self.counters.entry(limit.counter.clone()).or_default();
                *count += asks.hits.unwrap_or(hits);
                remaining = (i64::from(limit.requests) - *count).max(0) as u32;
                if *count > i64::from(limit.requests) && !limit.shadow {
                    code = Code::OverLimit;
                }
            }
            match self.quota || limiting.as_ref().is_some_and(|limit| limit.quota) {
                true => quotas.push(code),
                false => denied |= code == Code::OverLimit,
            }
            reported.push((code, remaining, limiting.map(|limit| (limit.requests, limit.unit, limit.name))));
        }
        denied |= !quotas.is_empty() && quotas.iter().all(|code| *code == Code::OverLimit);
        (if denied && !self.shadow { Code::OverLimit } else { Code::Ok }, reported)
    }
}

type Told = (Code, u32, Option<(u32, Unit, String)>);

fn told(status: &Status) -> Told {
    let limit = status.limit.as_ref();
    let limit = limit.map(|limit| (limit.requests, limit.unit.expect("windows are units here"), limit.name.clone()));
    (status.code, status.remaining, limit)
}

fn is_pattern(rule: &Value) -> bool {
    rule["value"].as_str().is_some_and(|value| value.contains('*'))
}

fn matches(pattern: &str, value: &str) -> bool {
    let tail = |text: &str| text.chars().next().map(|first| text[first.len_utf8()..].to_owned());
    match (pattern.chars().next(), value.chars().next()) {
        (None, first) => first.is_none(),
        (Some('*'), None) => matches(&pattern[1..], value),
        (Some('*'), Some(_)) => matches(&pattern[1..], value) || matches(pattern, &tail(value).unwrap_or_default()),
        (Some(a), Some(b)) if a == b => matches(&tail(pattern).unwrap_or_default(), &tail(value).unwrap_or_default()),
        _ => false,
    }
}

/// The same cases every time, unless PROPTEST_RNG_SEED asks for others.
fn config() -> ProptestConfig {
    let config = ProptestConfig::default();
    match config.rng_seed {
        RngSeed::Random => ProptestConfig { rng_seed: RngSeed::Fixed(5), failure_persistence: None, ..config },
        RngSeed::Fixed(_) => config,
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn random_rules_and_requests_are_decided_as_the_reference_decides(
        rules in vec(rule(), 2..8).prop_map(siblings),
        requests in vec((vec(asks(), 1..5), 1i64..4), 1..30),
        shadow in prop::bool::weighted(0.1),
        quota in prop::bool::weighted(0.2),
    ) {
        let rules = json!({"domain": "api", "descriptors": rules});
        let asked = asked_with(&rules.to_string(), Modes { shadow, quota, ..MODES }, DEFAULTS);
        let mut model = Model { rules, shadow, quota, counters: HashMap::new() };
        for (descriptors, hits) in requests {
            let words = descriptors.iter().map(|asks| Descriptor {
                entries: asks.entries.iter().map(|&(key, value)| Entry { key, value }).collect(),
                hits: asks.hits,
                limit: asks.limit,
            });
            let request = Request { domain: "api", descriptors: words.collect(), hits, caller_limit: None, origin: Origin::Envoy };
            let decision = asked.request(&request).expect("well formed");
            let (overall, statuses) = model.ask(&descriptors, hits);
            prop_assert_eq!(decision.statuses.iter().map(told).collect::<Vec<_>>(), statuses, "{:?}", descriptors);
            prop_assert_eq!(decision.overall, overall, "{:?}", descriptors);
        }
    }
}
