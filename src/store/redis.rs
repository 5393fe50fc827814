//! The Redis store: every decision is one atomic script in Redis, so that all replicas agree, and requests that wait
//! at the same time share a round trip. It owns its connections and knows nothing of rules, policies or protobuf.
//!
//! ```text
//! apply → request (keys, terms) → lane (waits) → batch → script in Redis → readings
//! ```

mod aws_iam;
mod batch;
mod breaker;
mod busy_poll;
mod clock;
mod cluster;
mod command_connection;
mod connection;
mod denial_cache;
mod dial;
pub(crate) mod evictions;
mod faults;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod guide;
mod in_flight;
mod inner;
mod invalidation;
mod lane;
mod layout;
mod node_connection;
mod node_connections;
mod peek;
mod place;
mod presence;
mod request;
mod reset;
mod routing;
mod runner;
mod script;
mod server;
mod settings;
mod socket;
mod spread;
mod stats;
pub(crate) mod tls_errors;
mod turns;

use std::sync::{Arc, atomic::Ordering::Relaxed};

use smallvec::SmallVec;
use tokio::{runtime::Handle, time::Instant};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use self::aws_iam::{AwsIam, AwsService, IS_BUILT_IN as IS_AWS_IAM_BUILT_IN, TokenSource};
pub use self::breaker::Breakers;
pub use self::busy_poll::BUSY_POLL_MAX;
use self::cluster::Cluster;
pub(crate) use self::command_connection::PATIENCE;
pub use self::command_connection::{ChannelEvent, CommandConnection, Listening};
use self::denial_cache::DenialCache;
use self::dial::Target;
pub use self::faults::{Faults, SettingNames};
use self::inner::{RedisInner, Route};
use self::lane::{Lane, PendingAnswer, RequestFailure};
use self::layout::BUCKETS_UNKNOWN;
use self::node_connection::NodeConnection;
use self::place::Place;
pub use self::presence::{BEAT_PERIOD, LiveReplicas, Presence};
use self::request::Request;
pub use self::reset::AuditStreamEntry;
use self::runner::Runner;
use self::script::Scripts;
pub use self::settings::{Address, Auth, ClusterBatch, RedisSettings, RedisTls, Topology};
use self::spread::SpreadRequest;
pub use self::stats::{Mismatch, RedisStats, StatCounter};
use super::counter_check::{CounterCheck, Deadline, Gate};
use super::deferred::DeferredCharges;
use super::key;
use super::partwise::Refund;
use super::readings::{Readings, StoreError};
use super::sub_requests::outgrows_script;
use crate::limit::{Reading, UnixMicros};
pub use crate::store::redis::evictions::{EVICTION_CHECK_PERIOD, EvictionWatch};

/// A handle on the store, cheap to clone. Each core starts its own and uses that, so that no connection is shared
/// between cores; other tasks may use any of them.
#[derive(Clone)]
pub struct Redis {
    inner: Arc<RedisInner>,
}

impl Redis {
    /// Starts the tasks that keep the connection and send batches, on the runtime that this is called in. Does not
    /// wait for Redis. Requests wait for the first attempt to reach it, each until its deadline; once that has failed,
    /// every answer is [`StoreError::Unreachable`] until Redis is reached.
    pub fn start(settings: Arc<RedisSettings>, tasks: &TaskTracker, stop: CancellationToken) -> Redis {
        Redis::start_with_deferred(settings, Arc::new(DeferredCharges::new(UnixMicros(0))), tasks, stop)
    }

    /// As [`Redis::start`], with the deferred charges of this process, which all its cores share.
    pub fn start_with_deferred(
        settings: Arc<RedisSettings>,
        deferred: Arc<DeferredCharges>,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) -> Redis {
        let stats = Arc::new(RedisStats::default());
        let denials = Arc::new(DenialCache::new(settings.denials_bytes_max));
        let scripts = Scripts::new();
        let one = |target| {
            let (stats, denials) = (stats.clone(), denials.clone());
            let (node, keep) = NodeConnection::new(
                target,
                settings.clone(),
                scripts.clone(),
                stats.clone(),
                denials.clone(),
                stop.clone(),
            );
            let lane = Lane::new(Some(node.clone()), &settings, stats.clone());
            let runner = Runner::new(lane.clone(), None, scripts.of_slot.clone(), stats, denials, None, &settings);
            tasks.spawn(keep);
            tasks.spawn(runner.run(stop.clone()));
            Route::One { node, lane }
        };
        let route = match &settings.topology {
            Topology::Single(address) => one(Target::Node(address.clone())),
            Topology::Sentinel { master, sentinels } => {
                one(Target::Master { name: master.clone(), sentinels: sentinels.clone() })
            }
            Topology::Cluster { seeds } => Route::Cluster(Arc::new(Cluster::start(
                seeds,
                settings.clone(),
                scripts.clone(),
                stats.clone(),
                denials.clone(),
                tasks,
                stop.clone(),
            ))),
        };
        let tasks = tasks.clone();
        Redis {
            inner: Arc::new(RedisInner {
                settings,
                stats,
                denial_cache: denials,
                deferred,
                route,
                tasks,
                runtime: Handle::current(),
            }),
        }
    }

    /// Decides a request and returns one reading for each check, in order. Ends at `deadline` at the latest. If it is
    /// dropped before its batch has left, it charges nothing; after that it may.
    pub fn apply(
        &self,
        checks: &[CounterCheck<'_>],
        gate: Gate,
        deadline: impl Into<Deadline>,
    ) -> impl Future<Output = Result<Readings, StoreError>> + Send {
        self.decide(checks, gate, 0, deadline.into())
    }

    /// As [`Redis::apply`], at a time that is passed in instead of Redis' own: for tests that play hours in a moment.
    pub fn apply_at(
        &self,
        checks: &[CounterCheck<'_>],
        gate: Gate,
        now: UnixMicros,
        deadline: Instant,
    ) -> impl Future<Output = Result<Readings, StoreError>> + Send {
        self.decide(checks, gate, now.0, deadline.into())
    }

    async fn decide(
        &self,
        checks: &[CounterCheck<'_>],
        gate: Gate,
        now: u64,
        deadline: Deadline,
    ) -> Result<Readings, StoreError> {
        if checks.is_empty() {
            return Ok(Readings::new());
        }
        let buckets = self.inner.settings.buckets_or_default();
        let bucket = |check: &CounterCheck<'_>| key::bucket(&check.key, buckets);
        let decided = match &self.inner.route {
            Route::One { .. } if outgrows_script(checks) => {
                Box::pin(self.inner.check_in_parts(checks, (gate, now), deadline.at)).await
            }
            Route::One { lane, .. } => self.inner.check(lane, checks, (gate, now), bucket, deadline).await,
            // Boxed, because its future is several times as large as the other's.
            Route::Cluster(cluster) => {
                Box::pin(self.inner.check_in_cluster(cluster, checks, (gate, now), deadline)).await
            }
        };
        decided.map_err(|failure| match failure {
            RequestFailure::Store(error) => error,
            RequestFailure::Elsewhere => StoreError::Refused("TRYAGAIN".to_owned()),
        })
    }

    /// Gives back what `check` charged at `charged` (Redis' clock). The refund ends by `until`, whether or not the caller
    /// waits for it.
    pub(super) fn give_back(&self, check: &CounterCheck<'_>, charged: UnixMicros, until: Instant) -> Refund {
        self.inner.give_back(check, charged, 0, until)
    }

    /// Takes back what `check` charged as of `charged`, at a time that is passed in: for tests, as [`Redis::apply_at`].
    pub async fn undo_at(
        &self,
        check: &CounterCheck<'_>,
        charged: UnixMicros,
        now: UnixMicros,
        deadline: Instant,
    ) -> Option<Reading> {
        let (request, bucket) = self.inner.undo(check, charged, now.0);
        self.inner.route.submit(bucket, request, deadline).await.ok()?.first().copied()
    }

    /// Whether the circuit breaker is closed, in a Cluster that of every node: there is a connection, and no fault of
    /// it is known. It may be broken without anybody having noticed yet.
    pub fn is_up(&self) -> bool {
        match &self.inner.route {
            Route::One { node, .. } => node.is_up(),
            Route::Cluster(cluster) => cluster.is_up(),
        }
    }

    /// Resolves once the circuit breaker is closed.
    pub async fn up(&self) {
        match &self.inner.route {
            // The link's sender lives as long as this handle, so the wait ends only with a connection.
            Route::One { node, .. } => {
                let _ = node.watch().wait_for(Option::is_some).await;
            }
            Route::Cluster(cluster) => cluster.up().await,
        }
    }

    /// Number of connections that are established now.
    pub fn connections(&self) -> u64 {
        match &self.inner.route {
            Route::One { node, .. } => u64::from(node.is_up()),
            Route::Cluster(cluster) => cluster.established().len() as u64,
        }
    }

    /// Number of cached denials; some may have expired.
    pub fn cached_denials(&self) -> u64 {
        self.inner.denial_cache.count() as u64
    }

    /// How another replica makes its keys, if it makes them differently: then both count for themselves.
    pub fn mismatch(&self) -> Option<Mismatch> {
        self.inner.stats.mismatch.lock().clone()
    }

    /// Why the address is not used, if it leads to several servers.
    pub fn refused_address(&self) -> Option<&'static str> {
        self.inner.stats.is_several.load(Relaxed).then_some(routing::SEVERAL)
    }

    pub fn stats(&self) -> &RedisStats {
        &self.inner.stats
    }

    /// The deferred charges of this process, over all its cores.
    pub fn deferred(&self) -> &DeferredCharges {
        &self.inner.deferred
    }
}

impl RedisInner {
    /// Decides a request with one script, unless the denial cache has an answer.
    fn check(
        &self,
        lane: &Lane,
        checks: &[CounterCheck<'_>],
        (gate, now): (Gate, u64),
        bucket: impl Fn(&CounterCheck<'_>) -> u32,
        deadline: Deadline,
    ) -> PendingAnswer {
        let prefix = &self.settings.key_prefix;
        if self.deferred.counters() > 0
            && lane.is_up()
            && let Some((checks, deferred_batch)) = self.deferred.with_deferred(checks)
        {
            let request = Request::new(&checks, gate, false, now, prefix, bucket);
            return lane.queue(request, Some(deferred_batch), deadline);
        }
        let request = Request::new(checks, gate, false, now, prefix, bucket);
        match self.denial_cache.find(&request) {
            Some(readings) if lane.is_up() => {
                self.stats.denied_from_cache.add(1);
                PendingAnswer::known(readings)
            }
            _ => lane.queue(request, None, deadline),
        }
    }

    /// Decides a request with more counters than one script takes.
    async fn check_in_parts(
        &self,
        checks: &[CounterCheck<'_>],
        (gate, now): (Gate, u64),
        deadline: Instant,
    ) -> Result<Readings, RequestFailure> {
        let buckets = self.buckets_of(checks);
        let places = SmallVec::from_elem(Place::Node(0), checks.len());
        SpreadRequest { redis: self, checks, buckets, places, map: None, gate, now, deadline }.decide().await
    }

    async fn check_in_cluster(
        &self,
        cluster: &Cluster,
        checks: &[CounterCheck<'_>],
        (gate, now): (Gate, u64),
        deadline: Deadline,
    ) -> Result<Readings, RequestFailure> {
        let mut map = cluster.map();
        if self.settings.known_buckets().is_none() || map.is_empty() {
            cluster.started(deadline.at).await.inspect_err(|_| self.stats.overloaded.add(1))?;
            map = cluster.map();
        }
        if self.settings.known_buckets().is_none() {
            self.stats.unreachable.add(1);
            return Err(StoreError::Unreachable(BUCKETS_UNKNOWN.to_owned()).into());
        }
        let buckets = self.buckets_of(checks);
        let places = buckets.iter().map(|bucket| cluster.place(&map, *bucket)).collect();
        let map = Some(map);
        let mut request = SpreadRequest { redis: self, checks, buckets, places, map, gate, now, deadline: deadline.at };
        let Some(place) = request.single_place().filter(|_| !outgrows_script(checks)) else {
            return request.decide().await;
        };
        let all = self.settings.buckets_or_default();
        let first = request.buckets[0];
        let is_one_bucket = request.buckets.iter().all(|bucket| *bucket == first);
        let bucket_of = |check: &CounterCheck<'_>| if is_one_bucket { first } else { key::bucket(&check.key, all) };
        match self.check(&request.lane(place), checks, (gate, now), bucket_of, deadline).await {
            // Nothing was charged.
            Err(RequestFailure::Elsewhere) => {
                request.split_finer();
                request.decide().await
            }
            decided => decided,
        }
    }

    fn buckets_of(&self, checks: &[CounterCheck<'_>]) -> SmallVec<[u32; 4]> {
        let buckets = self.settings.buckets_or_default();
        checks.iter().map(|check| key::bucket(&check.key, buckets)).collect()
    }
}
