//! What one replica knows of a span: a list for each measure. It can be sent in few bytes and merged with the records of
//! other replicas, and is what is shown in the end.
//!
//! The form: the version, the moment that it begins with, the limits (domain's number, id), the keys (limit's position,
//! descriptor), and for each measure its floor and its keys (position, count above the floor, floor above the error).
//! Numbers are LEB128 but the domain's; texts have their length before them.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
    sync::Arc,
};

use bytes::{Buf as _, BufMut as _};

use super::{
    TopFilter, TopMeasure,
    history::ByMeasure,
    key::{TEXT_BYTES_MAX, TopKey},
    list::{Listed, TopList},
};
use crate::limit::UnixMicros;

/// Keys of each list that replicas send each other.
pub(super) const SENT_KEYS_MAX: usize = 100;

/// Changes with the form.
const VERSION: u8 = 1;

/// What is counted of a span, on one replica or on several.
#[derive(Clone, Debug, Default)]
pub struct TopRecord {
    /// Nothing that is counted is older.
    pub begins: UnixMicros,
    lists: ByMeasure<TopList>,
}

/// The heaviest counters by one measure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ranking {
    /// The heaviest first.
    pub keys: Vec<RankedKey>,
    /// The most that any other counter may have.
    pub others_at_most: u64,
}

/// A counter with its counts, by [`TopMeasure`]. Each is at least the truth, and too high by its error at most.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RankedKey {
    pub limit: Box<str>,
    pub descriptor: Box<str>,
    pub counts: [u64; TopMeasure::ALL.len()],
    pub errors: [u64; TopMeasure::ALL.len()],
}

/// A limit and what is known of its counters together, by one measure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RankedLimit {
    pub limit: Box<str>,
    /// The counters that are listed have at least this much together; what isn't listed isn't in it.
    pub at_least: u64,
    /// Number of counters that are listed.
    pub counters: u32,
}

impl TopRecord {
    pub(super) fn new(begins: UnixMicros, lists: ByMeasure<TopList>) -> TopRecord {
        TopRecord { begins, lists }
    }

    #[cfg(test)]
    pub(super) fn list(&self, measure: TopMeasure) -> &TopList {
        &self.lists[measure as usize]
    }

    /// One record of several replicas' own. Their keys are told apart by what is shown of them, because each replica has
    /// hashes of its own.
    pub fn merged(records: Vec<TopRecord>) -> TopRecord {
        let hasher = RandomState::new();
        let begins = records.iter().map(|record| record.begins).min().unwrap_or_default();
        let mut lists: ByMeasure<Vec<TopList>> = Default::default();
        for record in records {
            for (lists, mut list) in lists.iter_mut().zip(record.lists) {
                list.listed.iter_mut().for_each(|listed| listed.hash = hasher.hash_one(&*listed.key));
                lists.push(list);
            }
        }
        TopRecord { begins, lists: lists.map(|lists| TopList::merged(&lists)) }
    }

    /// The `keys_max` heaviest counters by a measure.
    pub fn ranked(&self, by: TopMeasure, keys_max: usize) -> Ranking {
        let mut list = self.lists[by as usize].clone().cut(keys_max);
        let order = |listed: &Listed| (std::cmp::Reverse(listed.count), listed.error);
        list.listed.sort_unstable_by(|one, other| {
            let text = |listed: &Listed| (listed.key.limit().to_owned(), listed.key.descriptor().to_owned());
            order(one).cmp(&order(other)).then_with(|| text(one).cmp(&text(other)))
        });
        let key = |listed: &Listed| {
            // What isn't listed may have none, and as many as the floor.
            let bounds = self.lists.each_ref().map(|list| {
                list.find(listed.hash).map_or((list.floor, list.floor), |listed| (listed.count, listed.error))
            });
            RankedKey {
                limit: listed.key.limit().into(),
                descriptor: listed.key.descriptor().into(),
                counts: bounds.map(|(count, _)| count),
                errors: bounds.map(|(_, error)| error),
            }
        };
        Ranking { keys: list.listed.iter().map(key).collect(), others_at_most: list.floor }
    }

    /// The `limits_max` limits whose counters have most together by a measure, the heaviest first.
    pub fn limits(&self, by: TopMeasure, limits_max: usize) -> Vec<RankedLimit> {
        let mut by_limit: HashMap<&str, (u64, u32)> = HashMap::new();
        for Listed { key, count, error, .. } in &self.lists[by as usize].listed {
            let (at_least, counters) = by_limit.entry(key.limit()).or_default();
            *at_least = at_least.saturating_add(count - error);
            *counters += 1;
        }
        let mut limits: Vec<RankedLimit> = by_limit
            .into_iter()
            .filter(|(_, (at_least, _))| *at_least > 0)
            .map(|(limit, (at_least, counters))| RankedLimit { limit: limit.into(), at_least, counters })
            .collect();
        limits
            .sort_unstable_by(|one, other| other.at_least.cmp(&one.at_least).then_with(|| one.limit.cmp(&other.limit)));
        limits.truncate(limits_max);
        limits
    }

    /// Only the counters that `filter` admits.
    pub fn filtered(&self, filter: &TopFilter) -> TopRecord {
        let lists = self.lists.each_ref().map(|list| list.clone().filtered(|key| filter.admits(key)));
        TopRecord { begins: self.begins, lists }
    }

    /// The heaviest [`SENT_KEYS_MAX`] of each list, for another replica; fewer where that takes more than `bytes_max`.
    pub fn encode_within(&self, bytes_max: usize) -> Vec<u8> {
        let mut keys_max = SENT_KEYS_MAX;
        loop {
            let bytes = self.encode(keys_max);
            if bytes.len() <= bytes_max || keys_max == 0 {
                return bytes;
            }
            keys_max /= 2;
        }
    }

    fn encode(&self, keys_max: usize) -> Vec<u8> {
        let (mut limits, mut keys) = (Table::default(), Table::default());
        let (mut limit_bytes, mut key_bytes, mut list_bytes) = (Vec::new(), Vec::new(), Vec::new());
        for list in self.lists.each_ref().map(|list| list.clone().cut(keys_max)) {
            put_number(&mut list_bytes, list.floor);
            put_number(&mut list_bytes, list.listed.len() as u64);
            for Listed { key, count, error, .. } in &list.listed {
                let limit = limits.position((key.domain, key.limit().to_owned()), |(domain, id)| {
                    limit_bytes.put_u64(*domain);
                    put_text(&mut limit_bytes, id);
                });
                let position = keys.position((limit, key.descriptor().to_owned()), |(limit, descriptor)| {
                    put_number(&mut key_bytes, *limit);
                    put_text(&mut key_bytes, descriptor);
                });
                put_number(&mut list_bytes, position);
                put_number(&mut list_bytes, count - list.floor);
                put_number(&mut list_bytes, list.floor - error);
            }
        }
        let mut out = vec![VERSION];
        put_number(&mut out, self.begins.0);
        put_number(&mut out, limits.0.len() as u64);
        out.append(&mut limit_bytes);
        put_number(&mut out, keys.0.len() as u64);
        out.append(&mut key_bytes);
        out.append(&mut list_bytes);
        out
    }

    /// Reads what [`TopRecord::encode`] wrote; none if it is of another version, or damaged.
    pub fn decode(mut bytes: &[u8]) -> Option<TopRecord> {
        let from = &mut bytes;
        if from.try_get_u8().ok()? != VERSION {
            return None;
        }
        let begins = UnixMicros(number(from)?);
        let limits: Vec<(u64, &str)> = many(from, |from| Some((from.try_get_u64().ok()?, text(from)?)))?;
        let keys: Vec<Arc<TopKey>> = many(from, |from| {
            let &(domain, id) = limits.get(usize::try_from(number(from)?).ok()?)?;
            Some(Arc::new(TopKey::new(domain, id, text(from)?)))
        })?;
        let mut lists: ByMeasure<TopList> = Default::default();
        for list in &mut lists {
            let floor = number(from)?;
            let listed = many(from, |from| {
                let position = number(from)?;
                let key = Arc::clone(keys.get(usize::try_from(position).ok()?)?);
                let (count, error) = (floor.checked_add(number(from)?)?, floor.checked_sub(number(from)?)?);
                // A number of its own, until records are merged.
                Some(Listed { hash: position, count, error, key })
            })?;
            *list = TopList::new(listed, floor);
        }
        from.is_empty().then_some(TopRecord { begins, lists })
    }
}

/// Positions of what was written, in order.
struct Table<T>(HashMap<T, u64>);

impl<T> Default for Table<T> {
    fn default() -> Table<T> {
        Table(HashMap::new())
    }
}

impl<T: std::hash::Hash + Eq> Table<T> {
    /// Where it is, after it was written if it is new.
    fn position(&mut self, of: T, write: impl FnOnce(&T)) -> u64 {
        if let Some(position) = self.0.get(&of) {
            return *position;
        }
        write(&of);
        let next = self.0.len() as u64;
        self.0.insert(of, next);
        next
    }
}

fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// A text with its length before it.
pub(super) fn written(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    put_text(&mut out, text);
    out
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_number(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

fn number(from: &mut &[u8]) -> Option<u64> {
    let mut number = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = from.try_get_u8().ok()?;
        let part = u64::from(byte & 0x7f);
        number |= part.checked_shl(shift).filter(|shifted| shifted >> shift == part)?;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

fn text<'b>(from: &mut &'b [u8]) -> Option<&'b str> {
    let length = usize::try_from(number(from)?).ok().filter(|length| *length <= TEXT_BYTES_MAX)?;
    let (text, rest) = from.split_at_checked(length)?;
    *from = rest;
    std::str::from_utf8(text).ok()
}

/// As many as it says; no more than replicas send.
fn many<'b, T>(from: &mut &'b [u8], mut one: impl FnMut(&mut &'b [u8]) -> Option<T>) -> Option<Vec<T>> {
    let many = number(from)?;
    if many > (SENT_KEYS_MAX * TopMeasure::ALL.len()) as u64 {
        return None;
    }
    (0..many).map(|_| one(from)).collect()
}
