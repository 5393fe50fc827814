//! What all handles on one Redis share, and the way to a counter's lane. What is asked is not known here.

use std::sync::Arc;

use tokio::{runtime::Handle, time::Instant};
use tokio_util::task::TaskTracker;

use super::cluster::Cluster;
use super::denial_cache::DenialCache;
use super::lane::{Answer, Lane};
use super::node_connection::NodeConnection;
use super::request::Request;
use super::settings::RedisSettings;
use super::stats::RedisStats;
use crate::limit::UnixMicros;
use crate::store::counter_check::CounterCheck;
use crate::store::{deferred::DeferredCharges, key, partwise::Refund};

pub(super) struct RedisInner {
    pub settings: Arc<RedisSettings>,
    pub stats: Arc<RedisStats>,
    pub denial_cache: Arc<DenialCache>,
    pub deferred: Arc<DeferredCharges>,
    pub route: Route,
    /// Refunds, which go on when the caller of their request is gone.
    pub tasks: TaskTracker,
    pub runtime: Handle,
}

/// Where the batches of a bucket are sent. Cheap to clone.
#[derive(Clone)]
pub(super) enum Route {
    /// To one node: one script decides all counters of a request.
    One { node: Arc<NodeConnection>, lane: Arc<Lane> },
    /// By bucket.
    Cluster(Arc<Cluster>),
}

impl Route {
    /// Sends a request for one counter, or for counters of one bucket, to where it is.
    pub(super) async fn submit(&self, bucket: u32, request: Request, until: Instant) -> Answer {
        match self {
            Route::One { lane, .. } => lane.submit(request, until).await,
            Route::Cluster(cluster) => cluster.submit(bucket, request, until).await,
        }
    }
}

impl RedisInner {
    /// The request that refunds a charge, and the bucket of its counter.
    pub(super) fn undo(&self, check: &CounterCheck<'_>, charged: UnixMicros, now: u64) -> (Request, u32) {
        let bucket = key::bucket(&check.key, self.settings.buckets_or_default());
        (Request::undo(check, charged, now, &self.settings.key_prefix, bucket), bucket)
    }

    /// Gives back what `check` charged at `charged` (Redis' clock). The refund ends by `until`, whether or not the caller
    /// waits for it.
    pub(super) fn give_back(&self, check: &CounterCheck<'_>, charged: UnixMicros, now: u64, until: Instant) -> Refund {
        let (request, bucket) = self.undo(check, charged, now);
        let (route, stats) = (self.route.clone(), self.stats.clone());
        let refund = async move {
            stats.refunds.add(1);
            let Ok(readings) = route.submit(bucket, request, until).await else {
                stats.refunds_failed.add(1);
                return None;
            };
            Some((*readings.first()?, readings.at))
        };
        // On the store's runtime, because a request may be dropped outside of any.
        self.tasks.spawn_on(refund, &self.runtime)
    }
}
