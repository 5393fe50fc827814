//! A request as it waits in the queue and as denials are cached by. It owns all its data, because its caller may go
//! away. It knows neither how it is packed nor where it is sent.

use std::hash::{Hash, Hasher};
use std::time::Duration;

use smallvec::SmallVec;

use crate::limit::{Algorithm, Cost, HITS_MAX, Limit, Micros, Reading, UnixMicros};
use crate::store::counter_check::{CounterCheck, Gate, Role};
use crate::store::readings::Readings;
use crate::store::{key, sub_requests::weight};

/// Bits of the gate, as decide.lua reads them.
pub(super) const QUOTA_OPEN: u8 = 1;
pub(super) const NEVER_DENY: u8 = 2;
/// An independent request: it comes once or has one check, and no other check of the batch has its counters. (Set by
/// the batch.)
pub(super) const INDEPENDENT: u8 = 4;
/// Another part of the request was denied already.
pub(super) const DENIED: u8 = 8;

#[derive(Clone, Debug)]
pub(super) struct Request {
    keys: Vec<u8>,
    pub terms: SmallVec<[CheckTerms; 2]>,
    /// The end of each check's key in `keys`.
    ends: SmallVec<[u32; 2]>,
    pub gate: u8,
    /// A time that the caller passed in, in µs since the epoch; 0 for Redis' own.
    pub now: u64,
    /// Redis' time that the request takes, see [`CheckTerms::weight`].
    weight: usize,
}

/// A check without its counter: limit, cost and role. Most checks of a batch share one of a few.
#[derive(Clone, Copy, Debug, PartialEq, Hash)]
pub(super) struct CheckTerms {
    pub limit: Limit,
    pub cost: Cost,
    pub role: Role,
    /// For a refund of one charge: the time of the charge, in µs by Redis' clock; else 0.
    pub charged: UnixMicros,
}

impl Request {
    /// Packs the checks of a request. `is_denied` says that another part of the request was denied, so that only checks
    /// with `charge_denied` are charged. `bucket_of` returns the bucket of a check's counter.
    pub(super) fn new(
        checks: &[CounterCheck<'_>],
        gate: Gate,
        is_denied: bool,
        now: u64,
        prefix: &str,
        bucket_of: impl Fn(&CounterCheck<'_>) -> u32,
    ) -> Request {
        Request::of(checks.iter().map(|check| (check, bucket_of(check))), gate, is_denied, now, prefix)
    }

    /// As [`Request::new`], of checks that each come with their bucket.
    pub(super) fn of<'a>(
        checks: impl ExactSizeIterator<Item = (&'a CounterCheck<'a>, u32)>,
        gate: Gate,
        is_denied: bool,
        now: u64,
        prefix: &str,
    ) -> Request {
        let mut request = Request {
            // Most keys are shorter; a longer one costs one growth.
            keys: Vec::with_capacity(80 * checks.len()),
            terms: SmallVec::with_capacity(checks.len()),
            ends: SmallVec::with_capacity(checks.len()),
            gate: QUOTA_OPEN * u8::from(gate.quota_open)
                + NEVER_DENY * u8::from(gate.never_deny)
                + DENIED * u8::from(is_denied),
            now,
            weight: 0,
        };
        for (check, bucket) in checks {
            key::write(&mut request.keys, prefix, bucket, &check.key, &check.limit);
            request.ends.push(u32::try_from(request.keys.len()).expect("256 keys of a few KiB at most"));
            let cost = Cost { hits: check.cost.hits.clamp(-HITS_MAX, HITS_MAX), ..check.cost };
            let term = CheckTerms { limit: check.limit, cost, role: check.role, charged: UnixMicros(0) };
            request.weight += term.weight();
            request.terms.push(term);
        }
        request
    }

    /// A refund of what `check` charged at `charged`.
    pub(super) fn undo(check: &CounterCheck<'_>, charged: UnixMicros, now: u64, prefix: &str, bucket: u32) -> Request {
        let cost = Cost { hits: -check.cost.hits.clamp(0, HITS_MAX), charge_denied: false };
        let gate = Gate { never_deny: true, ..Gate::default() };
        let mut request = Request::new(&[CounterCheck { cost, ..*check }], gate, false, now, prefix, |_| bucket);
        // 0 and 1 in this field mean `charge_denied`, so a time must be at least 2.
        request.terms[0].charged = charged.max(UnixMicros(2));
        request.weight = request.terms[0].weight();
        request
    }

    /// How long its denial holds: a limit that denies on its own refuses until its reset, whatever other requests do
    /// meanwhile. `None` if this isn't such a denial, or if even a denied request changes counters.
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

    /// Hashes all that must be equal for [`Request::answers`], which is everything but the hits.
    pub(super) fn hash_but_hits(&self, hasher: &mut impl Hasher) {
        self.keys.hash(hasher);
        self.ends.hash(hasher);
        (self.gate, self.now).hash(hasher);
        self.terms.iter().for_each(|term| (term.limit, term.cost.charge_denied, term.role).hash(hasher));
    }

    /// The answer to `other` at `since` after `readings`, which are a denial of this request that still holds. There is
    /// one if both have the same counters, limits and gate, if the checks that admitted have enough left, and if the
    /// reset of the ones that refused is known for the other's hits.
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

    /// The keys of the counters that the request gives hits back to.
    pub(super) fn refunded(&self) -> impl Iterator<Item = &[u8]> {
        self.keys().zip(&self.terms).filter(|(_, term)| term.cost.hits < 0).map(|(key, _)| key)
    }

    /// Approximate bytes on the heap.
    pub(super) fn bytes(&self) -> usize {
        self.keys.capacity() + self.terms.len() * size_of::<CheckTerms>()
    }

    pub(super) fn check_count(&self) -> usize {
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

    /// Whether the request changes no counter if it is denied, so that a denial of it can be cached.
    fn is_quiet(&self) -> bool {
        self.gate & (NEVER_DENY | DENIED) == 0
            && self.now == 0
            && self.terms.iter().all(|term| term.cost.hits >= 0 && !term.cost.charge_denied)
    }
}

impl CheckTerms {
    /// The [`weight`] of its limit. A refund of one charge in a log weighs more, because the sums of all newer entries
    /// are written anew.
    fn weight(&self) -> usize {
        let rewritten = match self.limit.algorithm {
            Algorithm::SlidingLog if self.charged.0 > 0 => self.limit.requests as usize / 100,
            _ => 0,
        };
        weight(&self.limit) + rewritten
    }

    /// Whether the counter is a log, which the script reads and writes in pieces.
    pub(super) fn is_of_log(&self) -> bool {
        self.limit.algorithm == Algorithm::SlidingLog
    }

    fn is_like(&self, other: &CheckTerms) -> bool {
        (self.limit, self.role, self.cost.charge_denied) == (other.limit, other.role, other.cost.charge_denied)
    }
}

/// The reading of a counter of a denied request at `since` later, perhaps for other hits than those of the denial;
/// `None` if it isn't certain.
fn reread(asked: &CheckTerms, reading: Reading, hits: i64, since: Micros) -> Option<Reading> {
    let CheckTerms { limit, cost, .. } = asked;
    let later = Reading { reset: Micros(reading.reset.0.saturating_sub(since.0)), ..reading };
    if reading.admitted {
        let is_left = 0 <= hits && hits.unsigned_abs() <= reading.remaining;
        return (hits == cost.hits || is_left).then_some(later);
    }
    let most = if limit.algorithm.has_burst() { limit.burst } else { limit.requests };
    if hits < cost.hits {
        None
    } else if limit.requests == 0 || hits > i64::from(most) {
        // A cost above the limit is never admitted, then or now.
        Some(Reading { reset: limit.window, ..reading })
    } else {
        // More hits are admitted later than these, and it isn't known here when. But a fixed window ends for all hits
        // at once.
        (hits == cost.hits || limit.algorithm == Algorithm::FixedWindow).then_some(later)
    }
}
