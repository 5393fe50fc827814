//! One request over several nodes of a Cluster, or with more counters than one script takes: decided part by part over
//! the lanes of one Redis. It knows lanes and places, not connections.

use std::sync::Arc;

use smallvec::SmallVec;
use tokio::time::Instant;

use super::cluster::SlotMap;
use super::inner::{RedisInner, Route};
use super::lane::{Answer, Lane, RequestFailure};
use super::place::Place;
use super::request::Request;
use crate::limit::UnixMicros;
use crate::store::counter_check::{CounterCheck, Gate};
use crate::store::deferred::DeferredBatch;
use crate::store::key;
use crate::store::partwise::{PartDecider, PartwiseDecision, Refund};
use crate::store::readings::Readings;

/// A request that no single script can decide.
pub(super) struct SpreadRequest<'a> {
    pub redis: &'a RedisInner,
    pub checks: &'a [CounterCheck<'a>],
    /// The bucket of each check, and where it is decided.
    pub buckets: SmallVec<[u32; 4]>,
    pub places: SmallVec<[Place; 4]>,
    /// The map of a Cluster that the places are of.
    pub map: Option<Arc<SlotMap>>,
    pub gate: Gate,
    /// As [`Request`]'s: a time that the caller passed in, in µs; 0 for Redis' own.
    pub now: u64,
    pub deadline: Instant,
}

impl SpreadRequest<'_> {
    /// The place that has all counters, if one does.
    pub(super) fn single_place(&self) -> Option<Place> {
        let first = *self.places.first()?;
        self.places.iter().all(|place| *place == first).then_some(first)
    }

    /// Makes all parts smaller, because some counter is not where a part was sent.
    pub(super) fn split_finer(&mut self) {
        for (nth, (place, bucket)) in self.places.iter_mut().zip(&self.buckets).enumerate() {
            *place = place.finer(*bucket, nth).unwrap_or(*place);
        }
    }

    pub(super) async fn decide(&self) -> Result<Readings, RequestFailure> {
        PartwiseDecision::new(self, (self.checks, self.gate), self.deadline).run().await
    }

    /// What is sent to a place about the checks `part`, by their numbers.
    fn request(&self, part: &[usize], gate: Gate, is_denied: bool) -> Request {
        let checks = part.iter().map(|&nth| (&self.checks[nth], self.buckets[nth]));
        Request::of(checks, gate, is_denied, self.now, &self.redis.settings.key_prefix)
    }

    /// As [`SpreadRequest::request`], with the deferred charges of these counters; `None` if there are none.
    fn request_with_deferred(
        &self,
        place: Place,
        part: &[usize],
        gate: Gate,
        is_denied: bool,
    ) -> Option<(Request, Box<DeferredBatch>)> {
        // While a slot moves, a request may have one check only, so deferred charges wait until that is over.
        if self.redis.deferred.counters() == 0 || matches!(place, Place::Check(..)) {
            return None;
        }
        let checks: SmallVec<[CounterCheck<'_>; 4]> = part.iter().map(|&nth| self.checks[nth]).collect();
        let (checks, deferred_batch) = self.redis.deferred.with_deferred(&checks)?;
        let settings = &self.redis.settings;
        let buckets = settings.buckets_or_default();
        let bucket_of = |check: &CounterCheck<'_>| key::bucket(&check.key, buckets);
        let request = Request::new(&checks, gate, is_denied, self.now, &settings.key_prefix, bucket_of);
        Some((request, deferred_batch))
    }

    pub(super) fn lane(&self, place: Place) -> Arc<Lane> {
        match (&self.redis.route, &self.map) {
            (Route::Cluster(cluster), Some(map)) => cluster.lane(map, place),
            (Route::Cluster(cluster), None) => cluster.lane(&cluster.map(), place),
            (Route::One { lane, .. }, _) => lane.clone(),
        }
    }
}

impl PartDecider for SpreadRequest<'_> {
    type Place = Place;
    type Failure = RequestFailure;

    const IS_CONCURRENT: bool = true;

    fn place(&self, nth: usize) -> Place {
        self.places[nth]
    }

    fn finer(&self, place: Place, nth: usize) -> Option<Place> {
        place.finer(self.buckets[nth], nth)
    }

    fn decide(
        &self,
        place: Place,
        part: &[usize],
        gate: Gate,
        is_denied: bool,
    ) -> impl Future<Output = Answer> + Send + Unpin {
        let lane = self.lane(place);
        match self.request_with_deferred(place, part, gate, is_denied) {
            Some((request, deferred_batch)) => lane.queue(request, Some(deferred_batch), self.deadline),
            None => lane.queue(self.request(part, gate, is_denied), None, self.deadline),
        }
    }

    fn knows_denials(&self) -> bool {
        !self.redis.denial_cache.is_empty()
    }

    fn known_denial(&self, place: Place, part: &[usize], gate: Gate) -> Option<Readings> {
        if self.redis.deferred.counters() > 0 || !self.lane(place).is_up() {
            return None;
        }
        let readings = self.redis.denial_cache.find(&self.request(part, gate, false))?;
        self.redis.stats.denied_from_cache.add(1);
        Some(readings)
    }

    fn is_elsewhere(failure: &RequestFailure) -> bool {
        matches!(failure, RequestFailure::Elsewhere)
    }

    fn refund(&self, nth: usize, at: UnixMicros, until: Instant) -> Refund {
        self.redis.give_back(&self.checks[nth], at, self.now, until)
    }
}
