//! One request over several nodes of a Cluster, or with more counters than one script takes: decided part by part over
//! the lanes of one Redis. It knows lanes and places, not connections.

use std::sync::Arc;

use smallvec::SmallVec;
use tokio::time::Instant;

use super::cluster::SlotMap;
use super::inner::{RedisInner, Route};
use super::lane::{Lane, RequestFailure};
use super::place::Place;
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

    /// What is sent to a place about the checks that are decided there.
    fn part(&self, place: Place, checks: &[CounterCheck<'_>], gate: Gate, is_denied: bool) -> Request {
        let settings = &self.redis.settings;
        let buckets = settings.buckets_or_default();
        let bucket_of = |check: &CounterCheck<'_>| match place {
            Place::Bucket(bucket) | Place::Check(bucket, _) => bucket,
            Place::Node(_) => key::bucket(&check.key, buckets),
        };
        Request::new(checks, gate, is_denied, self.now, &settings.key_prefix, bucket_of)
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

    async fn decide(
        &self,
        place: Place,
        checks: SmallVec<[CounterCheck<'_>; 4]>,
        gate: Gate,
        is_denied: bool,
    ) -> Result<Readings, RequestFailure> {
        // While a slot moves, a request may have one check only, so deferred charges wait until that is over.
        let is_alone = matches!(place, Place::Check(..));
        let owing = if is_alone { None } else { self.redis.deferred.with_deferred(&checks) };
        let (checks, deferred_batch) =
            owing.map_or((checks, None), |(checks, deferred_batch)| (checks, Some(deferred_batch)));
        let request = self.part(place, &checks, gate, is_denied);
        self.lane(place).queue(request, deferred_batch, self.deadline).await
    }

    fn known_denial(&self, place: Place, checks: &SmallVec<[CounterCheck<'_>; 4]>, gate: Gate) -> Option<Readings> {
        if self.redis.denial_cache.is_empty() || self.redis.deferred.counters() > 0 || !self.lane(place).is_up() {
            return None;
        }
        let readings = self.redis.denial_cache.find(&self.part(place, checks, gate, false))?;
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
