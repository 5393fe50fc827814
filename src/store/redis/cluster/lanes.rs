//! The lanes of a Cluster, each made when it is first needed: one for each node, and one for each bucket that goes by its
//! slot. It doesn't know which node has which slot.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::slot_map::ClusterNode;
use crate::store::redis::denial_cache::DenialCache;
use crate::store::redis::guide::{Guide, SlotNews};
use crate::store::redis::lane::Lane;
use crate::store::redis::node_connection::NodeConnection;
use crate::store::redis::node_connections::NodeConnections;
use crate::store::redis::runner::Runner;
use crate::store::redis::script::Scripts;
use crate::store::redis::settings::RedisSettings;
use crate::store::redis::stats::RedisStats;
use crate::store::redis::turns::{self, TurnTaker, Turns};

pub(super) struct ClusterLanes {
    pub settings: Arc<RedisSettings>,
    pub scripts: Scripts,
    pub stats: Arc<RedisStats>,
    pub denial_cache: Arc<DenialCache>,
    pub tasks: TaskTracker,
    /// Where their runners are, whoever needs a lane.
    pub runtime: Handle,
    pub stop: CancellationToken,
    pub news: mpsc::UnboundedSender<SlotNews>,
    pub nodes: Arc<NodeConnections>,
    /// Whose batch leaves next, of the nodes' lanes.
    pub turns: Arc<Turns>,
    pub by_bucket: Mutex<HashMap<u32, BucketLane>>,
}

pub(super) struct BucketLane {
    lane: Arc<Lane>,
    /// Whether it was asked for since the last [`ClusterLanes::retire_idle`].
    is_used: bool,
}

impl ClusterLanes {
    pub(super) fn of_node(&self, node: &ClusterNode) -> Arc<Lane> {
        node.lane(|| self.lane(Some(node.connection.clone()), Guide::Node { news: self.news.clone() })).clone()
    }

    /// The lane of a bucket, which `node` has, as far as is known.
    pub(super) fn of_bucket(&self, bucket: u32, node: impl FnOnce() -> Option<Arc<NodeConnection>>) -> Arc<Lane> {
        let mut lanes = self.by_bucket.lock();
        let of_bucket = lanes.entry(bucket).or_insert_with(|| {
            let guide = Guide::Bucket { bucket, news: self.news.clone(), nodes: self.nodes.clone() };
            BucketLane { lane: self.lane(node(), guide), is_used: true }
        });
        of_bucket.is_used = true;
        of_bucket.lane.clone()
    }

    /// Points all lanes of buckets at the nodes that these have now.
    pub(super) fn reroute(&self, node_of: impl Fn(u32) -> Option<Arc<NodeConnection>>) {
        for (bucket, of_bucket) in &*self.by_bucket.lock() {
            if let Some(node) = node_of(*bucket) {
                of_bucket.lane.reroute(node);
            }
        }
    }

    /// Ends the lanes of buckets that nobody has asked for since the last call: a slot has moved, and is at rest again.
    pub(super) fn retire_idle(&self) {
        self.by_bucket.lock().retain(|_, of_bucket| {
            let was_used = std::mem::take(&mut of_bucket.is_used);
            if !was_used {
                of_bucket.lane.retire();
            }
            was_used
        });
    }

    fn lane(&self, node: Option<Arc<NodeConnection>>, guide: Guide) -> Arc<Lane> {
        let (script, stats) = (self.scripts.of(guide.is_of_node()), self.stats.clone());
        let (lane, turn) = if guide.is_of_node() {
            let lane = Lane::with_turns(node, &self.settings, stats.clone(), turns::ENOUGH);
            (lane.clone(), Some(TurnTaker::new(self.turns.clone(), lane)))
        } else {
            (Lane::new(node, &self.settings, stats.clone()), None)
        };
        let runner =
            Runner::new(lane.clone(), Some(guide), script, stats, self.denial_cache.clone(), turn, &self.settings);
        self.tasks.spawn_on(runner.run(self.stop.clone()), &self.runtime);
        lane
    }
}
