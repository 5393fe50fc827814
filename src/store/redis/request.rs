//! A request as it waits for its batch, and as denials are remembered by: nothing of it is borrowed, for whoever asked
//! may go away. It knows neither how it is packed nor where it is sent.

use std::hash::{Hash, Hasher};
use std::time::Duration;

use smallvec::SmallVec;

use crate::limit::{Algorithm, Cost, HITS_MAX, Limit, Micros, Reading, UnixMicros};
use crate::store::{Ask, Gate, Readings, Role, key, parts::weight};

/// Bits of its gate, as the script knows them.
pub(super) const QUOTA_OPEN: u8 = 1;
pub(super) const NEVER_DENY: u8 = 2;
/// It comes once or has one ask, and its counters are asked about nowhere else in the batch. (Set by the batch.)
pub(super) const APART: u8 = 4;
/// Another part of it was denied already.
pub(super) const DENIED: u8 = 8;

#[derive(Debug)]
pub(super) struct Request {
    keys: Vec<u8>,
    pub terms: SmallVec<[Term; 2]>,
    /// Where the key of each ask ends in `keys`.
    ends: SmallVec<[u32; 2]>,
    pub gate: u8,
    /// A time that was passed in, in µs; 0 for Redis' own.
    pub now: u64,
    /// What it takes of Redis, see [`Term::weight`].
    weight: usize,
}

/// All that an ask puts to its counter; most asks of a batch share one of a few.
#[derive(Clone, Copy, Debug, PartialEq, Hash)]
pub(super) struct Term {
    pub limit: Limit,
    pub cost: Cost,
    pub role: Role,
    /// Of hits that are given back: when they were charged, if that is to be undone; else 0.
    pub charged: UnixMicros,
}

impl Request {
    /// `is_denied`: another part of the request was, so that nothing is charged but what counts refused hits.
    /// `bucket_of` says into which bucket the counter of each ask falls.
    pub(super) fn new(
        asks: &[Ask<'_>],
        gate: Gate,
        is_denied: bool,
        now: u64,
        prefix: &str,
        bucket_of: impl Fn(&Ask<'_>) -> u32,
    ) -> Request {
        let mut request = Request {
            // Most keys are shorter; a longer one costs one growth.
            keys: Vec::with_capacity(80 * asks.len()),
            terms: SmallVec::with_capacity(asks.len()),
            ends: SmallVec::with_capacity(asks.len()),
            gate: QUOTA_OPEN * u8::from(gate.quota_open)
                + NEVER_DENY * u8::from(gate.never_deny)
                + DENIED * u8::from(is_denied),
            now,
            weight: 0,
        };
        for ask in asks {
            key::write(&mut request.keys, prefix, bucket_of(ask), &ask.key, &ask.limit);
            request.ends.push(u32::try_from(request.keys.len()).expect("256 keys of a few KiB at most"));
            let cost = Cost { hits: ask.cost.hits.clamp(-HITS_MAX, HITS_MAX), ..ask.cost };
            let term = Term { limit: ask.limit, cost, role: ask.role, charged: UnixMicros(0) };
            request.weight += term.weight();
            request.terms.push(term);
        }
        request
    }

    /// Takes back what `ask` charged as of `charged`.
    pub(super) fn undo(ask: &Ask<'_>, charged: UnixMicros, now: u64, prefix: &str, bucket: u32) -> Request {
        let cost = Cost { hits: -ask.cost.hits.clamp(0, HITS_MAX), charge_denied: false };
        let gate = Gate { never_deny: true, ..Gate::default() };
        let mut request = Request::new(&[Ask { cost, ..*ask }], gate, false, now, prefix, |_| bucket);
        // The script takes less for a flag, and no counter is that old.
        request.terms[0].charged = charged.max(UnixMicros(2));
        request.weight = request.terms[0].weight();
        request
    }

    /// For how long its denial holds without asking again: a limit that denies alone refuses until its reset, whatever
    /// others hit meanwhile. `None` where it isn't such a denial, or where even a denied request changes counters.
    pub(super) fn denial_holds(&self, readings: &Readings) -> Option<Duration> {
        if !self.is_quiet() {
            return None;
        }
        let denying = self
            .terms
            .iter()
            .zip(readings)
            .filter(|(term, reading)| term.role == Role::Enforced && term.cost.hits > 0 && !reading.admitted);
        denying.map(|(_, reading)| reading.reset.as_duration()).min()
    }

    /// Tells apart what [`Request::answers`] can't take for each other: all but the hits.
    pub(super) fn hash_but_hits(&self, hasher: &mut impl Hasher) {
        self.keys.hash(hasher);
        self.ends.hash(hasher);
        (self.gate, self.now).hash(hasher);
        self.terms.iter().for_each(|term| (term.limit, term.cost.charge_denied, term.role).hash(hasher));
    }

    /// The answer to `other` after `since`, where `readings` are the denial of this request, and still hold: the same
    /// counters, limits and gate, no more hits than were left of what did not refuse, and of what did, hits whose reset is
    /// known.
    pub(super) fn answers(&self, readings: &Readings, other: &Request, since: Micros) -> Option<Readings> {
        let is_same = (&self.keys, &self.ends, self.gate, self.now)
            == (&other.keys, &other.ends, other.gate, other.now)
            && self.terms.iter().zip(&other.terms).all(|(mine, theirs)| mine.is_like(theirs));
        if !is_same {
            return None;
        }
        let asked = self.terms.iter().zip(&other.terms).zip(readings);
        asked.map(|((mine, theirs), reading)| reread(mine, *reading, theirs.cost.hits, since)).collect()
    }

    /// The counters that it gives hits back to.
    pub(super) fn refunded(&self) -> impl Iterator<Item = &[u8]> {
        self.keys().zip(&self.terms).filter(|(_, term)| term.cost.hits < 0).map(|(key, _)| key)
    }

    /// What it holds on the heap, about.
    pub(super) fn bytes(&self) -> usize {
        self.keys.capacity() + self.terms.len() * size_of::<Term>()
    }

    pub(super) fn asks(&self) -> usize {
        self.terms.len()
    }

    pub(super) fn weight(&self) -> usize {
        self.weight
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &[u8]> {
        let mut begin = 0;
        self.ends.iter().map(move |&end| {
            let key = &self.keys[begin..end as usize];
            begin = end as usize;
            key
        })
    }

    /// Whether it changes no counter where it is denied, so that the denial can be given again without asking.
    fn is_quiet(&self) -> bool {
        self.gate & (NEVER_DENY | DENIED) == 0
            && self.now == 0
            && self.terms.iter().all(|term| term.cost.hits >= 0 && !term.cost.charge_denied)
    }
}

impl Term {
    /// [`weight`] of its limit; but a charge that is taken back from a log has the sums of all newer entries written again.
    fn weight(&self) -> usize {
        let rewritten = match self.limit.algorithm {
            Algorithm::SlidingLog if self.charged.0 > 0 => self.limit.requests as usize / 100,
            _ => 0,
        };
        weight(&self.limit) + rewritten
    }

    /// Counters of logs are read and written piece by piece.
    pub(super) fn is_of_log(&self) -> bool {
        self.limit.algorithm == Algorithm::SlidingLog
    }

    fn is_like(&self, other: &Term) -> bool {
        (self.limit, self.role, self.cost.charge_denied) == (other.limit, other.role, other.cost.charge_denied)
    }
}

/// What a counter of a denied request says `since` then, perhaps to other hits than those that it was asked with, where
/// that is certain.
fn reread(asked: &Term, reading: Reading, hits: i64, since: Micros) -> Option<Reading> {
    let Term { limit, cost, .. } = asked;
    let later = Reading { reset: Micros(reading.reset.0.saturating_sub(since.0)), ..reading };
    if reading.admitted {
        let is_left = 0 <= hits && hits.unsigned_abs() <= reading.remaining;
        return (hits == cost.hits || is_left).then_some(later);
    }
    let most = if limit.algorithm.has_burst() { limit.burst } else { limit.requests };
    if hits < cost.hits {
        None
    } else if limit.requests == 0 || hits > i64::from(most) {
        // It can never pass, now as then.
        Some(Reading { reset: limit.window, ..reading })
    } else {
        // More hits pass later, and when is not known here; but a fixed window ends for all at once.
        (hits == cost.hits || limit.algorithm == Algorithm::FixedWindow).then_some(later)
    }
}
