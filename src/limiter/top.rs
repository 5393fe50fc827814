//! Which counters have most refusals, most hits and most would-be refusals, over the last minute, ten minutes and hour. It
//! keeps a few hundred keys with true bounds instead of all with exact numbers; memory is bounded and taken as it is used.
//! It reads no clock.
//!
//! Each core counts in sketches of its own, one for each measure, for a slot of ten seconds; nobody else takes their lock
//! but who reads. A slot that is over is merged into the history, away from requests. What is asked for is merged from the
//! history and from what the cores count now, so an answer is as new as the last request.
//!
//! | measure | counts | of |
//! |---|---|---|
//! | `denied` | 1 for each refusal, whatever the request costs, looks of 0 included | limits that may deny |
//! | `hits` | the hits that were put to the counter, refused or not; refunds (negative hits) aren't taken off | all limits |
//! | `shadow` | 1 for each refusal that would have been | `shadow_mode`, `enforce: false`, and all limits under global `SHADOW_MODE` |
//!
//! Each limit of a descriptor is an entry of its own. What an override's limit decides counts under the limit whose place
//! it takes, else under `DOMAIN/(override)`; limits that come with requests count under `DOMAIN/(request)`. This is as the
//! metrics count, and so are requests that failure policies decide. Unlimited descriptors and those without a rule have no
//! counter, so they aren't there.

mod counting;
mod history;
mod key;
mod list;
mod record;
mod sketch;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use foldhash::quality::RandomState;
use parking_lot::{Mutex, MutexGuard};

pub use counting::CoreTop;
pub(super) use key::cut_to;
pub use record::{RankedKey, RankedLimit, Ranking, TopRecord};

use self::{
    counting::CoreSketches,
    history::{History, SLOTS},
    key::{TOP_KEY_BYTES, TopKey, cut, domain_number, entry_text},
    list::{LISTED_BYTES, TopList},
    sketch::KEY_BYTES,
};
use crate::{
    limit::{Entry, Micros, SECOND, UnixMicros},
    privacy::Privacy,
};

/// More keys would make merging slow, and nobody reads so many.
const KEYS_MAX: usize = 10_000;

/// What is counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TopMeasure {
    #[default]
    Denied,
    Hits,
    Shadow,
}

impl TopMeasure {
    pub const ALL: [TopMeasure; 3] = [TopMeasure::Denied, TopMeasure::Hits, TopMeasure::Shadow];

    pub const fn name(self) -> &'static str {
        match self {
            TopMeasure::Denied => "denied",
            TopMeasure::Hits => "hits",
            TopMeasure::Shadow => "shadow",
        }
    }

    pub fn parse(text: &str) -> Option<TopMeasure> {
        TopMeasure::ALL.into_iter().find(|measure| measure.name() == text)
    }
}

/// How far a list looks back. It begins with a slot of a sixth of the span, so it reaches back by up to a sixth more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TopSpan {
    Minute,
    #[default]
    TenMinutes,
    Hour,
}

impl TopSpan {
    pub const ALL: [TopSpan; 3] = [TopSpan::Minute, TopSpan::TenMinutes, TopSpan::Hour];

    pub const fn name(self) -> &'static str {
        match self {
            TopSpan::Minute => "1m",
            TopSpan::TenMinutes => "10m",
            TopSpan::Hour => "1h",
        }
    }

    pub fn parse(text: &str) -> Option<TopSpan> {
        TopSpan::ALL.into_iter().find(|span| span.name() == text)
    }

    /// Length of one of its slots.
    const fn slot(self) -> Micros {
        Micros(SECOND.0 * 10 * self.shortest_slots())
    }

    /// Slots of the shortest span in one of its own.
    const fn shortest_slots(self) -> u64 {
        match self {
            TopSpan::Minute => 1,
            TopSpan::TenMinutes => 10,
            TopSpan::Hour => 60,
        }
    }

    /// Whether its slot of this number is one of those that end `now`. One slot ahead is, because clocks of requests and
    /// of readers may differ a little.
    fn touches(self, number: u64, now: UnixMicros) -> bool {
        let last = now.0 / self.slot().0;
        (last.saturating_sub(SLOTS - 1)..=last + 1).contains(&number)
    }

    /// When the first slot began of those that end `now`.
    fn begins(self, now: UnixMicros) -> UnixMicros {
        UnixMicros((now.0 / self.slot().0).saturating_sub(SLOTS - 1) * self.slot().0)
    }
}

/// Which counters are asked for.
#[derive(Clone, Debug, Default)]
pub struct TopFilter {
    /// Numbers of the domains; `None` is all of them.
    domains: Option<Vec<u64>>,
    limit: Option<Box<str>>,
    /// An entry as it may be shown: as it is, and hashed.
    entry: Option<[Box<str>; 2]>,
}

impl TopFilter {
    /// Counters of these domains only.
    pub fn of_domains<'d>(self, names: impl IntoIterator<Item = &'d str>) -> TopFilter {
        TopFilter { domains: Some(names.into_iter().map(domain_number).collect()), ..self }
    }

    /// Counters of the limit with this id only.
    pub fn of_limit(self, id: &str) -> TopFilter {
        TopFilter { limit: Some(cut(id).into()), ..self }
    }

    /// Counters whose descriptor has this entry only. A value that is hashed finds what it is shown as, and so does the hash.
    pub fn of_entry(self, entry: Entry<'_>, privacy: &Privacy) -> TopFilter {
        let texts = [entry.value, &privacy.shown(entry.key, entry.value)];
        TopFilter { entry: Some(texts.map(|value| entry_text(entry.key, value).into())), ..self }
    }

    fn admits(&self, key: &TopKey) -> bool {
        self.domains.as_ref().is_none_or(|domains| domains.contains(&key.domain))
            && self.limit.as_deref().is_none_or(|limit| limit == key.limit())
            && self.entry.as_ref().is_none_or(|texts| texts.iter().any(|text| key.has_entry(text)))
    }
}

/// The lists of this process.
pub struct TopLists {
    /// Keys of each sketch and of each list in the history.
    keys_max: usize,
    privacy: Privacy,
    /// Hashes keys; secret, so that no client can take another's place.
    hasher: RandomState,
    cores: Mutex<Vec<Arc<Mutex<CoreSketches>>>>,
    /// Locked before a core's sketches, never after.
    history: Mutex<History>,
}

impl TopLists {
    /// Lists that take at most `max_bytes`, with sketches for so many `cores`. None if that is 0.
    pub fn new(max_bytes: u64, cores: usize, privacy: Privacy) -> Option<Arc<TopLists>> {
        if max_bytes == 0 {
            return None;
        }
        let keys_max = keys_for(max_bytes, cores);
        let (hasher, cores, history) = (RandomState::default(), Mutex::default(), Mutex::default());
        Some(Arc::new(TopLists { keys_max, privacy, hasher, cores, history }))
    }

    /// Sketches for one more core.
    pub fn core(self: &Arc<TopLists>) -> CoreTop {
        let sketches = Arc::new(Mutex::new(CoreSketches::new(self.keys_max)));
        self.cores.lock().push(Arc::clone(&sketches));
        CoreTop::new(Arc::clone(self), sketches)
    }

    /// Whether [`TopLists::fold`] has anything to do.
    pub fn is_due(&self, now: UnixMicros) -> bool {
        self.history.lock().is_stale(now) || self.cores.lock().iter().any(|core| core.lock().has_closed(now))
    }

    /// Merges slots that are over into the history, and forgets what is older than an hour and a slot. Takes a
    /// millisecond for each core.
    pub fn fold(&self, now: UnixMicros) {
        let mut history = self.history.lock();
        for core in self.cores.lock().iter() {
            let closed = core.lock().take_closed(now);
            for (number, sketches) in closed {
                history.add(number, &sketches.map(|mut sketch| sketch.list_now()), self.keys_max);
            }
        }
        history.forget(now);
    }

    /// The lists over a span that ends `now`, of the counters that `filter` admits.
    pub fn read(&self, span: TopSpan, filter: &TopFilter, now: UnixMicros) -> TopRecord {
        let mut parts: Vec<history::ByMeasure<Arc<TopList>>> = Vec::new();
        {
            // Held until all is there, so that nothing goes from a core to the history meanwhile.
            let history = self.history.lock();
            parts.extend(history.lists(span, now).cloned());
            for core in self.cores.lock().iter() {
                parts.extend(core.lock().lists(span, now));
            }
        }
        let merged = |measure: TopMeasure| {
            let lists = parts.iter().map(|lists| &*lists[measure as usize]);
            TopList::merged(lists).filtered(|key| filter.admits(key))
        };
        TopRecord::new(span.begins(now), TopMeasure::ALL.map(merged))
    }

    /// The lists over each span, for other replicas, in at most `bytes_max`, and those of these `limits` alone, which have half
    /// of it: each with the number of its part and its length before it.
    pub fn encode(&self, now: UnixMicros, bytes_max: usize, limits: &[Box<str>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut put = |number: usize, part: Vec<u8>| {
            bytes.push(number as u8);
            bytes.extend((part.len() as u32).to_be_bytes());
            bytes.extend(part);
        };
        let bytes_max = bytes_max / TopSpan::ALL.len();
        let of_all = if limits.is_empty() { bytes_max } else { bytes_max / 2 };
        for (number, span) in TopSpan::ALL.into_iter().enumerate() {
            let record = self.read(span, &TopFilter::default(), now);
            for limit in limits {
                let of_limit = record.filtered(&TopFilter::default().of_limit(limit));
                let mut part = record::written(&cut(limit));
                let room = ((bytes_max - of_all) / limits.len()).saturating_sub(part.len());
                part.extend(of_limit.encode_within(room));
                put(OF_LIMIT + number, part);
            }
            put(number, record.encode_within(of_all));
        }
        bytes
    }

    /// Bytes that the lists take.
    pub fn bytes(&self) -> u64 {
        let cores: usize = self.cores.lock().iter().map(|core| core.lock().bytes()).sum();
        (cores + self.history.lock().bytes()) as u64
    }

    fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock()
    }
}

/// The number of a span's part that is of one limit alone, less the span's. Other releases skip parts that they don't know.
const OF_LIMIT: usize = 16;

/// What another replica has [encoded](TopLists::encode) of a span.
pub fn decode(bytes: &[u8], span: TopSpan) -> Option<TopRecord> {
    parts(bytes, span as usize).find_map(TopRecord::decode)
}

/// The same of one limit alone; `None` where it wasn't asked for it.
pub fn decode_of_limit(bytes: &[u8], span: TopSpan, limit: &str) -> Option<TopRecord> {
    let id = record::written(&cut(limit));
    parts(bytes, OF_LIMIT + span as usize).find_map(|part| TopRecord::decode(part.strip_prefix(&*id)?))
}

/// The parts with this number.
fn parts(mut bytes: &[u8], wanted: usize) -> impl Iterator<Item = &[u8]> {
    let next = move || {
        let (number, rest) = bytes.split_first()?;
        let (length, rest) = rest.split_first_chunk()?;
        let (part, rest) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
        bytes = rest;
        Some((usize::from(*number), part))
    };
    std::iter::from_fn(next).filter(move |(number, _)| *number == wanted).map(|(_, part)| part)
}

/// Keys of each list, so that all together take at most `max_bytes`: each core has a sketch that counts and one that waits
/// to be merged, for each measure.
fn keys_for(max_bytes: u64, cores: usize) -> usize {
    let sketches = TopMeasure::ALL.len() * 2 * cores;
    let lists = TopMeasure::ALL.len() * TopSpan::ALL.len() * SLOTS as usize;
    let bytes = sketches * (KEY_BYTES + TOP_KEY_BYTES) + lists * (LISTED_BYTES + TOP_KEY_BYTES);
    usize::try_from(max_bytes).unwrap_or(usize::MAX).checked_div(bytes).unwrap_or(0).clamp(1, KEYS_MAX)
}
