//! The last hour of this replica in slots of ten seconds, for the graphs of those who look: requests, refusals, times and
//! the busiest limits. It is made of counters that exist anyway, read once a slot, and takes at most [`BYTES_MAX`]. It
//! reads no clock.

#[cfg(test)]
mod tests;

use std::{
    cmp::Reverse,
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
};

use parking_lot::Mutex;

use super::Snapshot;
use crate::{
    limit::{Micros, SECOND, UnixMicros},
    metrics::{Metrics, Recorded, RequestTotals},
};

/// Length of a slot.
pub const SLOT: Micros = Micros(10 * SECOND.0);

/// Slots that are kept: an hour's, and the one that an hour reaches into.
const SLOTS: usize = 361;

/// Limits of a slot that have a graph: those that refuse most, then those that are asked most.
const LIMITS_OF_SLOT: usize = 48;

/// Limits whose rates are known. Of more, those that come later in the files have none.
const LIMITS_MAX: usize = 16_384;

/// Slots of a minute.
const SLOTS_OF_MINUTE: u64 = 60 * SECOND.0 / SLOT.0;

/// Minutes of the graph of a limit among others.
const MINUTES: u64 = 60;

/// What all of it takes at most, in bytes.
pub const BYTES_MAX: usize = 1 << 20;

/// Numbers of a limit a second: decisions, refusals, and refusals that would have been.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LimitRates {
    pub requests: f32,
    pub refused: f32,
    pub shadow: f32,
}

/// Numbers of all requests, a second, and their times in µs; 0 where there was none.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SlotRates {
    pub requests: f32,
    pub refused: f32,
    pub degraded: f32,
    pub store_errors: f32,
    pub decision_p50_us: u32,
    pub decision_p99_us: u32,
    pub store_p99_us: u32,
}

struct HourSlot {
    /// Since the epoch, in [`SLOT`]s.
    number: u64,
    rates: SlotRates,
    /// By the hash of the limit's id.
    limits: Box<[(u64, LimitRates)]>,
}

impl HourSlot {
    /// Others may have been left out.
    fn is_full(&self) -> bool {
        self.limits.len() == LIMITS_OF_SLOT
    }

    /// `None` if it may have been left out.
    fn limit(&self, hash: u64) -> Option<LimitRates> {
        let kept = self.limits.iter().find(|(kept, _)| *kept == hash).map(|(_, rates)| *rates);
        kept.or_else(|| (!self.is_full()).then(LimitRates::default))
    }
}

/// The slots of a minute that were kept, and those of them that others may have been left out of.
#[derive(Clone, Copy, Default)]
struct MinuteSlots {
    slots: u32,
    full: u32,
}

/// What the slots of a minute say of one limit.
#[derive(Clone, Copy, Default)]
struct MinuteSum {
    rates: LimitRates,
    /// Of those that others may have been left out of.
    full_with_it: u32,
}

impl MinuteSum {
    fn add(&mut self, rates: &LimitRates, is_full: bool) {
        self.rates.requests += rates.requests;
        self.rates.refused += rates.refused;
        self.rates.shadow += rates.shadow;
        self.full_with_it += u32::from(is_full);
    }

    /// Of the slots where it is known.
    fn mean(&self, minute: &MinuteSlots) -> Option<LimitRates> {
        let known = minute.slots - minute.full + self.full_with_it;
        let LimitRates { requests, refused, shadow } = self.rates;
        let of = |sum: f32| sum / known.max(1) as f32;
        let mean = LimitRates { requests: of(requests), refused: of(refused), shadow: of(shadow) };
        // What was not read at all is a gap of zeros.
        (known > 0 || minute.slots == 0).then_some(mean)
    }
}

/// What counters said at a moment.
struct HourSample {
    at: UnixMicros,
    totals: RequestTotals,
    store_errors: u64,
    decision: Recorded,
    store: Recorded,
    snapshot: Arc<Snapshot>,
    /// Decisions by outcome, of the limits of the snapshot in their order.
    limits: Box<[[u32; 3]]>,
}

/// The hour as it is read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HourView {
    /// When the first slot begins.
    pub begins: UnixMicros,
    /// Without gaps, the oldest first; the last is the one that has begun.
    pub slots: Vec<SlotRates>,
    /// The same of the limit that was asked for; empty without one. `None` is not known: as many others as a slot keeps
    /// were busier.
    pub limit: Vec<Option<LimitRates>>,
}

/// A limit's hour in minutes, the oldest first; the last is the one that has begun. `None` is not known, as above.
pub type LimitMinutes = Vec<Option<LimitRates>>;

/// Keeps the hour.
#[derive(Default)]
pub struct HourHistory(Mutex<KeptHour>);

#[derive(Default)]
struct KeptHour {
    slots: VecDeque<HourSlot>,
    last: Option<HourSample>,
    /// The one before, for rates over no less than a slot.
    before: Option<HourSample>,
}

impl HourHistory {
    /// Reads the counters. Called when a slot begins.
    pub fn sample(&self, now: UnixMicros, metrics: &Metrics, snapshot: &Arc<Snapshot>) {
        let sample = HourSample::new(now, metrics, snapshot);
        let mut kept = self.0.lock();
        if let Some(last) = kept.last.take() {
            let number = (now.0.saturating_sub(SLOT.0 / 2)) / SLOT.0;
            let slot = HourSlot { number, rates: sample.since(&last), limits: busiest(&sample.limits_since(&last)) };
            // A clock that was set back would put slots out of order.
            kept.slots.retain(|known| known.number < number && known.number + SLOTS as u64 > number);
            kept.slots.push_back(slot);
            kept.before = Some(last);
        }
        kept.last = Some(sample);
    }

    /// The hour until `now`, with the slot that has begun; of the limit with this hash of its id too.
    pub fn read(&self, limit: Option<u64>, now: UnixMicros, metrics: &Metrics, snapshot: &Arc<Snapshot>) -> HourView {
        let current = HourSample::new(now, metrics, snapshot);
        let kept = self.0.lock();
        let mut view = HourView::default();
        let Some(last) = &kept.last else { return view };
        let ending = last.at.0 / SLOT.0;
        let first = kept.slots.front().map_or(ending, |slot| slot.number);
        view.begins = UnixMicros(first * SLOT.0);
        let mut known = kept.slots.iter().peekable();
        for number in first..ending {
            let slot = known.next_if(|slot| slot.number == number);
            view.slots.push(slot.map(|slot| slot.rates).unwrap_or_default());
            view.limit.extend(limit.map(|hash| slot.map_or(Some(LimitRates::default()), |slot| slot.limit(hash))));
        }
        // A rate of less than a second would be noise.
        if now.0.saturating_sub(last.at.0) >= SECOND.0 {
            view.slots.push(current.since(last));
            let of_limit = || current.limits_since(last).into_iter().find(|(hash, _)| Some(*hash) == limit);
            view.limit.extend(limit.map(|_| Some(of_limit().map(|(_, rates)| rates).unwrap_or_default())));
        }
        view
    }

    /// The hour of the limits with these hashes of their ids, by hash. Those that did nothing in it are left out.
    pub fn minutes(&self, limits: &[u64]) -> HashMap<u64, LimitMinutes> {
        let kept = self.0.lock();
        let minute = |slot: &HourSlot| slot.number / SLOTS_OF_MINUTE;
        let Some(last) = kept.slots.back().map(minute) else { return HashMap::new() };
        let oldest = kept.slots.front().map_or(last, minute);
        let first = oldest.max((last + 1).saturating_sub(MINUTES));
        let mut sums: HashMap<u64, Vec<MinuteSum>> = HashMap::new();
        let mut minutes = vec![MinuteSlots::default(); (last + 1 - first) as usize];
        let asked: HashSet<u64> = limits.iter().copied().collect();
        for slot in kept.slots.iter().filter(|slot| minute(slot) >= first) {
            let at = (minute(slot) - first) as usize;
            minutes[at].slots += 1;
            minutes[at].full += u32::from(slot.is_full());
            for (hash, rates) in slot.limits.iter().filter(|(hash, _)| asked.contains(hash)) {
                let sums = sums.entry(*hash).or_insert_with(|| vec![MinuteSum::default(); minutes.len()]);
                sums[at].add(rates, slot.is_full());
            }
        }
        let means = |sums: Vec<MinuteSum>| sums.iter().zip(&minutes).map(|(sum, slots)| sum.mean(slots)).collect();
        sums.into_iter().map(|(hash, sums)| (hash, means(sums))).collect()
    }

    /// The rates of every limit over the last ten to twenty seconds, by the hash of its id; those without any are left out.
    pub fn rates(&self, now: UnixMicros, metrics: &Metrics, snapshot: &Arc<Snapshot>) -> HashMap<u64, LimitRates> {
        let current = HourSample::new(now, metrics, snapshot);
        let kept = self.0.lock();
        let since = kept.before.as_ref().or(kept.last.as_ref());
        since.map(|since| current.limits_since(since).into_iter().collect()).unwrap_or_default()
    }

    /// Bytes that are taken.
    pub fn bytes(&self) -> usize {
        let kept = self.0.lock();
        let slots: usize = kept.slots.iter().map(|slot| size_of::<HourSlot>() + size_of_val(&*slot.limits)).sum();
        let samples = kept.last.iter().chain(&kept.before);
        slots + samples.map(|sample| size_of::<HourSample>() + size_of_val(&*sample.limits)).sum::<usize>()
    }
}

impl HourSample {
    fn new(at: UnixMicros, metrics: &Metrics, snapshot: &Arc<Snapshot>) -> HourSample {
        let mut limits = Vec::new();
        snapshot.meters.each_limit(&snapshot.rules, |_, counts| {
            if limits.len() < LIMITS_MAX {
                // They wrap, as do their differences.
                limits.push(counts.map(|count| count as u32));
            }
        });
        HourSample {
            at,
            totals: metrics.totals_of_requests(),
            store_errors: metrics.count_store_errors(),
            decision: metrics.decision.recorded(),
            store: metrics.store.recorded(),
            snapshot: Arc::clone(snapshot),
            limits: limits.into(),
        }
    }

    fn seconds_since(&self, before: &HourSample) -> f32 {
        (self.at.0.saturating_sub(before.at.0).max(1) as f32) / SECOND.0 as f32
    }

    fn since(&self, before: &HourSample) -> SlotRates {
        let seconds = self.seconds_since(before);
        let rate = |now: u64, before: u64| now.saturating_sub(before) as f32 / seconds;
        let (decision, store) = (self.decision.since(&before.decision), self.store.since(&before.store));
        SlotRates {
            requests: rate(self.totals.answered, before.totals.answered),
            refused: rate(self.totals.refused, before.totals.refused),
            degraded: rate(self.totals.degraded, before.totals.degraded),
            store_errors: rate(self.store_errors, before.store_errors),
            decision_p50_us: decision.quantile_us(0.5),
            decision_p99_us: decision.quantile_us(0.99),
            store_p99_us: store.quantile_us(0.99),
        }
    }

    /// The rates of the limits that decided anything since.
    fn limits_since(&self, before: &HourSample) -> Vec<(u64, LimitRates)> {
        let seconds = self.seconds_since(before);
        let mut rates = Vec::new();
        let mut add = |hash, now: [u32; 3], before: [u32; 3]| {
            let more = [0, 1, 2].map(|outcome| now[outcome].wrapping_sub(before[outcome]) as f32 / seconds);
            if more.iter().any(|more| *more > 0.0) {
                let [ok, refused, shadow] = more;
                rates.push((hash, LimitRates { requests: ok + refused + shadow, refused, shadow }));
            }
        };
        if Arc::ptr_eq(&self.snapshot, &before.snapshot) {
            for ((hash, now), before) in hashes(&self.snapshot).zip(&self.limits).zip(&before.limits) {
                add(hash, *now, *before);
            }
        } else {
            // A limit that stays over a reload goes on counting; a new one begins with 0.
            let known: HashMap<u64, [u32; 3]> = hashes(&before.snapshot).zip(before.limits.iter().copied()).collect();
            for (hash, now) in hashes(&self.snapshot).zip(&self.limits) {
                add(hash, *now, known.get(&hash).copied().unwrap_or_default());
            }
        }
        rates
    }
}

fn hashes(snapshot: &Snapshot) -> impl Iterator<Item = u64> {
    let rules = snapshot.rules.domains().iter().flat_map(|domain| domain.rules());
    rules.flat_map(|rule| rule.limits.iter().map(|limit| limit.id_hash))
}

fn busiest(rates: &[(u64, LimitRates)]) -> Box<[(u64, LimitRates)]> {
    let mut rates = rates.to_vec();
    let weight = |of: &LimitRates| ((of.refused + of.shadow) * 1e3, of.requests * 1e3);
    rates.sort_unstable_by_key(|(hash, of)| {
        let (refused, requests) = weight(of);
        (Reverse((refused as u64, requests as u64)), *hash)
    });
    rates.truncate(LIMITS_OF_SLOT);
    rates.into()
}
