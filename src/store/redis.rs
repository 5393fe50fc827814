//! The Redis store: every decision is one atomic script in Redis, so that all replicas agree, and requests that wait
//! at the same time share a round trip. It owns its connections and knows nothing of rules, policies or protobuf.
//!
//! ```text
//! apply → request (keys, terms) → lane (waits) → batch → script in Redis → readings
//! ```

mod batch;
mod clock;
mod dial;
mod lane;
mod link;
mod runner;
mod script;
mod settings;
mod tally;

use std::sync::Arc;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::batch::Request;
use self::dial::Target;
use self::lane::Lane;
use self::link::Link;
use self::script::Script;
pub use self::settings::{Address, Auth, RedisSettings, Tls, Topology};
pub use self::tally::{Count, Tally};
use super::{Ask, Gate, Readings, StoreError, key};
use crate::limit::UnixMicros;

/// A handle, cheap to clone. Each core starts its own and uses that, so that no connection is shared between cores;
/// other tasks may use any of them.
#[derive(Clone)]
pub struct Redis {
    inner: Arc<Inner>,
}

struct Inner {
    settings: Arc<RedisSettings>,
    tally: Arc<Tally>,
    link: Arc<Link>,
    lane: Arc<Lane>,
}

impl Redis {
    /// Starts the tasks that keep the connection and send batches, on the runtime that this is called in. Does not
    /// wait for Redis: until it is reached, every answer is [`StoreError::Unreachable`].
    pub fn start(settings: Arc<RedisSettings>, tasks: &TaskTracker, stop: CancellationToken) -> Redis {
        let tally = Arc::new(Tally::default());
        let script = Arc::new(Script::new());
        let target = match &settings.topology {
            Topology::Single(address) => Target::Node(address.clone()),
            Topology::Sentinel { master, sentinels } => {
                Target::Master { name: master.clone(), sentinels: sentinels.clone() }
            }
        };
        let (link, keep) = Link::new(target, settings.clone(), script.clone(), tally.clone(), stop.clone());
        let (lane, work) = Lane::new(link.clone(), &settings, script, tally.clone(), stop);
        tasks.spawn(keep);
        tasks.spawn(work);
        Redis { inner: Arc::new(Inner { settings, tally, link, lane }) }
    }

    /// Decides a request: one reading per ask, in order. Ends at `deadline` at the latest. Dropped before its batch
    /// has left, it charges nothing; after that it may.
    pub async fn apply(&self, asks: &[Ask<'_>], gate: Gate, deadline: Instant) -> Result<Readings, StoreError> {
        self.decide(asks, gate, 0, deadline).await
    }

    /// As [`Redis::apply`], at a time that is passed in instead of Redis' own: for tests that play hours in a moment.
    pub async fn apply_at(
        &self,
        asks: &[Ask<'_>],
        gate: Gate,
        now: UnixMicros,
        deadline: Instant,
    ) -> Result<Readings, StoreError> {
        self.decide(asks, gate, now.0, deadline).await
    }

    async fn decide(&self, asks: &[Ask<'_>], gate: Gate, now: u64, deadline: Instant) -> Result<Readings, StoreError> {
        if asks.is_empty() {
            return Ok(Readings::new());
        }
        let settings = &self.inner.settings;
        let bucket = |ask: &Ask<'_>| key::bucket(&ask.key, settings.buckets);
        let request = Request::new(asks, gate, now, &settings.key_prefix, bucket);
        self.inner.lane.submit(request, deadline).await
    }

    /// Whether a connection stands. It may be broken without anybody knowing yet.
    pub fn is_up(&self) -> bool {
        self.inner.link.is_up()
    }

    /// Resolves once a connection stands.
    pub async fn up(&self) {
        // The link's sender lives as long as this handle, so the wait ends only with a connection.
        let _ = self.inner.link.watch().wait_for(Option::is_some).await;
    }

    pub fn tally(&self) -> &Tally {
        &self.inner.tally
    }
}
