//! What becomes of the requests of a replay: by limit, by counter and over time, under the new rules and under what they are
//! compared with.

#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, Hash as _, Hasher as _},
    sync::Arc,
};

use foldhash::{fast, quality};

use super::{
    counters::Counters,
    ranking::{CounterName, Ranking},
    timeline::{Buckets, Timeline},
};
use crate::{
    limit::{Code, Entry, Request, UnixMicros, written::write_entries},
    limiter::replay::PlayedCheck,
    metrics::requested_id,
    rules::{Rules, limit_in_words},
    store::Key,
};

/// Which rules a request was played to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    New,
    Before,
}

/// Counts of one limit, in checks of its counters. Each request is one check of each limit that it meets.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Checks {
    pub(super) admitted: u64,
    pub(super) refused: u64,
    /// Would have been refused, but the limit never denies this client.
    pub(super) shadow: u64,
}

pub(super) struct LimitTally {
    pub(super) id: Arc<str>,
    /// The limit, in the words of its rules; by [`Side`].
    pub(super) words: [Option<String>; 2],
    pub(super) checks: [Checks; 2],
    /// Of requests that it decides under the new rules.
    pub(super) newly_refused: u64,
    /// Of requests that it decided before.
    pub(super) newly_admitted: u64,
    pub(super) counters: Counters,
    pub(super) most_refused: Ranking,
    pub(super) refused: Timeline,
    /// Its counters aren't those of single clients: in a sample of clients each of their hits counts for several.
    pub(super) is_shared: bool,
}

/// Everything that was counted.
pub(super) struct Tally {
    pub(super) limits: Vec<LimitTally>,
    by_id: HashMap<Arc<str>, usize, fast::FixedState>,
    /// By the address of their ids, which stay where they are as long as their rules.
    by_address: HashMap<usize, usize, fast::FixedState>,
    top: usize,
    pub(super) buckets: Buckets,
    bucket: usize,
    pub(super) first: UnixMicros,
    pub(super) last: UnixMicros,
    pub(super) requests: Timeline,
    pub(super) refused: Timeline,
    pub(super) refused_before: Timeline,
    pub(super) totals: Totals,
    pub(super) most_newly_refused: Ranking,
    pub(super) most_newly_admitted: Ranking,
    /// Who denied the request that is played, before.
    denier_before: Option<Denier>,
    /// Whether the request that is played was admitted before, if that is known.
    code_before: Option<Code>,
    denier: Option<usize>,
    /// Requests by their descriptors, that are admitted now and of which it isn't known which limit refused them.
    unknown: Counters,
}

/// Requests.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Totals {
    pub(super) requests: u64,
    /// Those that met no limit.
    pub(super) not_limited: u64,
    pub(super) refused: u64,
    /// Those of which it is known what they were answered before.
    pub(super) compared: u64,
    pub(super) refused_before: u64,
    pub(super) newly_refused: u64,
    pub(super) newly_admitted: u64,
}

/// How the answer to a request differs from before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Refused now, by the limit with this id.
    Refused(Arc<str>),
    /// Admitted now; refused before by the limit with this id, if that is known.
    Admitted(Option<Arc<str>>),
}

#[derive(Clone)]
struct Denier {
    limit: usize,
    hash: u64,
    descriptor: Box<str>,
}

impl Tally {
    /// `top` is how many counters are listed of each kind.
    pub(super) fn new(top: usize) -> Tally {
        Tally {
            limits: Vec::new(),
            by_id: HashMap::default(),
            by_address: HashMap::default(),
            top,
            buckets: Buckets::new(UnixMicros(0)),
            bucket: 0,
            first: UnixMicros(0),
            last: UnixMicros(0),
            requests: Timeline::default(),
            refused: Timeline::default(),
            refused_before: Timeline::default(),
            totals: Totals::default(),
            most_newly_refused: Ranking::new(top),
            most_newly_admitted: Ranking::new(top),
            denier_before: None,
            code_before: None,
            denier: None,
            unknown: Counters::default(),
        }
    }

    /// Lists the limits of rules, so that those that nobody meets are told too.
    pub(super) fn add_rules(&mut self, rules: &Rules, side: Side) {
        for (_, rule, limit) in rules.limits() {
            let index = self.limit(&limit.id);
            self.limits[index].words[side as usize] = Some(limit_in_words(rule, limit));
        }
    }

    /// Begins with a request.
    pub(super) fn begin(&mut self, at: UnixMicros) {
        if self.totals.requests == 0 {
            (self.first, self.buckets) = (at, Buckets::new(at));
        }
        self.last = at;
        self.bucket = self.buckets.bucket(at);
        self.requests.add(self.buckets, self.bucket, 1);
        self.totals.requests += 1;
        (self.code_before, self.denier_before, self.denier) = (None, None, None);
    }

    /// What one counter said under the rules of before. They are played first.
    pub(super) fn checked_before(&mut self, check: &PlayedCheck<'_>) {
        let index = self.limit_of(check);
        let limit = &mut self.limits[index];
        limit.checks[Side::Before as usize].count(check);
        if check.reading.admitted || check.is_shadow {
            return;
        }
        let hash = hash(&check.key);
        let counter = limit.counters.of(hash);
        counter.refused_before = counter.refused_before.saturating_add(1);
        if check.is_deciding {
            self.denier_before = Some(Denier { limit: index, hash, descriptor: shown(&check.key) });
        }
    }

    /// What the request was answered before: by the rules of before, or as the log has it.
    pub(super) fn answered_before(&mut self, code: Code) {
        self.code_before = Some(code);
        self.totals.compared += 1;
        if code == Code::OverLimit {
            self.totals.refused_before += 1;
            self.refused_before.add(self.buckets, self.bucket, 1);
        }
    }

    /// What one counter said under the new rules. `denied_by` is the limit that denied the request before, if only the log
    /// knows.
    pub(super) fn checked(&mut self, check: &PlayedCheck<'_>, denied_by: Option<&str>) {
        let index = self.limit_of(check);
        let hash = hash(&check.key);
        let limit = &mut self.limits[index];
        limit.checks[Side::New as usize].count(check);
        limit.is_shared |= check.is_scaled;
        let counter = limit.counters.of(hash);
        let name = || CounterName { limit_id: Arc::clone(&limit.id), descriptor: shown(&check.key) };
        if !check.reading.admitted && !check.is_shadow {
            counter.refused = counter.refused.saturating_add(1);
            limit.most_refused.note(hash, counter.refused, name);
            limit.refused.add(self.buckets, self.bucket, 1);
        }
        if check.is_deciding {
            self.denier = Some(index);
            if self.code_before == Some(Code::Ok) {
                counter.newly_refused = counter.newly_refused.saturating_add(1);
                self.most_newly_refused.note(hash ^ index as u64, counter.newly_refused, name);
                limit.newly_refused += 1;
            }
        }
        if self.denier_before.is_none() && denied_by.is_some_and(|id| *id == *limit.id) {
            self.denier_before = Some(Denier { limit: index, hash, descriptor: shown(&check.key) });
        }
    }

    /// What `request` is answered under the new rules. Returns how that differs from before.
    pub(super) fn answered(&mut self, request: &Request<'_>, code: Code, is_limited: bool) -> Option<Change> {
        self.totals.not_limited += u64::from(!is_limited);
        if code == Code::OverLimit {
            self.totals.refused += 1;
            self.refused.add(self.buckets, self.bucket, 1);
        }
        match (self.code_before?, code) {
            (Code::Ok, Code::OverLimit) => {
                self.totals.newly_refused += 1;
                self.denier.map(|index| Change::Refused(Arc::clone(&self.limits[index].id)))
            }
            (Code::OverLimit, Code::Ok) => {
                self.totals.newly_admitted += 1;
                let denier = self.denier_before.take();
                if denier.is_none() {
                    self.newly_admitted_by_no_limit(request);
                }
                Some(Change::Admitted(denier.map(|denier| self.newly_admitted(denier))))
            }
            _ => None,
        }
    }

    fn newly_admitted(&mut self, denier: Denier) -> Arc<str> {
        let limit = &mut self.limits[denier.limit];
        let counter = limit.counters.of(denier.hash);
        counter.newly_admitted = counter.newly_admitted.saturating_add(1);
        limit.newly_admitted += 1;
        let name = || CounterName { limit_id: Arc::clone(&limit.id), descriptor: denier.descriptor };
        self.most_newly_admitted.note(denier.hash ^ denier.limit as u64, counter.newly_admitted, name);
        Arc::clone(&limit.id)
    }

    /// Lists what was asked instead of the counter.
    fn newly_admitted_by_no_limit(&mut self, request: &Request<'_>) {
        let descriptors = request.descriptors.iter().map(|it| write_entries(it.entries.iter().copied()));
        let descriptor = descriptors.collect::<Vec<_>>().join(" + ");
        let hash = quality::FixedState::with_seed(0).hash_one(&descriptor);
        let counter = self.unknown.of(hash);
        counter.newly_admitted = counter.newly_admitted.saturating_add(1);
        let name = || CounterName { limit_id: "".into(), descriptor: descriptor.into() };
        self.most_newly_admitted.note(hash, counter.newly_admitted, name);
    }

    /// How much of a limit one counter took, where nothing is refused.
    pub(super) fn measured(&mut self, check: &PlayedCheck<'_>) {
        // Overrides have numbers of their own, which the limit's number doesn't change.
        if !check.is_measured() || check.is_overridden {
            return;
        }
        let index = self.limit_of(check);
        let counter = self.limits[index].counters.of(hash(&check.key));
        counter.peak = counter.peak.max(u32::try_from(check.used()).unwrap_or(u32::MAX));
    }

    /// The bucket of the last request.
    pub(super) fn last_bucket(&self) -> usize {
        self.bucket
    }

    fn limit_of(&mut self, check: &PlayedCheck<'_>) -> usize {
        let Some(id) = check.limit_id else {
            // The request brought the limit.
            return self.limit(&requested_id(check.key.domain).into());
        };
        if let Some(index) = self.by_address.get(&id.as_ptr().addr()) {
            return *index;
        }
        let index = self.limit(id);
        self.by_address.insert(id.as_ptr().addr(), index);
        index
    }

    fn limit(&mut self, id: &Arc<str>) -> usize {
        if let Some(index) = self.by_id.get(id) {
            return *index;
        }
        self.limits.push(LimitTally {
            id: Arc::clone(id),
            words: [None, None],
            checks: [Checks::default(); 2],
            newly_refused: 0,
            newly_admitted: 0,
            counters: Counters::default(),
            most_refused: Ranking::new(self.top),
            refused: Timeline::default(),
            is_shared: false,
        });
        self.by_id.insert(Arc::clone(id), self.limits.len() - 1);
        self.limits.len() - 1
    }
}

impl Checks {
    fn count(&mut self, check: &PlayedCheck<'_>) {
        match (check.reading.admitted, check.is_shadow) {
            (true, _) => self.admitted += 1,
            (false, true) => self.shadow += 1,
            (false, false) => self.refused += 1,
        }
    }
}

/// Of a counter among those of its limit. The same in each run.
fn hash(key: &Key<'_>) -> u64 {
    let mut hasher = quality::FixedState::with_seed(0).build_hasher();
    entries(key).for_each(|entry| {
        entry.key.hash(&mut hasher);
        entry.value.hash(&mut hasher);
    });
    hasher.finish()
}

fn shown(key: &Key<'_>) -> Box<str> {
    write_entries(entries(key)).into()
}

/// With the pattern in the place of a value where all values that match it share the counter.
fn entries<'k>(key: &'k Key<'_>) -> impl Iterator<Item = Entry<'k>> {
    key.entries.iter().enumerate().map(|(position, entry)| {
        let pattern = key.shared.get(position).and_then(|pattern| pattern.as_deref());
        Entry { key: entry.key, value: pattern.unwrap_or(entry.value) }
    })
}
