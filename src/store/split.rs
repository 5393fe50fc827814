//! Two Redis: one for limits whose window is a second, one for all others (REDIS_PERSECOND). A request that touches both
//! is decided part by part. Knows nothing of how either Redis is reached.

use smallvec::SmallVec;
use tokio::time::Instant;

use super::counter_check::{CounterCheck, Deadline, Gate, refusing};
use super::partwise::{PartDecider, PartwiseDecision, Refund};
use super::readings::{Readings, StoreError};
use super::redis::{Mismatch, Redis};
use crate::limit::{Limit, SECOND, UnixMicros};

/// A handle on both Redis, cheap to clone.
#[derive(Clone)]
pub struct Split {
    pub main: Redis,
    pub per_second: Redis,
}

impl Split {
    /// As [`super::Store::apply`].
    pub async fn apply(
        &self,
        checks: &[CounterCheck<'_>],
        gate: Gate,
        deadline: impl Into<Deadline>,
    ) -> Result<Readings, StoreError> {
        let deadline: Deadline = deadline.into();
        let per_second = checks.iter().filter(|check| is_per_second(&check.limit)).count();
        if per_second == 0 {
            return self.main.apply(checks, gate, deadline).await;
        }
        if per_second == checks.len() {
            return self.per_second.apply(checks, gate, deadline).await;
        }
        let parts = SplitRequest { split: self, checks, deadline: deadline.at };
        // The earlier deadline, so that a later sub-request still has time.
        PartwiseDecision::new(&parts, (checks, gate), deadline.at).run().await
    }

    /// As [`super::Store::peek`].
    pub(super) async fn peek(&self, checks: &[CounterCheck<'_>], deadline: Instant) -> Result<Readings, StoreError> {
        let mut readings = Readings::new();
        for check in checks {
            readings.extend(self.of(check).peek(std::slice::from_ref(check), deadline).await?);
        }
        Ok(readings)
    }

    /// Whether both have a connection.
    pub fn is_up(&self) -> bool {
        self.main.is_up() && self.per_second.is_up()
    }

    /// How another replica makes its keys, if it makes them differently.
    pub(super) fn mismatch(&self) -> Option<Mismatch> {
        self.main.mismatch().or_else(|| self.per_second.mismatch())
    }

    /// Why an address is not used, if it leads to several servers.
    pub(super) fn refused_address(&self) -> Option<&'static str> {
        self.main.refused_address().or_else(|| self.per_second.refused_address())
    }

    /// The Redis that has a check's counter.
    pub(super) fn of(&self, check: &CounterCheck<'_>) -> &Redis {
        self.store_for(is_per_second(&check.limit))
    }

    fn store_for(&self, is_per_second: bool) -> &Redis {
        if is_per_second { &self.per_second } else { &self.main }
    }
}

pub(crate) fn is_per_second(limit: &Limit) -> bool {
    limit.window == SECOND
}

/// A request whose parts are in both.
struct SplitRequest<'a> {
    split: &'a Split,
    checks: &'a [CounterCheck<'a>],
    deadline: Instant,
}

impl PartDecider for SplitRequest<'_> {
    /// Whether it is the Redis for limits of a second.
    type Place = bool;
    type Failure = StoreError;

    const IS_CONCURRENT: bool = false;

    fn place(&self, nth: usize) -> bool {
        is_per_second(&self.checks[nth].limit)
    }

    /// Each Redis sees to its own nodes and slots.
    fn finer(&self, _place: bool, _nth: usize) -> Option<bool> {
        None
    }

    fn decide(
        &self,
        place: bool,
        part: &[usize],
        gate: Gate,
        is_denied: bool,
    ) -> impl Future<Output = Result<Readings, StoreError>> + Send + Unpin {
        let mut checks: SmallVec<[CounterCheck<'_>; 4]> = part.iter().map(|&nth| self.checks[nth]).collect();
        let number = checks.len();
        if is_denied {
            checks.push(refusing(&checks[0]));
        }
        Box::pin(async move {
            let mut readings = self.split.store_for(place).apply(&checks, gate, self.deadline).await?;
            readings.truncate(number);
            Ok(readings)
        })
    }

    /// Each Redis asks its own denial cache.
    fn knows_denials(&self) -> bool {
        false
    }

    fn known_denial(&self, _place: bool, _part: &[usize], _gate: Gate) -> Option<Readings> {
        None
    }

    fn is_elsewhere(_: &StoreError) -> bool {
        false
    }

    fn refund(&self, nth: usize, at: UnixMicros, until: Instant) -> Refund {
        let check = &self.checks[nth];
        self.split.of(check).give_back(check, at, until)
    }
}
