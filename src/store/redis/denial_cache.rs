//! The denial cache: a client that is over its limit and keeps on asking costs no round trip. A denial holds until its
//! `reset`, whatever other requests charge meanwhile; only a refund or a reset of a counter ends it sooner, and every
//! replica hears of these by Redis' pub/sub. It compares requests, and knows no connections.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hasher as _};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use foldhash::fast::RandomState;
use parking_lot::Mutex;
use smallvec::SmallVec;
use tokio::time::Instant;

use super::request::Request;
use crate::limit::Micros;
use crate::store::readings::Readings;

#[cfg(test)]
mod tests;

/// Longest life of a cached denial. It bounds the error if the message that ends a denial is lost.
const LIFE_MAX: Duration = Duration::from_secs(1);

/// Bytes of an entry besides its keys, rounded up: its own, and its slots in the maps.
const ENTRY_BYTES: usize = 512;

/// Number of costs that are cached for the same request, each with its denial.
const COSTS_MAX: usize = 4;

/// The denial cache of one core.
pub(super) struct DenialCache {
    hasher: RandomState,
    halves: Mutex<Halves>,
    /// Number of events that ended denials. A reply to a batch that left before such an event isn't cached after it.
    generation: AtomicU64,
    listens: AtomicBool,
    bytes_max: usize,
}

/// Two halves that take turns: the older one is dropped whole once all its denials have expired, or once the younger is
/// full.
struct Halves {
    young: Half,
    old: Half,
    turned: Instant,
}

#[derive(Default)]
struct Half {
    /// Cached denials by the hash of a request without its hits.
    entries: HashMap<u64, SmallVec<[CachedDenial; 1]>, RandomState>,
    by_counter: HashMap<u64, SmallVec<[u64; 2]>, RandomState>,
    bytes: usize,
}

struct CachedDenial {
    request: Request,
    readings: Readings,
    heard: Instant,
    until: Instant,
}

/// When a denial was decided.
#[derive(Clone, Copy)]
pub(super) struct DenialTiming {
    /// The instant at which the request was sent.
    pub sent: Instant,
    /// The instant at which the reply came. Redis decided in between.
    pub heard: Instant,
    /// The cache's generation when the request was sent.
    pub generation: u64,
}

impl DenialCache {
    pub(super) fn new(bytes_max: usize) -> DenialCache {
        let halves = Halves { young: Half::default(), old: Half::default(), turned: Instant::now() };
        DenialCache {
            hasher: RandomState::default(),
            halves: Mutex::new(halves),
            generation: AtomicU64::new(0),
            listens: AtomicBool::new(true),
            bytes_max,
        }
    }

    /// Turns caching on or off. It is on while the channel of refunds can be heard: without it a denial would outlive
    /// its reason.
    pub(super) fn set_listening(&self, listens: bool) {
        self.listens.store(listens, Relaxed);
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Relaxed)
    }

    /// The answer to a request from the cache: if the same request was denied and the denial still holds, or if the
    /// answer follows from that to the same request with other hits. Resets are shorter by the time since the reply,
    /// but never so short that a client comes back too early.
    pub(super) fn find(&self, request: &Request) -> Option<Readings> {
        if self.bytes_max == 0 {
            return None;
        }
        let halves = self.halves.lock();
        if halves.young.entries.is_empty() && halves.old.entries.is_empty() {
            return None;
        }
        let id = self.id(request);
        let now = Instant::now();
        let known = [&halves.young, &halves.old].into_iter().filter_map(|half| half.entries.get(&id)).flatten();
        let mut readings = known.filter(|entry| entry.until > now).find_map(|entry| {
            let since = Micros((now - entry.heard).as_micros() as u64);
            entry.request.answers(&entry.readings, request, since)
        })?;
        readings.is_from_cache = true;
        Some(readings)
    }

    /// Caches a denial for `life` ([`Request::denial_holds`]), counted from when the request was sent, so that it
    /// doesn't live too long.
    pub(super) fn insert(&self, request: Request, readings: Readings, life: Duration, when: DenialTiming) {
        let bytes = ENTRY_BYTES + request.bytes();
        if bytes > self.bytes_max / 2 || !self.listens.load(Relaxed) {
            return;
        }
        let DenialTiming { sent, heard, generation } = when;
        let until = sent + life.min(LIFE_MAX);
        let now = Instant::now();
        let id = self.id(&request);
        let mut halves = self.halves.lock();
        if generation != self.generation() {
            return;
        }
        if halves.young.bytes + bytes > self.bytes_max / 2 || now - halves.turned >= LIFE_MAX {
            halves.old = std::mem::take(&mut halves.young);
            halves.turned = now;
        }
        let half = &mut halves.young;
        for key in request.keys() {
            half.by_counter.entry(self.hash(key)).or_default().push(id);
        }
        half.bytes += bytes;
        let known = half.entries.entry(id).or_default();
        known
            .retain(|known| known.until > now && known.request.answers(&known.readings, &request, Micros(0)).is_none());
        if known.len() == COSTS_MAX {
            known.remove(0);
        }
        known.push(CachedDenial { request, readings, heard, until });
    }

    /// Whether no denial is cached.
    pub(super) fn is_empty(&self) -> bool {
        let halves = self.halves.lock();
        halves.young.entries.is_empty() && halves.old.entries.is_empty()
    }

    /// Number of cached denials; some may have expired.
    pub(super) fn count(&self) -> usize {
        let halves = self.halves.lock();
        [&halves.young, &halves.old].iter().flat_map(|half| half.entries.values()).map(SmallVec::len).sum()
    }

    /// Drops the denials by this counter, because hits of it were given back.
    pub(super) fn invalidate(&self, key: &[u8]) {
        let hash = self.hash(key);
        let mut halves = self.halves.lock();
        self.generation.fetch_add(1, Relaxed);
        let Halves { young, old, .. } = &mut *halves;
        for half in [young, old] {
            for id in half.by_counter.remove(&hash).unwrap_or_default() {
                half.entries.remove(&id);
            }
        }
    }

    /// Drops all denials, because messages may have been missed.
    pub(super) fn clear(&self) {
        let mut halves = self.halves.lock();
        self.generation.fetch_add(1, Relaxed);
        (halves.young, halves.old) = Default::default();
    }

    fn id(&self, request: &Request) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        request.hash_but_hits(&mut hasher);
        hasher.finish()
    }

    fn hash(&self, key: &[u8]) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(key);
        hasher.finish()
    }
}
