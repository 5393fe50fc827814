//! Counts decisions in the sketches of one core: the part that is on every request's path. A key that is listed already
//! costs a hash, a look-up and an addition, and no allocation.

use std::{
    hash::{BuildHasher as _, Hash as _, Hasher as _},
    sync::Arc,
};

use parking_lot::Mutex;
use smallvec::SmallVec;

use super::{
    TopLists, TopMeasure, TopSpan,
    history::ByMeasure,
    key::{self, TopKey, domain_number},
    list::TopList,
    sketch::Sketch,
};
use crate::{
    limit::{Reading, Request, UnixMicros},
    limiter::plan::{Plan, PlannedDescriptor},
    metrics::requested_id,
    rules::{Rule, RuleLimit},
    store::{CounterCheck, Role},
};

/// Length of the slots that cores count in, in µs.
const SLOT: u64 = TopSpan::Minute.slot().0;

/// A slot that is over: its number, and what was counted in it.
type ClosedSlot = (u64, ByMeasure<Sketch>);

/// What one core counts.
pub(super) struct CoreSketches {
    keys_max: usize,
    /// The slot that is counted in.
    number: u64,
    sketches: ByMeasure<Sketch>,
    /// The slot before, until it is merged.
    closed: Option<ClosedSlot>,
}

impl CoreSketches {
    pub(super) fn new(keys_max: usize) -> CoreSketches {
        CoreSketches { keys_max, number: 0, sketches: empty(keys_max), closed: None }
    }

    /// The sketches for `now`, with a slot that found the one before it not yet merged, which is rare.
    fn at(&mut self, now: UnixMicros) -> (&mut ByMeasure<Sketch>, Option<ClosedSlot>) {
        let begins = self.number * SLOT;
        // What comes late, or by a clock that was set back a little, counts in the slot that there is.
        if now.0 < begins + SLOT && now.0 + SLOT >= begins {
            return (&mut self.sketches, None);
        }
        let left_over = self.close();
        self.number = now.0 / SLOT;
        (&mut self.sketches, left_over)
    }

    fn close(&mut self) -> Option<ClosedSlot> {
        if self.sketches.iter().all(Sketch::is_empty) {
            return None;
        }
        let sketches = std::mem::replace(&mut self.sketches, empty(self.keys_max));
        self.closed.replace((self.number, sketches))
    }

    fn is_over(&self, now: UnixMicros) -> bool {
        now.0 >= (self.number + 1) * SLOT && !self.sketches.iter().all(Sketch::is_empty)
    }

    pub(super) fn has_closed(&self, now: UnixMicros) -> bool {
        self.closed.is_some() || self.is_over(now)
    }

    /// Takes the slots that are over.
    pub(super) fn take_closed(&mut self, now: UnixMicros) -> SmallVec<[ClosedSlot; 2]> {
        let mut closed: SmallVec<[ClosedSlot; 2]> = self.closed.take().into_iter().collect();
        if self.is_over(now) {
            self.close();
            closed.extend(self.closed.take());
        }
        closed
    }

    /// What was counted in a span that ends `now`, and isn't merged yet.
    pub(super) fn lists(&mut self, span: TopSpan, now: UnixMicros) -> SmallVec<[ByMeasure<Arc<TopList>>; 2]> {
        let current = (self.number, &mut self.sketches);
        let closed = self.closed.as_mut().map(|(number, sketches)| (*number, sketches));
        let all = closed.into_iter().chain([current]);
        let in_span = all.filter(|(number, _)| span.touches(number / span.shortest_slots(), now));
        in_span.map(|(_, sketches)| sketches.each_mut().map(|sketch| Arc::new(sketch.list_now()))).collect()
    }

    pub(super) fn bytes(&self) -> usize {
        let closed = self.closed.iter().flat_map(|(_, sketches)| sketches);
        self.sketches.iter().chain(closed).map(Sketch::bytes).sum()
    }
}

fn empty(keys_max: usize) -> ByMeasure<Sketch> {
    TopMeasure::ALL.map(|_| Sketch::new(keys_max))
}

/// Counts what one core decides. Clones count in the same sketches.
#[derive(Clone)]
pub struct CoreTop {
    lists: Arc<TopLists>,
    sketches: Arc<Mutex<CoreSketches>>,
}

impl CoreTop {
    pub(super) fn new(lists: Arc<TopLists>, sketches: Arc<Mutex<CoreSketches>>) -> CoreTop {
        CoreTop { lists, sketches }
    }

    /// Counts the checks of a request that was decided, with the readings that it was answered by.
    pub(in crate::limiter) fn count(
        &self,
        request: &Request<'_>,
        plan: &Plan<'_>,
        readings: &[Reading],
        now: UnixMicros,
    ) {
        if plan.checks.is_empty() {
            return;
        }
        self.with_sketches(now, |sketches| {
            let mut add = |of: CounterOf<'_>, reading: &Reading| self.add(sketches, of, plan.gate.never_deny, reading);
            for planned in &plan.descriptors {
                match planned {
                    PlannedDescriptor::Ruled { rule, applied, checks, .. } => {
                        for (limit, index) in applied.all_counted_as().zip(checks.clone()) {
                            let (domain, check) = (request.domain, &plan.checks[index]);
                            add(CounterOf { domain, of: Some((rule, limit)), check }, &readings[index]);
                        }
                    }
                    PlannedDescriptor::Requested { checks, .. } => {
                        let (domain, check) = (request.domain, &plan.checks[checks.start]);
                        add(CounterOf { domain, of: None, check }, &readings[checks.start]);
                    }
                    PlannedDescriptor::UnknownDomain
                    | PlannedDescriptor::NoMatch
                    | PlannedDescriptor::NoLimit
                    | PlannedDescriptor::Unlimited(_) => {}
                }
            }
        });
    }

    pub(super) fn with_sketches(&self, now: UnixMicros, add: impl FnOnce(&mut ByMeasure<Sketch>)) {
        let mut core = self.sketches.lock();
        let (sketches, left_over) = core.at(now);
        add(sketches);
        if let Some((number, sketches)) = left_over {
            // Readers lock the history first.
            drop(core);
            let lists = sketches.map(|mut sketch| sketch.list_now());
            self.lists.history().add(number, &lists, self.lists.keys_max);
        }
    }

    fn add(&self, sketches: &mut ByMeasure<Sketch>, of: CounterOf<'_>, never_deny: bool, reading: &Reading) {
        let hash = self.hash(&of);
        let mut made: Option<Arc<TopKey>> = None;
        let mut add = |measure: TopMeasure, hits: u64| {
            let key = || Arc::clone(made.get_or_insert_with(|| Arc::new(self.key(&of))));
            sketches[measure as usize].add(hash, hits, key);
        };
        if let Ok(hits @ 1..) = u64::try_from(of.check.cost.hits) {
            add(TopMeasure::Hits, hits);
        }
        if !reading.admitted {
            let would_be = never_deny || of.check.role == Role::Shadow;
            add(if would_be { TopMeasure::Shadow } else { TopMeasure::Denied }, 1);
        }
    }

    fn hash(&self, of: &CounterOf<'_>) -> u64 {
        let mut hasher = self.lists.hasher.build_hasher();
        match of.of {
            Some((_, limit)) => hasher.write_u64(limit.id_hash),
            None => of.domain.hash(&mut hasher),
        }
        let key = &of.check.key;
        for (position, entry) in key.entries.iter().enumerate() {
            entry.key.hash(&mut hasher);
            key.shared.get(position).and_then(Option::as_deref).unwrap_or(entry.value).hash(&mut hasher);
        }
        hasher.finish()
    }

    #[cold]
    fn key(&self, of: &CounterOf<'_>) -> TopKey {
        let rule = of.of.map(|(rule, _)| rule);
        let descriptor = key::descriptor(&of.check.key, rule, &self.lists.privacy);
        let domain = domain_number(of.domain);
        match of.of {
            Some((_, limit)) => TopKey::new(domain, &limit.id, &descriptor),
            None => TopKey::new(domain, &requested_id(of.domain), &descriptor),
        }
    }
}

/// A counter that was checked, and what it is counted under.
struct CounterOf<'a> {
    domain: &'a str,
    /// The rule, and the limit that it counts as; none for a limit that came with the request.
    of: Option<(&'a Rule, &'a RuleLimit)>,
    check: &'a CounterCheck<'a>,
}
