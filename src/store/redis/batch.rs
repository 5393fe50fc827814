//! One batch in bytes: packs requests into one call of the script, and reads its reply. `gather` finds out which
//! requests are identical and which are independent; the layouts stand at the head of `decide.lua`, with an example of
//! all bytes. It knows no connection and no clock.
//!
//! A call has the counters' keys, a head (the time, the deadline, and the terms: a limit and a cost, which most checks
//! of a batch share), and the runs. The reply has four numbers for the batch, and then the answers in the order of the
//! runs. Redis decides identical requests one after the other, but answers the usual ones (all admitted, each with a hit
//! to spare) with one number for each check: what the last of them left. [`Batch::read`] works out the rest: three
//! requests of 2 hits that leave 3 in the end left 7, 5 and 3. Their reset needs no number either, because a sliding
//! window that is hit now is empty again one window and one sub-window after the current sub-window began.
//!
//! Invariants: (1) the reply has exactly as many numbers as the runs call for, or it is no reply to this batch; (2)
//! readings are kept in the order of the script, and [`Batch::readings`] finds those of a request by its number in the
//! batch.

mod gather;

use std::ops::Range;

use redis::Cmd;

use self::gather::{BatchBuilder, BatchLayout, NumberedCheck, RequestGroup};
use super::request::{CheckTerms, Request};
use super::script::Script;
use crate::algorithm::{self, State};
use crate::limit::{Algorithm, Cost, Limit, Micros, Reading, SUB_WINDOWS_MAX, UnixMicros};
use crate::store::counter_check::Role;
use crate::store::readings::Readings;

#[cfg(test)]
mod tests;

/// How many numbers stand at the head of a reply.
const HEADER_NUMBERS: usize = 4;

/// In place of all answers to a request: some counter of it isn't at this node, or the node forbids to touch it because it
/// isn't declared (keys_of_node.lua). No remaining hits are so many.
const MOVED: f64 = -9_007_199_254_740_992.0;
const FORBIDDEN: f64 = -18_014_398_509_481_984.0;

/// What is kept of a batch that was sent, to read its reply.
pub(super) struct Batch {
    layout: BatchLayout,
    /// Number of counters.
    pub counters: usize,
    /// Number of requests that are merged with an identical one.
    pub merged: usize,
}

/// Redis' reply to a batch.
pub(super) struct Reply {
    /// Redis' clock, in µs.
    pub now: u64,
    /// `None` if the batch came after its deadline, so that nothing was charged.
    pub result: Option<BatchResult>,
}

pub(super) struct BatchResult {
    /// Number of damaged counters, which held something else and began afresh, and the position of the first.
    pub damaged: u64,
    pub damaged_first: usize,
    /// Number of counters from more than a window ahead, whose time was set back.
    pub ahead: u64,
    readings: Vec<Reading>,
    /// Which readings aren't there, because their requests are answered elsewhere. Mostly none.
    elsewhere: Vec<Range<usize>>,
    /// The node forbids scripts over keys that aren't declared.
    pub is_forbidden: bool,
}

impl BatchResult {
    /// Whether some request is answered elsewhere, and whether all are.
    pub(super) fn elsewhere(&self) -> (bool, bool) {
        let number: usize = self.elsewhere.iter().map(Range::len).sum();
        (number > 0, number == self.readings.len())
    }
}

impl Batch {
    /// Makes the call for `requests`. They are decided as of `now` (0: Redis' TIME) and not after `deadline` (0: none),
    /// both in µs of Redis' clock. Refunds are published on `channel`.
    pub(super) fn new<'a>(
        requests: impl Iterator<Item = &'a Request> + Clone,
        script: &Script,
        channel: &str,
        now: u64,
        deadline: u64,
    ) -> (Batch, Cmd) {
        let gathering = BatchBuilder::of(requests.clone());
        let (runs, keys) = pack_runs(&gathering);
        let head = pack_header(now, deadline, gathering.logs, &gathering.layout.terms);
        let bytes = keys.iter().map(|key| key.len()).sum::<usize>() + runs.len() + head.len();
        let mut cmd = script.call(keys.len(), bytes);
        keys.iter().for_each(|key| {
            cmd.arg(*key);
        });
        cmd.arg(&head[..]).arg(&runs[..]);
        let mut refunded = requests.flat_map(Request::refunded).peekable();
        if refunded.peek().is_some() {
            cmd.arg(channel);
            refunded.for_each(|key| {
                cmd.arg(key);
            });
        }
        script.end_call(&mut cmd, keys.len());
        let layout = gathering.layout;
        (Batch { counters: keys.len(), merged: layout.merged(), layout }, cmd)
    }

    /// The key of the counter at position `place` (from 1) of the batch that these requests make.
    pub(super) fn key<'a>(requests: impl Iterator<Item = &'a Request>, place: usize) -> Option<&'a [u8]> {
        let (_, keys) = pack_runs(&BatchBuilder::of(requests));
        keys.get(place.checked_sub(1)?).copied()
    }

    /// Reads a reply; `None` if it can't be one to this batch.
    pub(super) fn read(&self, bytes: &[u8]) -> Option<Reply> {
        let numbers: Vec<f64> =
            bytes.chunks_exact(8).map(|chunk| f64::from_le_bytes(chunk.try_into().expect("8 bytes"))).collect();
        let now = *numbers.first()? as u64;
        if numbers.len() == 1 {
            return Some(Reply { now, result: None });
        }
        let (head, mut rest) = numbers.split_at_checked(HEADER_NUMBERS)?;
        let mut readings = Vec::with_capacity(rest.len());
        let (mut elsewhere, mut is_forbidden) = (Vec::new(), false);
        // For each term the reset of a counter that is hit now.
        let resets: Vec<Micros> = self.layout.terms.iter().map(|term| reset_of_a_hit(&term.limit, now)).collect();
        for group in self.layout.groups() {
            let first = *rest.first()?;
            if first == MOVED || first == FORBIDDEN {
                is_forbidden |= first == FORBIDDEN;
                let begin = readings.len();
                readings.resize(begin + usize::from(group.members) * self.layout.checks_of(group).len(), NO_READING);
                elsewhere.push(begin..readings.len());
                rest = &rest[1..];
                continue;
            }
            let is_usual = first.fract() != 0.0;
            let size = if is_usual { 1 } else { 2 * usize::from(group.members) };
            let (answers, after) = rest.split_at_checked(size * self.layout.checks_of(group).len())?;
            rest = after;
            if is_usual {
                self.read_usual(group, answers, &resets, &mut readings);
            } else {
                readings.extend(answers.chunks_exact(2).map(reading));
            }
        }
        let verdict = BatchResult {
            damaged: head[1] as u64,
            damaged_first: head[2] as usize,
            ahead: head[3] as u64,
            readings,
            elsewhere,
            is_forbidden,
        };
        rest.is_empty().then_some(Reply { now, result: Some(verdict) })
    }

    /// Reads the answers to identical usual requests. The script reports what the last one left; each one before it
    /// left its hits more.
    fn read_usual(&self, group: &RequestGroup, answers: &[f64], resets: &[Micros], readings: &mut Vec<Reading>) {
        for later in (0..u64::from(group.members)).rev() {
            for (ask, left) in self.layout.checks_of(group).iter().zip(answers) {
                let term = usize::from(ask.term);
                let hits = self.layout.terms[term].cost.hits.unsigned_abs();
                // Something other than the script may reply with an infinite number.
                let remaining = (*left as u64).saturating_add(later.saturating_mul(hits));
                readings.push(Reading { admitted: true, remaining, reset: resets[term] });
            }
        }
    }

    /// The readings of request `nth` of the batch; `None` if it is answered elsewhere.
    pub(super) fn readings(&self, verdict: &BatchResult, nth: usize) -> Option<Readings> {
        let of_request = self.layout.readings_of(nth);
        let is_elsewhere = verdict.elsewhere.iter().any(|missing| missing.contains(&of_request.start));
        (!is_elsewhere).then(|| Readings::from_slice(&verdict.readings[of_request]))
    }
}

/// In the place of a reading that isn't there.
const NO_READING: Reading = Reading { admitted: false, remaining: 0, reset: Micros(0) };

/// Packs the runs, and puts the keys in the order in which the script finds them.
fn pack_runs<'a>(gathering: &BatchBuilder<'a>) -> (Vec<u8>, Vec<&'a [u8]>) {
    let layout = &gathering.layout;
    let mut out = Vec::with_capacity(64);
    let mut keys = Vec::with_capacity(gathering.keys.len());
    let mut logs = Vec::with_capacity(gathering.logs);
    let before_logs = gathering.keys.len() - gathering.logs;
    // For each key its position in KEYS, from 1 on, once it has one.
    let mut places = vec![0u16; gathering.keys.len()];
    let mut place_of = |ask: &NumberedCheck| {
        let place = &mut places[usize::from(ask.key)];
        if *place == 0 {
            let is_log = gathering.logs > 0 && layout.terms[usize::from(ask.term)].is_of_log();
            let (among, before) = if is_log { (&mut logs, before_logs) } else { (&mut keys, 0) };
            among.push(gathering.keys[usize::from(ask.key)]);
            *place = (before + among.len()) as u16;
        }
        *place
    };
    for run in layout.runs() {
        let Some(first) = layout.groups_of(run).next() else { continue };
        let asks = layout.checks_of(first);
        out.extend_from_slice(&(run.len() as u16).to_le_bytes());
        out.extend_from_slice(&first.members.to_le_bytes());
        out.extend_from_slice(&[first.gate, (asks.len() - 1) as u8]);
        for ask in asks {
            out.extend_from_slice(&(ask.term + 1).to_le_bytes());
            if !first.is_independent() {
                out.extend_from_slice(&place_of(ask).to_le_bytes());
            }
        }
        if first.is_independent() {
            // The positions of independent checks follow from the order of KEYS alone.
            layout.groups_of(run).flat_map(|group| layout.checks_of(group)).for_each(|ask| {
                place_of(ask);
            });
        }
    }
    keys.append(&mut logs);
    (out, keys)
}

fn pack_header(now: u64, deadline: u64, logs: usize, terms: &[CheckTerms]) -> Vec<u8> {
    let mut out = Vec::with_capacity(24 + 64 * terms.len());
    let mut put = |number: f64| out.extend_from_slice(&number.to_le_bytes());
    put(now as f64);
    put(deadline as f64);
    put(logs as f64);
    for CheckTerms { limit, cost, role, charged } in terms {
        let algorithm = match limit.algorithm {
            Algorithm::SlidingWindow => 0.0,
            Algorithm::FixedWindow => 1.0,
            Algorithm::SlidingLog => 2.0,
            Algorithm::TokenBucket => 3.0,
            Algorithm::LeakyBucket => 4.0,
        };
        let role = match role {
            Role::Enforced => 0.0,
            Role::Quota => 1.0,
            Role::Shadow => 2.0,
        };
        put(algorithm);
        put(cost.hits as f64);
        put(if charged.0 > 0 { charged.0 as f64 } else { f64::from(u8::from(cost.charge_denied)) });
        put(role);
        put(f64::from(limit.requests));
        put(limit.window.0.max(1) as f64);
        put(f64::from(limit.sub_windows.clamp(1, SUB_WINDOWS_MAX)));
        put(f64::from(limit.burst));
    }
    out
}

/// The reset in the answer to a usual request, which the script doesn't send: usual requests are of sliding windows.
fn reset_of_a_hit(limit: &Limit, now: u64) -> Micros {
    let wide = Limit { requests: u32::MAX, algorithm: Algorithm::SlidingWindow, ..*limit };
    let hit = Cost { hits: 1, charge_denied: false };
    algorithm::step(&wide, State::Empty, hit, UnixMicros(now)).1.reset
}

fn reading(pair: &[f64]) -> Reading {
    let (remaining, reset) = (pair[0], Micros(pair[1] as u64));
    if remaining < 0.0 {
        Reading { admitted: false, remaining: (-1.0 - remaining) as u64, reset }
    } else {
        Reading { admitted: true, remaining: remaining as u64, reset }
    }
}
