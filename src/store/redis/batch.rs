//! What goes to the script and what comes back: requests written down as they arrive, gathered into one call, and the
//! packed answers taken apart again. The layouts stand at the head of `decide.lua`. It knows no connection and no clock.

use std::hash::BuildHasher as _;
use std::time::Duration;

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use redis::Cmd;
use smallvec::SmallVec;

use super::script::Script;
use crate::limit::{Algorithm, Cost, HITS_MAX, Limit, Micros, Reading};
use crate::store::{Ask, Gate, Readings, Role, key};

#[cfg(test)]
mod tests;

/// The numbers at the head of a reply.
const HEAD: usize = 4;

/// A packed request: its head, then each ask.
const RECORD_HEAD: usize = 4;
const ASK: usize = 4;

/// Bits of the gate of a packed request.
const QUOTA_OPEN: u8 = 1;
const NEVER_DENY: u8 = 2;
/// It comes once or has one ask, and its counters are asked about nowhere else in the batch.
const APART: u8 = 4;
/// Another part of it was denied already.
const DENIED: u8 = 8;

/// A request as it waits: nothing of it is borrowed, for whoever asked may go away.
#[derive(Debug, PartialEq, Hash)]
pub(super) struct Request {
    keys: Vec<u8>,
    asks: SmallVec<[Term; 2]>,
    /// Where the key of each ask ends in `keys`.
    ends: SmallVec<[u32; 2]>,
    gate: u8,
    /// A time that was passed in, in µs; 0 for Redis' own.
    pub now: u64,
}

/// All that an ask puts to its counter; most asks of a batch share one of a few.
#[derive(Clone, Copy, Debug, PartialEq, Hash)]
struct Term {
    limit: Limit,
    cost: Cost,
    role: Role,
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
            keys: Vec::with_capacity(96 * asks.len()),
            asks: SmallVec::with_capacity(asks.len()),
            ends: SmallVec::with_capacity(asks.len()),
            gate: QUOTA_OPEN * u8::from(gate.quota_open)
                + NEVER_DENY * u8::from(gate.never_deny)
                + DENIED * u8::from(is_denied),
            now,
        };
        for ask in asks {
            key::write(&mut request.keys, prefix, bucket_of(ask), &ask.key, &ask.limit);
            request.ends.push(u32::try_from(request.keys.len()).expect("256 keys of a few KiB at most"));
            let cost = Cost { hits: ask.cost.hits.clamp(-HITS_MAX, HITS_MAX), ..ask.cost };
            request.asks.push(Term { limit: ask.limit, cost, role: ask.role });
        }
        request
    }

    /// For how long its denial holds without asking again: a limit that denies alone refuses until its reset, whatever
    /// others hit meanwhile. `None` where it isn't such a denial, or where even a denied request changes counters.
    pub(super) fn denial_holds(&self, readings: &Readings) -> Option<Duration> {
        let is_quiet = self.asks.iter().all(|term| term.cost.hits >= 0 && !term.cost.charge_denied);
        if !is_quiet || self.gate & (NEVER_DENY | DENIED) != 0 || self.now > 0 {
            return None;
        }
        let denying = self
            .asks
            .iter()
            .zip(readings)
            .filter(|(term, reading)| term.role == Role::Enforced && term.cost.hits > 0 && !reading.admitted);
        denying.map(|(_, reading)| reading.reset.as_duration()).min()
    }

    /// The counters that it gives hits back to.
    pub(super) fn refunded(&self) -> impl Iterator<Item = &[u8]> {
        self.keys().zip(&self.asks).filter(|(_, term)| term.cost.hits < 0).map(|(key, _)| key)
    }

    /// What it holds on the heap, about.
    pub(super) fn bytes(&self) -> usize {
        self.keys.capacity() + self.asks.len() * size_of::<Term>()
    }

    pub(super) fn asks(&self) -> usize {
        self.asks.len()
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &[u8]> {
        let mut begin = 0;
        self.ends.iter().map(move |&end| {
            let key = &self.keys[begin..end as usize];
            begin = end as usize;
            key
        })
    }
}

/// Requests gathered into one call of the script.
pub(super) struct Batch {
    /// `place[i]` says where among the answers those of request `i` stand, in asks.
    places: Vec<u32>,
    keys: Vec<Box<[u8]>>,
    answers: usize,
    /// Requests that an identical one stands for.
    pub merged: usize,
}

/// A request as the script is told it, once for all that are identical to it.
struct Group {
    /// Where its record lies in the packed requests.
    begin: usize,
    end: usize,
    members: u16,
}

impl Group {
    /// Adds to its record what is only known at the end.
    fn finish(&self, record: &mut [u8], uses: &[u16]) {
        record[..2].copy_from_slice(&self.members.to_le_bytes());
        let is_apart = record[RECORD_HEAD..].chunks_exact(ASK).all(|ask| uses[usize::from(key_of(ask))] == 1);
        let is_simple = self.members == 1 || record.len() == RECORD_HEAD + ASK;
        if is_simple && is_apart && record[2] & DENIED == 0 {
            record[2] += APART;
        }
    }
}

/// The key of a packed ask, as an index.
fn key_of(ask: &[u8]) -> u16 {
    u16::from_le_bytes([ask[0], ask[1]]) - 1
}

impl Batch {
    /// The call for `requests`, to tell `channel` of refunds, and to be decided as of `now` (0: Redis' TIME) and not after `deadline` (0: whenever),
    /// both in µs of Redis' clock.
    pub(super) fn new<'a>(
        requests: impl Iterator<Item = &'a Request> + Clone,
        script: &Script,
        channel: &str,
        now: u64,
        deadline: u64,
    ) -> (Batch, Cmd) {
        let hasher = FixedState::default();
        let mut keys: Vec<&[u8]> = Vec::with_capacity(128);
        let mut key_table: HashTable<u16> = HashTable::with_capacity(128);
        let mut terms: Vec<Term> = Vec::with_capacity(4);
        let mut groups: Vec<Group> = Vec::with_capacity(128);
        let mut group_table: HashTable<u16> = HashTable::with_capacity(128);
        let mut packed: Vec<u8> = Vec::with_capacity(1024);
        let mut member_of: Vec<(u16, u16)> = Vec::with_capacity(128);
        // By key: how often the groups ask about it.
        let mut uses: Vec<u16> = Vec::with_capacity(128);

        for request in requests.clone() {
            let begin = packed.len();
            packed.extend_from_slice(&[0, 0, request.gate, (request.asks.len() - 1) as u8]);
            for (key, term) in request.keys().zip(&request.asks) {
                let k = *key_table
                    .entry(
                        hasher.hash_one(key),
                        |&k| keys[usize::from(k)] == key,
                        |&k| hasher.hash_one(keys[usize::from(k)]),
                    )
                    .or_insert_with(|| {
                        keys.push(key);
                        uses.push(0);
                        (keys.len() - 1) as u16
                    })
                    .get();
                let t = terms.iter().position(|known| known == term).unwrap_or_else(|| {
                    terms.push(*term);
                    terms.len() - 1
                }) as u16;
                packed.extend_from_slice(&(k + 1).to_le_bytes());
                packed.extend_from_slice(&(t + 1).to_le_bytes());
            }
            let end = packed.len();
            let record = |packed: &[u8], group: &Group| hasher.hash_one(&packed[group.begin..group.end]);
            let hash = hasher.hash_one(&packed[begin..end]);
            let known = group_table.find(hash, |&g| {
                let group = &groups[usize::from(g)];
                packed[group.begin..group.end] == packed[begin..end]
            });
            let g = match known {
                Some(&g) => {
                    packed.truncate(begin);
                    g
                }
                None => {
                    for ask in packed[begin + RECORD_HEAD..end].chunks_exact(ASK) {
                        uses[usize::from(key_of(ask))] += 1;
                    }
                    groups.push(Group { begin, end, members: 0 });
                    let g = (groups.len() - 1) as u16;
                    group_table.insert_unique(hash, g, |&g| record(&packed, &groups[usize::from(g)]));
                    g
                }
            };
            member_of.push((g, groups[usize::from(g)].members));
            groups[usize::from(g)].members += 1;
        }
        let (places, answers) = place(&groups, &member_of);
        // Only now, so that identical requests could be told by identical bytes.
        for group in &groups {
            group.finish(&mut packed[group.begin..group.end], &uses);
        }

        let bytes = keys.iter().map(|key| key.len()).sum::<usize>() + packed.len() + 64 * terms.len();
        let mut cmd = script.call(keys.len(), bytes);
        keys.iter().for_each(|key| {
            cmd.arg(*key);
        });
        cmd.arg(&pack(&[now as f64, deadline as f64])[..]).arg(&pack_terms(&terms)[..]).arg(&packed[..]);
        let mut refunded = requests.flat_map(Request::refunded).peekable();
        if refunded.peek().is_some() {
            cmd.arg(channel);
            refunded.for_each(|key| {
                cmd.arg(key);
            });
        }
        let batch = Batch {
            merged: member_of.len() - groups.len(),
            places,
            keys: keys.into_iter().map(Box::from).collect(),
            answers,
        };
        (batch, cmd)
    }

    pub(super) fn counters(&self) -> usize {
        self.keys.len()
    }

    /// Takes a reply apart; `None` where it isn't one to this batch.
    pub(super) fn read(&self, bytes: &[u8]) -> Option<Reply> {
        let numbers: Vec<f64> =
            bytes.chunks_exact(8).map(|chunk| f64::from_le_bytes(chunk.try_into().expect("8 bytes"))).collect();
        let now = *numbers.first()? as u64;
        if numbers.len() == 1 {
            return Some(Reply { now, verdict: None });
        }
        if numbers.len() != HEAD + 2 * self.answers {
            return None;
        }
        let damaged_first = (numbers[2] as usize).checked_sub(1).and_then(|k| self.keys.get(k)).cloned();
        Some(Reply {
            now,
            verdict: Some(Verdict { damaged: numbers[1] as u64, damaged_first, ahead: numbers[3] as u64, numbers }),
        })
    }

    /// The readings of the request that was added as number `nth`, of `asks` asks.
    pub(super) fn readings(&self, verdict: &Verdict, nth: usize, asks: usize) -> Readings {
        let begin = HEAD + 2 * self.places[nth] as usize;
        verdict.numbers[begin..begin + 2 * asks].chunks_exact(2).map(reading).collect()
    }
}

/// What Redis said to a batch.
pub(super) struct Reply {
    /// Redis' clock, in µs.
    pub now: u64,
    /// `None`: the batch came after its deadline, and nothing was charged.
    pub verdict: Option<Verdict>,
}

pub(super) struct Verdict {
    /// Counters that held something else and began afresh, and the key of the first.
    pub damaged: u64,
    pub damaged_first: Option<Box<[u8]>>,
    /// Counters from more than a window ahead, whose time was set back.
    pub ahead: u64,
    numbers: Vec<f64>,
}

/// Where the answers of each request stand: groups come in the order of their first member, members in that of arrival.
fn place(groups: &[Group], member_of: &[(u16, u16)]) -> (Vec<u32>, usize) {
    let asks = |group: &Group| (group.end - group.begin - RECORD_HEAD) / ASK;
    let mut begins = Vec::with_capacity(groups.len());
    let mut next = 0;
    for group in groups {
        begins.push(next);
        next += asks(group) * usize::from(group.members);
    }
    let at = |&(g, member): &(u16, u16)| {
        let g = usize::from(g);
        (begins[g] + usize::from(member) * asks(&groups[g])) as u32
    };
    (member_of.iter().map(at).collect(), next)
}

fn pack(numbers: &[f64]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

fn pack_terms(terms: &[Term]) -> Vec<u8> {
    let mut out = Vec::with_capacity(64 * terms.len());
    for Term { limit, cost, role } in terms {
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
        let numbers = [
            algorithm,
            cost.hits as f64,
            f64::from(u8::from(cost.charge_denied)),
            role,
            f64::from(limit.requests),
            limit.window.0.max(1) as f64,
            f64::from(limit.sub_windows.clamp(1, crate::limit::SUB_WINDOWS_MAX)),
            f64::from(limit.burst),
        ];
        numbers.iter().for_each(|number| out.extend_from_slice(&number.to_le_bytes()));
    }
    out
}

fn reading(pair: &[f64]) -> Reading {
    let (remaining, reset) = (pair[0], Micros(pair[1] as u64));
    if remaining < 0.0 {
        Reading { admitted: false, remaining: (-1.0 - remaining) as u64, reset }
    } else {
        Reading { admitted: true, remaining: remaining as u64, reset }
    }
}
