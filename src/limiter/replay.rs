//! Requests of the past, decided anew over their own time: the same match, plan, counters and judgement as for a request
//! that arrives, without metrics, and with what each counter said. It reads no logs and no clock.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use super::{
    decision::DecideError,
    judge,
    modes::Modes,
    plan::{Plan, PlannedDescriptor},
    snapshot::{InForce, Snapshot},
};
use crate::{
    limit::{Algorithm, Code, HITS_MAX, Limit, Micros, Reading, Request, SLIDING_LOG_MAX, UnixMicros},
    rules::{Rule, Rules},
    store::{
        Key, Role,
        memory::{Memory, MemorySettings},
    },
};

/// Counters are swept after so many of their periods at most, however long nothing was asked.
const SWEEPS_MAX: u64 = 600;

/// Rules and their counters, to which requests are put in the order of their time.
pub struct Replayer {
    snapshot: Snapshot,
    memory: Memory,
    modes: Modes,
    purpose: Purpose,
    swept_at: UnixMicros,
}

/// A request is that of a client who was sampled, so that counters that clients share get only a part of their hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SampledClient<'a> {
    /// Key of the entry that tells the client from others.
    pub key: &'a str,
    /// How many hits a hit stands for on a counter that several clients share.
    pub hits: u32,
}

/// What requests are played for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To decide them as the service would.
    Decide,
    /// To see how much of each limit they take: nothing is refused, and limits that count in windows have no end.
    Measure,
}

/// A request that was played.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Played {
    pub code: Code,
    /// Whether any counter was asked.
    pub is_limited: bool,
}

/// What one counter said of a request.
#[derive(Clone, Copy)]
pub struct PlayedCheck<'a> {
    /// None for a limit that the request brought.
    pub limit_id: Option<&'a Arc<str>>,
    /// The rule that the descriptor met; none for a limit that the request brought.
    pub rule: Option<&'a Rule>,
    pub key: Key<'a>,
    /// As it was asked; a limit that is measured has no end.
    pub limit: Limit,
    /// Hits that were asked for.
    pub hits: i64,
    /// Counted, and never denies.
    pub is_shadow: bool,
    /// It is the one that denies the request.
    pub is_deciding: bool,
    /// The limit is that of an override.
    pub is_overridden: bool,
    /// Its hits were multiplied, because clients share it of whom there is only a sample.
    pub is_scaled: bool,
    pub reading: Reading,
}

impl PlayedCheck<'_> {
    /// Hits that the counter holds, where the limit was measured ([`Purpose::Measure`]).
    pub fn used(&self) -> u64 {
        u64::from(self.limit.requests).saturating_sub(self.reading.remaining)
    }

    /// Whether a number can be told for the limit: buckets have two.
    pub fn is_measured(&self) -> bool {
        counts_in_windows(self.limit.algorithm)
    }
}

impl Replayer {
    /// Counters begin empty, and take at most `memory_bytes`.
    pub fn new(snapshot: Snapshot, modes: Modes, purpose: Purpose, memory_bytes: u64) -> Replayer {
        let memory = Memory::new(MemorySettings { max_bytes: memory_bytes });
        Replayer { snapshot, memory, modes, purpose, swept_at: UnixMicros(0) }
    }

    pub fn rules(&self) -> &Rules {
        &self.snapshot.rules
    }

    /// Counters that found no room and were decided by those that many share: the result isn't exact then.
    pub fn overflow_hits(&self) -> u64 {
        self.memory.overflow_hits()
    }

    /// Decides `request` as of `now`, which must not be before the time of the request before it. `client` is who asks, if
    /// there are only the requests of a sample of clients. `seen` gets every counter that was asked, in the order of the
    /// descriptors and their limits.
    pub fn play(
        &mut self,
        request: &Request<'_>,
        now: UnixMicros,
        client: Option<SampledClient<'_>>,
        mut seen: impl FnMut(PlayedCheck<'_>),
    ) -> Result<Played, DecideError> {
        self.sweep(now);
        let in_force = InForce::of_rules(&self.snapshot);
        let mut plan = Plan::new(self.modes);
        in_force.fill(&mut plan, (request, now), self.modes, || now)?;
        if self.purpose == Purpose::Measure {
            plan.gate.never_deny = true;
            plan.checks.iter_mut().for_each(|check| check.limit = without_end(check.limit));
        }
        if let Some(client) = client {
            for check in plan.checks.iter_mut().filter(|check| client.shares(&check.key)) {
                check.cost.hits = check.cost.hits.saturating_mul(i64::from(client.hits)).clamp(-HITS_MAX, HITS_MAX);
            }
        }
        let readings = self.memory.apply(&plan.checks, plan.gate, now);
        let code = judge::overall(&plan, &readings);
        let deciding = (code == Code::OverLimit).then(|| judge::deciding_check(&plan, &readings));
        for planned in &plan.descriptors {
            let (rule, limits) = match planned {
                PlannedDescriptor::Ruled { rule, applied, .. } => (Some(*rule), Some(*applied)),
                _ => (None, None),
            };
            let mut ids = limits.into_iter().flat_map(|limits| limits.all_counted_as());
            for index in planned.checks() {
                let check = &plan.checks[index];
                seen(PlayedCheck {
                    limit_id: ids.next().map(|limit| &limit.id),
                    rule,
                    key: check.key,
                    limit: check.limit,
                    hits: check.cost.hits,
                    is_shadow: check.role == Role::Shadow,
                    is_deciding: deciding == Some(index),
                    is_overridden: limits.is_some_and(|limits| limits.overridden_by.is_some()),
                    is_scaled: client.is_some_and(|client| client.shares(&check.key)),
                    reading: readings[index],
                });
            }
        }
        Ok(Played { code, is_limited: !plan.checks.is_empty() })
    }

    /// As the service does in the background, by the time of the requests.
    fn sweep(&mut self, now: UnixMicros) {
        let period: Micros = self.memory.sweep_period();
        let due = now.0.saturating_sub(self.swept_at.0) / period.0;
        if due > 0 {
            let share = self.memory.sweep_share().saturating_mul(due.min(SWEEPS_MAX) as usize);
            self.memory.sweep(now, share);
            self.swept_at = now;
        }
    }
}

impl SampledClient<'_> {
    /// Whether the counter is that of other clients too.
    fn shares(self, key: &Key<'_>) -> bool {
        let is_client = |position: usize| {
            key.entries[position].key == self.key && key.shared.get(position).is_none_or(Option::is_none)
        };
        !(0..key.entries.len()).any(is_client)
    }
}

fn counts_in_windows(algorithm: Algorithm) -> bool {
    matches!(algorithm, Algorithm::SlidingWindow | Algorithm::FixedWindow | Algorithm::SlidingLog)
}

/// A limit of which a counter holds whatever is asked. The number of hits that a limit admits isn't part of its counter.
fn without_end(limit: Limit) -> Limit {
    match limit.algorithm {
        Algorithm::SlidingLog => Limit { requests: SLIDING_LOG_MAX, ..limit },
        of_windows if counts_in_windows(of_windows) => Limit { requests: u32::MAX, ..limit },
        _ => limit,
    }
}
