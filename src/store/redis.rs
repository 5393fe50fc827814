//! The Redis store: every decision is one atomic script in Redis, so that all replicas agree, and requests that wait
//! at the same time share a round trip. It owns its connections and knows nothing of rules, policies or protobuf.
//!
//! ```text
//! apply → request (keys, terms) → lane (waits) → batch → script in Redis → readings
//! ```

mod batch;
mod breaker;
mod busy_poll;
mod clock;
mod cluster;
mod connection;
mod denials;
mod dial;
pub(crate) mod evictions;
mod faults;
mod flight;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod inner;
mod invalidation;
mod lane;
mod link;
mod links;
mod look;
mod presence;
mod request;
mod reset;
mod routing;
mod runner;
mod script;
mod settings;
mod side;
mod slot;
mod socket;
mod spread;
mod tally;
pub(crate) mod tls_errors;

use std::sync::{Arc, atomic::Ordering::Relaxed};

use smallvec::SmallVec;
use tokio::{runtime::Handle, time::Instant};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use self::breaker::Breakers;
pub use self::busy_poll::BUSY_POLL_MAX;
use self::cluster::Cluster;
use self::denials::Denials;
use self::dial::Target;
pub use self::faults::{Faults, Names};
use self::inner::{Inner, Route};
use self::lane::{Answering, Failure, Lane};
use self::link::Link;
pub use self::presence::{BEAT_PERIOD, Presence};
use self::request::Request;
pub use self::reset::Entry;
use self::runner::Runner;
use self::script::Script;
pub use self::settings::{Address, Auth, RedisSettings, Tls, Topology};
pub use self::side::{Heard, Side};
use self::spread::Question;
pub use self::tally::{Count, Mismatch, Tally};
use super::counter_check::{Ask, Deadline, Gate};
use super::key;
use super::owed::Owed;
use super::parts::outgrows_script;
use super::partwise::Refund;
use super::readings::{Readings, StoreError};
use crate::limit::{Reading, UnixMicros};
pub use crate::store::redis::evictions::{LOOK_PERIOD, Room};

/// A handle on the store, cheap to clone. Each core starts its own and uses that, so that no connection is shared
/// between cores; other tasks may use any of them.
#[derive(Clone)]
pub struct Redis {
    inner: Arc<Inner>,
}

impl Redis {
    /// Starts the tasks that keep the connection and send batches, on the runtime that this is called in. Does not
    /// wait for Redis: until it is reached, every answer is [`StoreError::Unreachable`].
    pub fn start(settings: Arc<RedisSettings>, tasks: &TaskTracker, stop: CancellationToken) -> Redis {
        Redis::start_owing(settings, Arc::new(Owed::new(UnixMicros(0))), tasks, stop)
    }

    /// As [`Redis::start`], with the deferred charges of this process, which all its cores share.
    pub fn start_owing(
        settings: Arc<RedisSettings>,
        owed: Arc<Owed>,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) -> Redis {
        let tally = Arc::new(Tally::default());
        let denials = Arc::new(Denials::new(settings.denials_bytes_max));
        let script = Arc::new(Script::new());
        let one = |target| {
            let (tally, denials) = (tally.clone(), denials.clone());
            let (link, keep) =
                Link::new(target, settings.clone(), script.clone(), tally.clone(), denials.clone(), stop.clone());
            let lane = Lane::new(Some(link.clone()), &settings, tally.clone());
            let runner = Runner::new(lane.clone(), None, script.clone(), tally, denials, &settings);
            tasks.spawn(keep);
            tasks.spawn(runner.run(stop.clone()));
            Route::One { link, lane }
        };
        let route = match &settings.topology {
            Topology::Single(address) => one(Target::Node(address.clone())),
            Topology::Sentinel { master, sentinels } => {
                one(Target::Master { name: master.clone(), sentinels: sentinels.clone() })
            }
            Topology::Cluster { seeds } => Route::Cluster(Cluster::start(
                seeds,
                settings.clone(),
                script.clone(),
                tally.clone(),
                denials.clone(),
                tasks,
                stop.clone(),
            )),
        };
        let tasks = tasks.clone();
        Redis { inner: Arc::new(Inner { settings, tally, denials, owed, route, tasks, runtime: Handle::current() }) }
    }

    /// Decides a request and returns one reading for each check, in order. Ends at `deadline` at the latest. If it is
    /// dropped before its batch has left, it charges nothing; after that it may.
    pub fn apply(
        &self,
        asks: &[Ask<'_>],
        gate: Gate,
        deadline: impl Into<Deadline>,
    ) -> impl Future<Output = Result<Readings, StoreError>> + Send {
        self.decide(asks, gate, 0, deadline.into())
    }

    /// As [`Redis::apply`], at a time that is passed in instead of Redis' own: for tests that play hours in a moment.
    pub fn apply_at(
        &self,
        asks: &[Ask<'_>],
        gate: Gate,
        now: UnixMicros,
        deadline: Instant,
    ) -> impl Future<Output = Result<Readings, StoreError>> + Send {
        self.decide(asks, gate, now.0, deadline.into())
    }

    async fn decide(&self, asks: &[Ask<'_>], gate: Gate, now: u64, deadline: Deadline) -> Result<Readings, StoreError> {
        if asks.is_empty() {
            return Ok(Readings::new());
        }
        let bucket = |ask: &Ask<'_>| key::bucket(&ask.key, self.inner.settings.buckets);
        let decided = match &self.inner.route {
            Route::One { .. } if outgrows_script(asks) => {
                Box::pin(self.inner.ask_in_parts(asks, (gate, now), deadline.at)).await
            }
            Route::One { lane, .. } => self.inner.ask(lane, asks, (gate, now), bucket, deadline).await,
            // Boxed, because its future is several times as large as the other's.
            Route::Cluster(cluster) => Box::pin(self.inner.ask_cluster(cluster, asks, (gate, now), deadline)).await,
        };
        decided.map_err(|failure| match failure {
            Failure::Store(error) => error,
            Failure::Split => StoreError::Refused("TRYAGAIN".to_owned()),
        })
    }

    /// Gives back what `ask` charged at `charged` (Redis' clock). The refund ends by `until`, whether or not the caller
    /// waits for it.
    pub(super) fn give_back(&self, ask: &Ask<'_>, charged: UnixMicros, until: Instant) -> Refund {
        self.inner.give_back(ask, charged, 0, until)
    }

    /// Takes back what `ask` charged as of `charged`, at a time that is passed in: for tests, as [`Redis::apply_at`].
    pub async fn undo_at(
        &self,
        ask: &Ask<'_>,
        charged: UnixMicros,
        now: UnixMicros,
        deadline: Instant,
    ) -> Option<Reading> {
        let (request, lane) = self.inner.undo(ask, charged, now.0);
        lane.submit(request, deadline).await.ok()?.first().copied()
    }

    /// Whether the circuit breaker is closed, in a Cluster that of every node: there is a connection, and no fault of
    /// it is known. It may be broken without anybody having noticed yet.
    pub fn is_up(&self) -> bool {
        match &self.inner.route {
            Route::One { link, .. } => link.is_up(),
            Route::Cluster(cluster) => cluster.is_up(),
        }
    }

    /// Resolves once the circuit breaker is closed.
    pub async fn up(&self) {
        match &self.inner.route {
            // The link's sender lives as long as this handle, so the wait ends only with a connection.
            Route::One { link, .. } => {
                let _ = link.watch().wait_for(Option::is_some).await;
            }
            Route::Cluster(cluster) => cluster.up().await,
        }
    }

    /// Number of connections that are established now.
    pub fn connections(&self) -> u64 {
        match &self.inner.route {
            Route::One { link, .. } => u64::from(link.is_up()),
            Route::Cluster(cluster) => cluster.live().len() as u64,
        }
    }

    /// Number of cached denials; some may have expired.
    pub fn denials(&self) -> u64 {
        self.inner.denials.count() as u64
    }

    /// How another replica makes its keys, if it makes them differently: then both count for themselves.
    pub fn mismatch(&self) -> Option<Mismatch> {
        self.inner.tally.mismatch.lock().clone()
    }

    /// Why the address is not used, if it leads to several servers.
    pub fn refused_address(&self) -> Option<&'static str> {
        self.inner.tally.is_several.load(Relaxed).then_some(routing::SEVERAL)
    }

    pub fn tally(&self) -> &Tally {
        &self.inner.tally
    }

    /// The deferred charges of this process, over all its cores.
    pub fn owed(&self) -> &Owed {
        &self.inner.owed
    }
}

impl Inner {
    /// Decides a request with one script, unless the denial cache has an answer.
    fn ask(
        &self,
        lane: &Lane,
        asks: &[Ask<'_>],
        (gate, now): (Gate, u64),
        bucket: impl Fn(&Ask<'_>) -> u32,
        deadline: Deadline,
    ) -> Answering {
        let prefix = &self.settings.key_prefix;
        if self.owed.counters() > 0
            && lane.is_up()
            && let Some((asks, debts)) = self.owed.before(asks)
        {
            let request = Request::new(&asks, gate, false, now, prefix, bucket);
            return lane.queue(request, Some(debts), deadline);
        }
        let request = Request::new(asks, gate, false, now, prefix, bucket);
        match self.denials.find(&request) {
            Some(readings) if lane.is_up() => {
                self.tally.denied_again.add(1);
                Answering::known(readings)
            }
            _ => lane.queue(request, None, deadline),
        }
    }

    /// Decides a request with more counters than one script takes.
    async fn ask_in_parts(
        &self,
        asks: &[Ask<'_>],
        (gate, now): (Gate, u64),
        deadline: Instant,
    ) -> Result<Readings, Failure> {
        let buckets: Vec<u32> = asks.iter().map(|ask| key::bucket(&ask.key, self.settings.buckets)).collect();
        spread::decide(&Question { redis: self, asks, buckets: &buckets, gate, now, deadline }, false).await
    }

    async fn ask_cluster(
        &self,
        cluster: &Cluster,
        asks: &[Ask<'_>],
        (gate, now): (Gate, u64),
        deadline: Deadline,
    ) -> Result<Readings, Failure> {
        let settings = &self.settings;
        let buckets: SmallVec<[u32; 4]> = asks.iter().map(|ask| key::bucket(&ask.key, settings.buckets)).collect();
        let question = &Question { redis: self, asks, buckets: &buckets, gate, now, deadline: deadline.at };
        if outgrows_script(asks) || buckets.iter().any(|bucket| *bucket != buckets[0]) {
            return spread::decide(question, false).await;
        }
        match self.ask(cluster.lane(buckets[0]), asks, (gate, now), |_| buckets[0], deadline).await {
            // Nothing was charged.
            Err(Failure::Split) => spread::decide(question, true).await,
            decided => decided,
        }
    }
}
