//! One request over several buckets of a Cluster, or with more counters than one script takes: decided part by part over
//! the lanes of one Redis. It knows lanes, not nodes.

use smallvec::SmallVec;
use tokio::time::Instant;

use super::inner::RedisInner;
use super::lane::RequestFailure;
use super::request::Request;
use crate::limit::UnixMicros;
use crate::store::counter_check::{CounterCheck, Gate};
use crate::store::key;
use crate::store::partwise::{PartDecider, PartwiseDecision, Refund};
use crate::store::readings::Readings;

/// A request that no single script can decide.
pub(super) struct SpreadRequest<'a> {
    pub redis: &'a RedisInner,
    pub checks: &'a [CounterCheck<'a>],
    /// The bucket of each check.
    pub buckets: &'a [u32],
    pub gate: Gate,
    /// As [`Request`]'s: a time that the caller passed in, in µs; 0 for Redis' own.
    pub now: u64,
    pub deadline: Instant,
}

/// Decides a request whose checks no single script can decide. With `one_by_one` even the checks of one bucket are sent
/// alone: while its slot moves, no script may touch two counters.
pub(super) async fn decide(request: &SpreadRequest<'_>, one_by_one: bool) -> Result<Readings, RequestFailure> {
    PartwiseDecision::new(request, (request.checks, request.gate), request.deadline, one_by_one).run().await
}

impl PartDecider for SpreadRequest<'_> {
    type Place = u32;
    type Failure = RequestFailure;

    fn place(&self, nth: usize) -> u32 {
        // Outside a Cluster every bucket leads to the one node.
        if self.redis.is_cluster() { self.buckets[nth] } else { 0 }
    }

    async fn decide(
        &self,
        place: u32,
        checks: SmallVec<[CounterCheck<'_>; 4]>,
        gate: Gate,
        is_denied: bool,
        one_by_one: bool,
    ) -> Result<Readings, RequestFailure> {
        // While a slot moves, a request may have one check only, so deferred charges wait until that is over.
        let owing = if one_by_one { None } else { self.redis.deferred.with_deferred(&checks) };
        let (checks, deferred_batch) =
            owing.map_or((checks, None), |(checks, deferred_batch)| (checks, Some(deferred_batch)));
        let redis = self.redis;
        let bucket_of = |check: &CounterCheck<'_>| match redis.is_cluster() {
            true => place,
            false => key::bucket(&check.key, redis.settings.buckets),
        };
        let request = Request::new(&checks, gate, is_denied, self.now, &redis.settings.key_prefix, bucket_of);
        redis.lane(place).queue(request, deferred_batch, self.deadline).await
    }

    fn is_moving(failure: &RequestFailure) -> bool {
        matches!(failure, RequestFailure::SlotMoving)
    }

    fn refund(&self, nth: usize, at: UnixMicros, until: Instant) -> Refund {
        self.redis.give_back(&self.checks[nth], at, self.now, until)
    }
}
