//! A run-time override as it is stored and as decisions use it. Where rows are kept is not known here.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::index::hash;
use crate::{limit::UnixMicros, moment};

/// One override, read.
pub struct Row {
    pub id: Box<str>,
    /// The moment of its last write, later than that of any write before it: what is newer, and what its etag says.
    pub version: u64,
    /// As stored: a [`Record`] as JSON.
    pub record: Box<str>,
    /// From then on it means nothing.
    pub expires: Option<UnixMicros>,
    /// Only for this rule, by its id.
    pub rule: Option<Box<str>>,
    /// What it matches: keys, sorted, and a value for each.
    pub keys: Arc<[Box<str>]>,
    pub values: Box<[Box<str>]>,
    /// Of keys and values.
    pub hash: u64,
}

/// What is stored of an override.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    /// As its author wrote it.
    #[serde(rename = "override")]
    pub written: Value,
    /// The name of the token that wrote it.
    #[serde(default)]
    pub by: String,
    /// When, in µs since the epoch.
    #[serde(default)]
    pub at: u64,
}

impl Row {
    /// With what is wrong with it: a record that can't be read (a newer release wrote it) is kept, and matches nothing.
    pub(super) fn read(id: Box<str>, version: u64, record: Box<str>) -> (Row, Option<String>) {
        let read: Record = match serde_json::from_str(&record) {
            Ok(read) => read,
            Err(error) => {
                let (keys, values) = (Arc::default(), Box::default());
                let row = Row { id, version, record, expires: None, rule: None, keys, values, hash: 0 };
                return (row, Some(error.to_string()));
            }
        };
        let mut pairs: Vec<(Box<str>, Box<str>)> = match &read.written["match"] {
            Value::Object(map) => map
                .iter()
                .map(|(key, value)| (key.as_str().into(), value.as_str().unwrap_or_default().into()))
                .collect(),
            _ => Vec::new(),
        };
        pairs.sort_by(|(one, _), (other, _)| one.cmp(other));
        let expires = read.written["expires"].as_str().and_then(|text| moment::parse(text).ok());
        let rule = read.written["rule"].as_str().map(Into::into);
        let hash = hash(pairs.iter().map(|(key, value)| (&**key, &**value)));
        let (keys, values): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
        (Row { id, version, record, expires, rule, keys: keys.into(), values: values.into(), hash }, None)
    }

    /// Whether it matches on `key`, with a value that begins with `prefix`.
    pub(super) fn matches_on(&self, key: &str, prefix: &str) -> bool {
        self.keys.iter().zip(&self.values).any(|(own, value)| **own == *key && value.starts_with(prefix))
    }
}
