//! A run-time override as decisions use it: its record, read by the rules in force. It doesn't know where rows are
//! stored.

use std::{collections::HashMap, fmt, sync::Arc};

use serde_json::Value;

use super::record::Record;
use crate::{
    limit::{UnixMicros, moment},
    rules::{
        Domain,
        rows::{Grant, Shape, hash},
    },
};

/// One override, read by the rules.
pub struct Row {
    pub id: Box<str>,
    /// The time of its last write in µs, later than that of any write before it. It tells which row is newer, and is
    /// its etag.
    pub version: u64,
    /// The record as it is stored: a [`Record`] as JSON.
    pub record: Box<str>,
    /// When it ends.
    pub expires: Option<UnixMicros>,
    /// The match; `None` if the record can't be read, so that it matches nothing.
    pub matches: Option<Matches>,
    pub grant: Arc<Grant>,
    /// A problem that its owner should know of.
    pub warning: Option<Arc<str>>,
}

/// What a row matches.
pub struct Matches {
    pub shape: Arc<Shape>,
    /// The values of the match, one for each key of the shape, in their order.
    pub values: Box<[Box<str>]>,
    /// Hash of the values.
    pub hash: u64,
}

/// What limits mean by the rules of one moment, by their JSON: a million rows have few different limits.
pub(super) struct Reader {
    domain: Option<Arc<Domain>>,
    grants: HashMap<Box<str>, Read>,
    kept: HashMap<Box<str>, Arc<Grant>>,
}

/// Number of limits that are remembered; further ones are read twice, and a reload then reads all rows again.
const GRANTS_MAX: usize = 1 << 16;

/// A limit that was read, or what is wrong with it by now.
#[derive(Clone, PartialEq)]
enum Read {
    As(Arc<Grant>),
    Not(Arc<str>),
}

impl Reader {
    /// Without a domain, whose rules aren't loaded, rows keep the numbers that they were stored with.
    pub(super) fn new(domain: Option<Arc<Domain>>) -> Reader {
        Reader { domain, grants: HashMap::new(), kept: HashMap::new() }
    }

    pub(super) fn domain(&self) -> Option<&Arc<Domain>> {
        self.domain.as_ref()
    }

    /// The same limits by other rules, and whether any of them means something else there.
    pub(super) fn renewed(&self, domain: Option<Arc<Domain>>) -> (Reader, bool) {
        let mut renewed = Reader::new(domain);
        let mut differs = self.domain.is_none() || self.grants.len() >= GRANTS_MAX / 2;
        for (limit, read) in &self.grants {
            let limit = serde_json::from_str(limit).expect("it was written as JSON");
            differs |= renewed.grant(&limit) != Some(read.clone());
        }
        (renewed, differs)
    }

    /// Reads a record. If it can't be read, because a newer release wrote it, it is kept and matches nothing.
    pub(super) fn row(&mut self, name: &str, id: Box<str>, version: u64, record: Box<str>) -> Row {
        let unreadable = |why: &str| {
            let warning = Some(Arc::from(format!("it can't be read, and matches nothing: {why}")));
            (None, None, Arc::new(Grant::Unlimited), warning)
        };
        let (expires, matches, grant, warning) = match serde_json::from_str::<Record>(&record) {
            Ok(read) => self.read(name, &read).unwrap_or_else(|| unreadable("it isn't whole")),
            Err(error) => unreadable(&error.to_string()),
        };
        Row { id, version, record, expires, matches, grant, warning }
    }

    #[expect(clippy::type_complexity, reason = "the parts of a row that this alone makes")]
    fn read(
        &mut self,
        name: &str,
        record: &Record,
    ) -> Option<(Option<UnixMicros>, Option<Matches>, Arc<Grant>, Option<Arc<str>>)> {
        let (shape, values) = record.matches()?;
        let expires = match record.written.get("expires").and_then(|expires| expires.as_str()) {
            Some(text) => Some(moment::parse(text).ok()?),
            None => None,
        };
        let (grant, warning) = match self.grant(&record.written["limit"]) {
            Some(Read::As(grant)) => (grant, None),
            Some(Read::Not(why)) => (self.kept(name, record)?, Some(why)),
            None => (self.kept(name, record)?, None),
        };
        let hash = hash(0, values.iter().map(|value| &**value));
        Some((expires, Some(Matches { shape: Arc::new(shape), values, hash }), grant, warning))
    }

    fn grant(&mut self, limit: &Value) -> Option<Read> {
        let domain = self.domain.as_ref()?;
        let written = limit.to_string();
        if let Some(read) = self.grants.get(&*written) {
            return Some(read.clone());
        }
        if self.grants.len() >= GRANTS_MAX {
            // The limits of removed rows are dropped too: what is still needed is read again, once.
            self.grants.clear();
        }
        let read = match domain.read_grant(limit) {
            Ok(grant) => Read::As(Arc::new(grant)),
            Err(problems) => {
                let what = problems.errors().next().map_or_else(String::new, |problem| problem.what.clone());
                Read::Not(Arc::from(format!("its limit can't be read any more, so its last numbers hold: {what}")))
            }
        };
        self.grants.insert(written.into(), read.clone());
        Some(read)
    }

    /// The numbers that it was stored with.
    fn kept(&mut self, name: &str, record: &Record) -> Option<Arc<Grant>> {
        let text = serde_json::to_string(&record.limits).ok()?;
        if let Some(grant) = self.kept.get(&*text) {
            return Some(Arc::clone(grant));
        }
        let grant = Arc::new(record.granted(name)?);
        self.kept.insert(text.into(), Arc::clone(&grant));
        Some(grant)
    }
}

/// Writes its match: `user=alice, endpoint=/checkout`.
impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(matches) = &self.matches else { return f.write_str(&self.id) };
        for (nth, (key, value)) in matches.shape.keys.iter().zip(&matches.values).enumerate() {
            write!(f, "{}{key}={value}", if nth == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

impl Row {
    /// Whether its match has `key`, with a value that begins with `prefix`.
    pub(super) fn matches_on(&self, key: &str, prefix: &str) -> bool {
        self.matches.as_ref().is_some_and(|matches| {
            let mut pairs = matches.shape.keys.iter().zip(&matches.values);
            pairs.any(|(own, value)| **own == *key && value.starts_with(prefix))
        })
    }

    pub fn is_expired(&self, now: UnixMicros) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }
}
