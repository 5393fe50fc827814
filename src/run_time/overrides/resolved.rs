//! A run-time override as decisions use it: its record, read by the rules in force. It doesn't know where rows are
//! stored.

use std::{collections::HashMap, fmt, sync::Arc};

use serde_json::Value;

use super::record::Record;
use crate::{
    limit::{UnixMicros, moment},
    rules::{
        Domain,
        rows::{OverrideLimits, Shape, hash},
    },
    run_time::switches::Switch,
};

/// One override, read by the rules.
pub struct ResolvedOverride {
    pub id: Box<str>,
    /// The time of its last write in µs, later than that of any write before it. It tells which row is newer, and is
    /// its etag.
    pub version: u64,
    /// The record as it is stored: a [`Record`] as JSON.
    pub record: Box<str>,
    /// When it ends.
    pub expires: Option<UnixMicros>,
    /// The match; `None` if the record can't be read, so that it matches nothing.
    pub matches: Option<ResolvedMatch>,
    pub limits: Arc<OverrideLimits>,
    /// A problem that its owner should know of.
    pub warning: Option<Arc<str>>,
}

/// What a row matches.
pub struct ResolvedMatch {
    pub shape: Arc<Shape>,
    /// The values of the match, one for each key of the shape, in their order.
    pub values: Box<[Box<str>]>,
    /// Hash of the values.
    pub hash: u64,
}

/// What limits mean by the rules of one moment, by their JSON: a million rows have few different limits.
pub(super) struct RecordReader {
    domain: Option<Arc<Domain>>,
    current_limits: HashMap<Box<str>, ReadLimits>,
    stored_limits: HashMap<Box<str>, Arc<OverrideLimits>>,
}

/// Number of limits that are remembered; further ones are read twice, and a reload then reads all rows again.
const LIMITS_MAX: usize = 1 << 16;

/// A limit that was read, or what is wrong with it by now.
#[derive(Clone, PartialEq)]
enum ReadLimits {
    Valid(Arc<OverrideLimits>),
    Invalid(Arc<str>),
}

impl RecordReader {
    /// Without a domain, whose rules aren't loaded, rows keep the numbers that they were stored with.
    pub(super) fn new(domain: Option<Arc<Domain>>) -> RecordReader {
        RecordReader { domain, current_limits: HashMap::new(), stored_limits: HashMap::new() }
    }

    pub(super) fn domain(&self) -> Option<&Arc<Domain>> {
        self.domain.as_ref()
    }

    /// The same limits by other rules, and whether any of them means something else there.
    pub(super) fn renewed(&self, domain: Option<Arc<Domain>>) -> (RecordReader, bool) {
        let mut renewed = RecordReader::new(domain);
        let mut differs = self.domain.is_none() || self.current_limits.len() >= LIMITS_MAX / 2;
        for (limit, read) in &self.current_limits {
            let limit = serde_json::from_str(limit).expect("it was written as JSON");
            differs |= renewed.current_limits(&limit) != Some(read.clone());
        }
        (renewed, differs)
    }

    /// Reads a record. If it can't be read, because a newer release wrote it, it is kept and matches nothing.
    pub(super) fn row(&mut self, name: &str, id: Box<str>, version: u64, record: Box<str>) -> ResolvedOverride {
        let unreadable = |why: &str| {
            let warning = Some(Arc::from(format!("it can't be read, and matches nothing: {why}")));
            (None, None, Arc::new(OverrideLimits::Unlimited), warning)
        };
        if let Some(switch) = Switch::read(&id, version, &record) {
            let (expires, limits) = (Some(switch.ends), Arc::new(OverrideLimits::Unlimited));
            return ResolvedOverride { id, version, record, expires, matches: None, limits, warning: None };
        }
        let (expires, matches, limits, warning) = match serde_json::from_str::<Record>(&record) {
            Ok(read) => self.read(name, &read).unwrap_or_else(|| unreadable("it isn't whole")),
            Err(error) => unreadable(&error.to_string()),
        };
        ResolvedOverride { id, version, record, expires, matches, limits, warning }
    }

    #[expect(clippy::type_complexity, reason = "the parts of a row that this alone makes")]
    fn read(
        &mut self,
        name: &str,
        record: &Record,
    ) -> Option<(Option<UnixMicros>, Option<ResolvedMatch>, Arc<OverrideLimits>, Option<Arc<str>>)> {
        let (shape, values) = record.matches()?;
        let expires = match record.written.get("expires").and_then(|expires| expires.as_str()) {
            Some(text) => Some(moment::parse(text).ok()?),
            None => None,
        };
        let (limits, warning) = match self.current_limits(&record.written["limit"]) {
            Some(ReadLimits::Valid(limits)) => (limits, None),
            Some(ReadLimits::Invalid(why)) => (self.stored_limits(name, record)?, Some(why)),
            None => (self.stored_limits(name, record)?, None),
        };
        let hash = hash(0, values.iter().map(|value| &**value));
        Some((expires, Some(ResolvedMatch { shape: Arc::new(shape), values, hash }), limits, warning))
    }

    fn current_limits(&mut self, limit: &Value) -> Option<ReadLimits> {
        let domain = self.domain.as_ref()?;
        let written = limit.to_string();
        if let Some(read) = self.current_limits.get(&*written) {
            return Some(read.clone());
        }
        if self.current_limits.len() >= LIMITS_MAX {
            // The limits of removed rows are dropped too: what is still needed is read again, once.
            self.current_limits.clear();
        }
        let read = match domain.read_override_limits(limit) {
            Ok(limits) => ReadLimits::Valid(Arc::new(limits)),
            Err(problems) => {
                let what = problems.errors().next().map_or_else(String::new, |problem| problem.what.clone());
                ReadLimits::Invalid(Arc::from(format!(
                    "its limit can't be read any more, so its last numbers hold: {what}"
                )))
            }
        };
        self.current_limits.insert(written.into(), read.clone());
        Some(read)
    }

    /// The numbers that it was stored with.
    fn stored_limits(&mut self, name: &str, record: &Record) -> Option<Arc<OverrideLimits>> {
        let text = serde_json::to_string(&record.limits).ok()?;
        if let Some(limits) = self.stored_limits.get(&*text) {
            return Some(Arc::clone(limits));
        }
        let limits = Arc::new(record.stored_limits(name)?);
        self.stored_limits.insert(text.into(), Arc::clone(&limits));
        Some(limits)
    }
}

/// Writes its match: `user=alice, endpoint=/checkout`.
impl fmt::Display for ResolvedOverride {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.matches.is_none() {
            return f.write_str(&self.id);
        }
        for (nth, (key, value)) in self.entries().enumerate() {
            write!(f, "{}{key}={value}", if nth == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

impl ResolvedOverride {
    /// The keys and values of its match.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &str)> {
        let pairs = self.matches.iter().flat_map(|matches| matches.shape.keys.iter().zip(&matches.values));
        pairs.map(|(key, value)| (&**key, &**value))
    }

    /// Whether its match has `key`, with a value that begins with `prefix`.
    pub(super) fn matches_on(&self, key: &str, prefix: &str) -> bool {
        self.entries().any(|(own, value)| own == key && value.starts_with(prefix))
    }

    pub fn is_expired(&self, now: UnixMicros) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }
}
