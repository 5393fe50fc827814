//! The stored form of an override: what its author wrote, which numbers that meant, and who wrote it when. It reads no
//! rules and knows no store.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    limit::{Algorithm, CountDenied, EnforcedShare, FailurePolicy, Limit, Micros},
    rules::{
        RuleLimit,
        rows::{OverrideLimits, OverrideRow, Shape, ShapeScope},
    },
};

/// One override, as JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// As its author wrote it: `match`, `limit`, and maybe `rule`, `expires`, `reason`, `owner`.
    #[serde(rename = "override")]
    pub written: Value,
    /// What the limit came to when it was written, for when its tier is gone; none is unlimited.
    pub limits: Vec<StoredLimit>,
    /// Where it names a rule: which, and the places of the keys in its path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bound: Option<RuleBinding>,
    /// The name of the token that wrote it.
    pub by: String,
    /// When, in µs since the epoch.
    pub at: u64,
}

/// For one rule only: what of its entries an override matches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleBinding {
    /// By its id.
    pub rule: String,
    pub keys: Vec<Box<str>>,
    pub values: Vec<Box<str>>,
    pub positions: Vec<u8>,
}

/// The numbers of a limit; what is usual is left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredLimit {
    pub requests: u32,
    /// In µs.
    pub window: u64,
    pub algorithm: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sub_windows: Option<u8>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Box<str>>,
    #[serde(default, skip_serializing_if = "str::is_empty")]
    pub key_name: Box<str>,
    /// Left out: yes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enforce: Option<bool>,
    /// `enforce: 10%`. A field of its own beside `enforce: false`: replicas of before know no shares, and deny nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enforce_share: Option<String>,
    /// Left out: auto.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count_denied: Option<bool>,
    /// `count_denied: reported`. A field of its own, because replicas of before know only two words for the one above;
    /// without it they count as they always did, which is what this asks for.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reported: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_store_failure: Option<String>,
}

impl Record {
    /// Of a row that was just read from `written`.
    pub fn new(written: Value, row: &OverrideRow, by: &str, at: u64) -> Record {
        let bound = match &row.shape.scope {
            ShapeScope::Domain => None,
            ShapeScope::Rule { id, positions } => Some(RuleBinding {
                rule: id.to_string(),
                keys: row.shape.keys.to_vec(),
                values: row.values.to_vec(),
                positions: positions.to_vec(),
            }),
        };
        let limits = row.limits.limits().iter().map(StoredLimit::of).collect();
        Record { written, limits, bound, by: by.to_owned(), at }
    }

    /// What it matches, if it is well formed.
    pub(super) fn matches(&self) -> Option<(Shape, Box<[Box<str>]>)> {
        if let Some(bound) = &self.bound {
            let scope =
                ShapeScope::Rule { id: Arc::from(&*bound.rule), positions: bound.positions.iter().copied().collect() };
            let is_whole = bound.keys.len() == bound.values.len() && bound.keys.len() == bound.positions.len();
            return is_whole.then(|| (Shape { scope, keys: bound.keys.clone().into() }, bound.values.clone().into()));
        }
        let text = |value: &Value| Some(Box::from(value.as_str()?));
        let mut pairs: Vec<(Box<str>, Box<str>)> = match &self.written["match"] {
            Value::Object(map) => {
                map.iter().map(|(key, value)| Some((Box::from(&**key), text(value)?))).collect::<Option<_>>()?
            }
            Value::Array(entries) => {
                let entry = |entry: &Value| Some((text(&entry["key"])?, text(&entry["value"])?));
                entries.iter().map(entry).collect::<Option<_>>()?
            }
            _ => return None,
        };
        // As shapes without a rule are: in order of keys, equal ones as they were written.
        pairs.sort_by(|(one, _), (other, _)| one.cmp(other));
        let (keys, values): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
        (!keys.is_empty()).then(|| (Shape { scope: ShapeScope::Domain, keys: keys.into() }, values.into()))
    }

    /// What it granted when it was written.
    pub(super) fn stored_limits(&self, domain: &str) -> Option<OverrideLimits> {
        let limits = self.limits.iter().map(StoredLimit::limit).collect::<Option<Vec<_>>>()?;
        Some(OverrideLimits::resolved(domain, limits))
    }

    /// As it is stored.
    pub fn write(&self) -> String {
        serde_json::to_string(self).expect("plain fields have a JSON form")
    }
}

impl StoredLimit {
    fn of(limit: &RuleLimit) -> StoredLimit {
        let numbers = &limit.limit;
        let algorithm = numbers.algorithm;
        StoredLimit {
            requests: numbers.requests,
            window: numbers.window.0,
            algorithm: algorithm.name().to_owned(),
            burst: algorithm.has_burst().then_some(numbers.burst),
            sub_windows: (algorithm == Algorithm::SlidingWindow).then_some(numbers.sub_windows),
            name: limit.name.clone(),
            key_name: limit.key_name.clone(),
            enforce: (limit.enforce != EnforcedShare::ALL).then_some(false),
            enforce_share: limit.enforce.is_partial().then(|| limit.enforce.to_string()),
            reported: limit.count_denied == CountDenied::Reported,
            count_denied: match limit.count_denied {
                CountDenied::Auto | CountDenied::Reported => None,
                CountDenied::Always => Some(true),
                CountDenied::Never => Some(false),
            },
            on_store_failure: limit.on_store_failure.map(|policy| policy.name().to_owned()),
        }
    }

    fn limit(&self) -> Option<RuleLimit> {
        let mut limit = Limit::new(self.requests, Micros(self.window), Algorithm::parse(&self.algorithm)?);
        limit.burst = self.burst.unwrap_or(limit.burst);
        limit.sub_windows = self.sub_windows.unwrap_or(limit.sub_windows);
        let on_store_failure = match &self.on_store_failure {
            Some(name) => Some(FailurePolicy::parse(name)?),
            None => None,
        };
        let enforce = match &self.enforce_share {
            Some(share) => EnforcedShare::parse(share).ok()?,
            None => EnforcedShare::of_bool(self.enforce.unwrap_or(true)),
        };
        Some(RuleLimit {
            id: Arc::from(""),
            id_hash: 0,
            limit,
            name: self.name.clone(),
            // Whatever it came from, these numbers are its own.
            tier: None,
            key_name: self.key_name.clone(),
            enforce,
            count_denied: match self.count_denied {
                None if self.reported => CountDenied::Reported,
                None => CountDenied::Auto,
                Some(true) => CountDenied::Always,
                Some(false) => CountDenied::Never,
            },
            on_store_failure,
        })
    }
}
