//! What all handles on one Redis share, and the way to a counter's lane. What is asked is not known here.

use std::sync::Arc;

use tokio::{runtime::Handle, time::Instant};
use tokio_util::task::TaskTracker;

use super::cluster::Cluster;
use super::denial_cache::DenialCache;
use super::lane::Lane;
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

/// Where the batches of a bucket are sent.
pub(super) enum Route {
    /// To one node: one script decides all counters of a request.
    One { node: Arc<NodeConnection>, lane: Arc<Lane> },
    /// By bucket.
    Cluster(Cluster),
}

impl RedisInner {
    pub(super) fn is_cluster(&self) -> bool {
        matches!(self.route, Route::Cluster(_))
    }

    /// The lane that sends requests for the counters of a bucket.
    pub(super) fn lane(&self, bucket: u32) -> &Arc<Lane> {
        match &self.route {
            Route::One { lane, .. } => lane,
            Route::Cluster(cluster) => cluster.lane(bucket),
        }
    }

    /// The request that refunds a charge, and the lane that sends it.
    pub(super) fn undo(&self, check: &CounterCheck<'_>, charged: UnixMicros, now: u64) -> (Request, Arc<Lane>) {
        let bucket = key::bucket(&check.key, self.settings.buckets);
        (Request::undo(check, charged, now, &self.settings.key_prefix, bucket), self.lane(bucket).clone())
    }

    /// Gives back what `check` charged at `charged` (Redis' clock). The refund ends by `until`, whether or not the caller
    /// waits for it.
    pub(super) fn give_back(&self, check: &CounterCheck<'_>, charged: UnixMicros, now: u64, until: Instant) -> Refund {
        let (request, lane) = self.undo(check, charged, now);
        let refund = async move {
            let readings = lane.refund(request, until).await.ok()?;
            Some((*readings.first()?, readings.at))
        };
        // On the store's runtime, because a request may be dropped outside of any.
        self.tasks.spawn_on(refund, &self.runtime)
    }
}
