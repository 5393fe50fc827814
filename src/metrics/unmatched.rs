//! Descriptors that no rule matched, by domain and key names: what a team forgot to write a rule for, or misspelt.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
};

use metrics::Counter;
use parking_lot::RwLock;

use super::{
    recorder::{Count, Recorder},
    table::Metric,
};
use crate::limit::Entry;

/// Sets of key names told apart. Clients choose the names, so there is an end to it; the rest is `other`.
const SERIES_MAX: usize = 256;

/// Longer names are `other` too: a key may be as long as a request, and 256 of those would be a page that no scrape finishes.
const KEYS_BYTES_MAX: usize = 256;

/// By domain and joined key names.
type Counters = HashMap<(Box<str>, Box<str>), Counter>;

pub struct Unmatched {
    recorder: Arc<Recorder>,
    seen: RwLock<Counters>,
    /// The series of all that have none of their own: there from its first descriptor on.
    other: OnceLock<Count>,
}

impl Unmatched {
    pub(super) fn new(recorder: &Arc<Recorder>) -> Unmatched {
        Unmatched { recorder: Arc::clone(recorder), seen: RwLock::default(), other: OnceLock::new() }
    }

    /// Counts a descriptor of a known domain. Costs an allocation for the joined names: only what isn't limited pays it.
    pub fn count(&self, domain: &str, entries: &[Entry<'_>]) {
        if entries.iter().map(|entry| entry.key.len() + 1).sum::<usize>() > KEYS_BYTES_MAX {
            return self.count_other();
        }
        let mut keys = String::new();
        for entry in entries {
            if !keys.is_empty() {
                keys.push(',');
            }
            keys.push_str(entry.key);
        }
        let name = (Box::from(domain), keys.into_boxed_str());
        if let Some(counter) = self.seen.read().get(&name) {
            return counter.increment(1);
        }
        let mut seen = self.seen.write();
        if seen.len() < SERIES_MAX || seen.contains_key(&name) {
            let counter = |(domain, keys): &(Box<str>, Box<str>)| {
                self.recorder.counter(Metric::UnmatchedDescriptors, &[domain, keys])
            };
            seen.entry(name).or_insert_with_key(counter).increment(1);
        } else {
            drop(seen);
            self.count_other();
        }
    }

    fn count_other(&self) {
        self.other.get_or_init(|| self.recorder.count(Metric::UnmatchedDescriptors, &["other", "other"])).add(1);
    }

    /// How many were counted as `other`.
    pub(super) fn others(&self) -> u64 {
        self.other.get().map_or(0, Count::get)
    }
}
