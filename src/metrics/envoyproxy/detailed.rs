//! Series whose names carry values of requests (`detailed_metric`, `value_to_metric`, limits that come with requests),
//! and what such names are made of. Clients choose the values, so their number has an end; the rest is `other`.

use std::{
    borrow::Cow,
    collections::HashMap,
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
};

use parking_lot::RwLock;
use tracing::warn;

use super::hit_counts::{COUNTERS, HitCounters, HitCounts};
use crate::{
    limit::Entry,
    rules::{LevelValue, Rule},
};

#[cfg(test)]
mod tests;

/// Between the parts of a name: no sanitised part has it.
const SEPARATOR: char = '\0';

/// The reference's key of a series, `domain.key_value.key`, by its parts: what a sink makes labels or a path of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct SeriesKey(Box<str>);

impl SeriesKey {
    /// Of a rule's own words: patterns and fixed values, no values of requests.
    pub(super) fn of_rule(domain: &str, rule: &Rule) -> SeriesKey {
        let mut name = SeriesName::of(domain);
        for level in &rule.path {
            name.push(&level.key, level.value.text());
        }
        name.key()
    }

    /// `other`, in a domain: all that came after there was no more room.
    fn other(domain: &str) -> SeriesKey {
        let mut name = SeriesName::of(domain);
        name.push("other", None);
        name.key()
    }

    /// Domain first, then a part for each level.
    pub(super) fn parts(&self) -> impl Iterator<Item = &str> {
        self.0.split(SEPARATOR)
    }
}

struct SeriesName(String);

impl SeriesName {
    fn of(domain: &str) -> SeriesName {
        let mut name = SeriesName(String::with_capacity(64));
        sanitise(domain, &mut name.0);
        name
    }

    fn push(&mut self, key: &str, value: Option<&str>) {
        self.0.push(SEPARATOR);
        let from = self.0.len();
        sanitise(key, &mut self.0);
        if let Some(value) = value {
            self.0.push('_');
            sanitise(value, &mut self.0);
        }
        // An address may begin in the key; the reference looks for it in the whole.
        if self.0[from..].bytes().filter(|byte| *byte == b'.').count() >= 3 {
            let masked = mask_addresses(&self.0[from..]);
            self.0.replace_range(from.., &masked);
        }
    }

    fn key(self) -> SeriesKey {
        SeriesKey(self.0.into())
    }
}

/// As StatsD needs it: no separators of its lines.
fn sanitise(text: &str, out: &mut String) {
    let safe = |character| if matches!(character, ':' | '|' | '\n' | SEPARATOR) { '_' } else { character };
    out.extend(text.chars().map(safe));
}

/// One word by itself.
pub(super) fn sanitised(text: &str) -> Cow<'_, str> {
    let mut safe = String::with_capacity(text.len());
    sanitise(text, &mut safe);
    Cow::Owned(mask_addresses(&safe))
}

/// Every `1.2.3.4` becomes `1_2_3_4`: one to three digits four times, found from left to right, as long as it goes.
fn mask_addresses(text: &str) -> String {
    let mut bytes = text.as_bytes().to_vec();
    let mut at = 0;
    while at < bytes.len() {
        match address(&bytes[at..]) {
            Some(length) => {
                bytes[at..at + length].iter_mut().filter(|byte| **byte == b'.').for_each(|byte| *byte = b'_');
                at += length;
            }
            None => at += 1,
        }
    }
    String::from_utf8(bytes).expect("only dots were replaced")
}

/// The length of an IPv4 address at the beginning of `bytes`.
fn address(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    for part in 0..4 {
        if part > 0 {
            bytes.get(at).filter(|byte| **byte == b'.')?;
            at += 1;
        }
        let digits = bytes[at..].iter().take(3).take_while(|byte| byte.is_ascii_digit()).count();
        at += Some(digits).filter(|digits| *digits > 0)?;
    }
    Some(at)
}

/// Whether the names of a rule's series carry values of requests.
pub(crate) fn is_detailed(rule: &Rule) -> bool {
    rule.detailed_metric || rule.path.iter().any(|level| level.value_to_metric)
}

/// The key under which a descriptor is counted that met `rule` (reference §3, M25 to M27).
pub(super) fn key_of_ruled(domain: &str, rule: &Rule, entries: &[Entry<'_>]) -> SeriesKey {
    // A value that is the pattern's own text was met as a value, not by the pattern.
    let by_pattern = |(shared, entry): (&Option<Box<str>>, &Entry<'_>)| {
        shared.as_deref().is_some_and(|pattern| pattern != entry.value)
    };
    let shares = rule.shared.iter().zip(entries).any(by_pattern);
    let mut name = SeriesName::of(domain);
    for ((level, shared), entry) in rule.path.iter().zip(&rule.shared).zip(entries) {
        let value = Some(entry.value);
        let value_if_any = value.filter(|value| !value.is_empty());
        let shown = match &level.value {
            _ if shared.is_some() => shared.as_deref(),
            _ if rule.detailed_metric && shares => value_if_any,
            _ if rule.detailed_metric => value,
            LevelValue::Exact(_) => value_if_any,
            LevelValue::Pattern(_) | LevelValue::Any if level.value_to_metric => value_if_any,
            LevelValue::Pattern(pattern) => Some(pattern.text()),
            LevelValue::Any => None,
        };
        name.push(entry.key, shown);
    }
    name.key()
}

/// The key under which a descriptor is counted that brought its own limit (M16).
pub(super) fn key_of_requested(domain: &str, entries: &[Entry<'_>]) -> SeriesKey {
    let mut name = SeriesName::of(domain);
    for entry in entries {
        name.push(entry.key, Some(entry.value).filter(|value| !value.is_empty()));
    }
    name.key()
}

/// The key under which limits of callers' own are counted: `check`, and the keys of the shortcut that was used.
pub(super) fn key_of_own(domain: &str, entries: &[Entry<'_>]) -> SeriesKey {
    let mut name = SeriesName::of(domain);
    // In the place of the mark that keeps such counters apart.
    name.push("", Some("check"));
    entries.iter().skip(1).for_each(|entry| name.push(entry.key, None));
    name.key()
}

/// Longer keys are `other` too: a value may be as long as a request.
const KEY_BYTES_MAX: usize = 1_024;

/// The counters of such series.
pub(super) struct DetailedSeries {
    series: RwLock<HashMap<SeriesKey, HitCounters>>,
    keys_max: usize,
    is_full: AtomicBool,
    others: AtomicU64,
}

impl DetailedSeries {
    /// Room for `series_max` series: each key may have one for each of the reference's counters.
    pub(super) fn new(series_max: usize) -> DetailedSeries {
        DetailedSeries {
            series: RwLock::default(),
            keys_max: series_max / COUNTERS.len(),
            is_full: AtomicBool::new(false),
            others: AtomicU64::new(0),
        }
    }

    pub(super) fn add(&self, domain: &str, key: SeriesKey, counts: HitCounts) {
        if counts == HitCounts::default() {
            return;
        }
        let is_long = key.0.len() > KEY_BYTES_MAX;
        let key = if is_long { SeriesKey::other(domain) } else { key };
        self.others.fetch_add(u64::from(is_long), Relaxed);
        if self.is_added(&key, counts) {
            return;
        }
        {
            let mut seen = self.series.write();
            if seen.len() < self.keys_max || seen.contains_key(&key) {
                return seen.entry(key).or_default().add(counts);
            }
        }
        if !self.is_full.swap(true, Relaxed) {
            let series = self.keys_max * COUNTERS.len();
            warn!(
                series,
                "the maximum of metric series with request values is reached: further values are counted as `other`"
            );
        }
        self.others.fetch_add(u64::from(!is_long), Relaxed);
        let other = SeriesKey::other(domain);
        if !self.is_added(&other, counts) {
            // Beyond the bound, but no more of these than rules have domains.
            self.series.write().entry(other).or_default().add(counts);
        }
    }

    fn is_added(&self, key: &SeriesKey, counts: HitCounts) -> bool {
        let seen = self.series.read();
        seen.get(key).inspect(|hits| hits.add(counts)).is_some()
    }

    /// How many were counted as `other`.
    pub(super) fn others(&self) -> u64 {
        self.others.load(Relaxed)
    }

    pub(super) fn each(&self, mut visit: impl FnMut(&SeriesKey, [u64; COUNTERS.len()])) {
        for (key, hits) in self.series.read().iter() {
            visit(key, hits.get());
        }
    }
}
