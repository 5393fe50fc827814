//! Descriptors that no rule matched, by domain and key names: what a team forgot to write a rule for, or misspelt.

use std::collections::HashMap;

use parking_lot::RwLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::limit::Entry;

/// Sets of key names told apart. Clients choose the names, so there is an end to it; the rest is `other`.
const SERIES_MAX: usize = 256;

/// Longer names are `other` too: a key may be as long as a request, and 256 of those would be a page that no scrape finishes.
const KEYS_BYTES_MAX: usize = 256;

/// By domain and joined key names.
type Counts = HashMap<(Box<str>, Box<str>), AtomicU64>;

#[derive(Default)]
pub struct Unmatched {
    seen: RwLock<Counts>,
    other: AtomicU64,
}

impl Unmatched {
    /// Counts a descriptor of a known domain. Costs an allocation for the joined names: only what isn't limited pays it.
    pub fn count(&self, domain: &str, entries: &[Entry<'_>]) {
        if entries.iter().map(|entry| entry.key.len() + 1).sum::<usize>() > KEYS_BYTES_MAX {
            self.other.fetch_add(1, Relaxed);
            return;
        }
        let mut keys = String::new();
        for entry in entries {
            if !keys.is_empty() {
                keys.push(',');
            }
            keys.push_str(entry.key);
        }
        let name = (Box::from(domain), keys.into_boxed_str());
        if let Some(count) = self.seen.read().get(&name) {
            count.fetch_add(1, Relaxed);
            return;
        }
        let mut seen = self.seen.write();
        if seen.len() < SERIES_MAX || seen.contains_key(&name) {
            seen.entry(name).or_default().fetch_add(1, Relaxed);
        } else {
            self.other.fetch_add(1, Relaxed);
        }
    }

    /// How many were counted as `other`.
    pub(super) fn others(&self) -> u64 {
        self.other.load(Relaxed)
    }

    /// Calls `visit` with domain, keys and count of each set; `other` comes last, if there is any.
    pub(super) fn each(&self, mut visit: impl FnMut(&str, &str, u64)) {
        for ((domain, keys), count) in self.seen.read().iter() {
            visit(domain, keys, count.load(Relaxed));
        }
        match self.others() {
            0 => {}
            other => visit("other", "other", other),
        }
    }
}
