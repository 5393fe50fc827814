//! Which node of a Cluster has which bucket: reads the slot map, keeps a connection to each primary, and points each
//! bucket's lane at its node. It knows nothing of requests.

use std::sync::Arc;
use std::time::Duration;

use redis::{RedisResult, Value};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connection::Connection;
use super::denial_cache::DenialCache;
use super::dial;
use super::faults::failed;
use super::lane::{Lane, Moved};
use super::node_connection::EstablishedConnection;
use super::node_connections::NodeConnections;
use super::runner::Runner;
use super::script::Script;
use super::settings::{Address, RedisSettings};
use super::slot;
use super::stats::RedisStats;
use crate::store::key;

#[cfg(test)]
mod tests;

/// Time between readings of the slot map. It changes seldom, and a node that lost a slot says so; this only finds moves
/// of buckets without requests.
const REFRESH: Duration = Duration::from_secs(10);

/// The same while a node can't be reached: another node may take over, and the slot map says when.
const REFRESH_LOST: Duration = Duration::from_millis(100);

/// Shortest time between readings: a slot that moves makes every lane of its node report it at once, and one reading
/// serves them all.
const REFRESH_MIN: Duration = Duration::from_millis(20);

/// Time between asking one node for the slot map and asking the next.
const NODE_AFTER: Duration = Duration::from_millis(50);

/// A lane for each bucket, because one script can only touch one slot; the lanes of a node share its connection.
pub(super) struct Cluster {
    nodes: Arc<NodeConnections>,
    lanes: Vec<Arc<Lane>>,
    is_mapped: watch::Receiver<bool>,
}

impl Cluster {
    /// Starts the lanes and the task that points them at nodes.
    pub(super) fn start(
        seeds: &[Address],
        settings: Arc<RedisSettings>,
        script: Arc<Script>,
        stats: Arc<RedisStats>,
        denials: Arc<DenialCache>,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) -> Cluster {
        let nodes = {
            let (settings, script, stats, denials) = (settings.clone(), script.clone(), stats.clone(), denials.clone());
            Arc::new(NodeConnections::new(settings, script, stats, denials, tasks.clone(), stop.clone()))
        };
        let (moved, moves) = mpsc::unbounded_channel();
        let lanes: Vec<Arc<Lane>> = (0..settings.buckets.max(1))
            .map(|bucket| {
                let guide = Some((bucket, moved.clone(), nodes.clone()));
                let lane = Lane::new(None, &settings, stats.clone());
                let (script, stats, denials) = (script.clone(), stats.clone(), denials.clone());
                let runner = Runner::new(lane.clone(), guide, script, stats, denials, &settings);
                tasks.spawn(runner.run(stop.clone()));
                lane
            })
            .collect();
        let (says_mapped, is_mapped) = watch::channel(false);
        let guide = SlotMapKeeper {
            seeds: seeds.to_vec(),
            slots: slots(&settings),
            nodes: nodes.clone(),
            lanes: lanes.clone(),
            is_mapped: says_mapped,
        };
        tasks.spawn(async move {
            stop.run_until_cancelled(guide.run(moves)).await;
        });
        Cluster { nodes, lanes, is_mapped }
    }

    pub(super) fn lane(&self, bucket: u32) -> &Arc<Lane> {
        &self.lanes[bucket as usize]
    }

    /// The established connections, by node.
    pub(super) fn established(&self) -> Vec<(Address, EstablishedConnection)> {
        self.nodes.established()
    }

    /// Whether every bucket has a node that is connected.
    pub(super) fn is_up(&self) -> bool {
        *self.is_mapped.borrow() && self.nodes.are_up()
    }

    /// Resolves once every bucket has had a node, and each node a connection.
    pub(super) async fn up(&self) {
        // The senders end only with the store, and then there is nothing to wait for.
        let _ = self.is_mapped.clone().wait_for(|is_mapped| *is_mapped).await;
        for node in self.nodes.all() {
            let _ = node.watch().wait_for(Option::is_some).await;
        }
    }
}

/// The slot of each bucket's keys.
fn slots(settings: &RedisSettings) -> Vec<u16> {
    let of = |bucket| {
        let mut key = Vec::new();
        key::write_bucket(&mut key, &settings.key_prefix, bucket);
        slot::of(&key)
    };
    (0..settings.buckets.max(1)).map(of).collect()
}

/// Keeps the lanes pointed at the right nodes.
struct SlotMapKeeper {
    seeds: Vec<Address>,
    /// The slot of each bucket.
    slots: Vec<u16>,
    nodes: Arc<NodeConnections>,
    lanes: Vec<Arc<Lane>>,
    is_mapped: watch::Sender<bool>,
}

impl SlotMapKeeper {
    async fn run(self, mut moves: mpsc::UnboundedReceiver<Moved>) {
        let mut said = false;
        loop {
            match self.refresh().await {
                Ok(()) => said = false,
                Err(error) if !said => {
                    tracing::warn!(%error, "can't read the Cluster's map of slots, retrying");
                    said = true;
                }
                Err(_) => {}
            }
            let refreshed = Instant::now();
            let is_whole = *self.is_mapped.borrow() && self.nodes.are_up();
            let wait = if is_whole { REFRESH } else { REFRESH_LOST };
            if let Ok(Some(moved)) = tokio::time::timeout(wait, moves.recv()).await {
                self.follow_move(moved);
                while let Ok(moved) = moves.try_recv() {
                    self.follow_move(moved);
                }
                tokio::time::sleep_until(refreshed + REFRESH_MIN).await;
            }
        }
    }

    /// Follows a bucket that has moved: at once if the node said where to, because the slot map will say the same.
    fn follow_move(&self, moved: Moved) {
        if let Some(to) = moved.to {
            self.lanes[moved.bucket as usize].reroute(self.nodes.to(&to));
        }
    }

    async fn refresh(&self) -> RedisResult<()> {
        let ranges = self.map().await?;
        let mut used = Vec::new();
        let mut is_whole = true;
        for (lane, slot) in self.lanes.iter().zip(&self.slots) {
            match ranges.iter().find(|range| (range.first..=range.last).contains(slot)) {
                Some(range) => {
                    lane.reroute(self.nodes.to(&range.primary));
                    if !used.contains(&range.primary) {
                        used.push(range.primary.clone());
                    }
                }
                None => is_whole = false,
            }
        }
        self.nodes.keep_only(&used);
        self.is_mapped.send_replace(is_whole);
        Ok(())
    }

    /// The slot map from any node that replies: the connected nodes first, then the seeds.
    async fn map(&self) -> RedisResult<Vec<Range>> {
        let settings = self.nodes.settings();
        let connected =
            self.nodes.established().into_iter().map(|(address, established)| (address, Some(established.connection)));
        let seeds = self.seeds.iter().map(|seed| (seed.clone(), None));
        first_map(connected.chain(seeds).map(|(address, connection)| async move {
            let patience = settings.connect_timeout;
            let read = async {
                let connection = match connection {
                    Some(connection) => connection,
                    None => dial::plain(&address, settings).await?,
                };
                read_map(connection, &address).await
            };
            let silent = |_| Err(failed(format!("{address} gave no answer within {patience:?}")));
            tokio::time::timeout(patience, read).await.unwrap_or_else(silent)
        }))
        .await
    }
}

/// The first map that one of these ways of asking brings. Nodes that are silent must not hold up those that aren't, for
/// while the map is old, buckets have no node.
pub(super) async fn first_map<F>(ways: impl Iterator<Item = F>) -> RedisResult<Vec<Range>>
where
    F: Future<Output = RedisResult<Vec<Range>>>,
{
    dial::first_answer(ways, NODE_AFTER, "no seed is configured").await
}

/// Slots `first..=last` belong to `primary`.
#[derive(Debug, PartialEq)]
pub(super) struct Range {
    pub first: u16,
    pub last: u16,
    pub primary: Address,
}

pub(super) async fn read_map(mut connection: Connection, asked: &Address) -> RedisResult<Vec<Range>> {
    let answer: Value = redis::cmd("CLUSTER").arg("SLOTS").query_async(&mut *connection).await?;
    ranges(answer, asked).ok_or_else(|| failed("CLUSTER SLOTS answered something else".to_owned()))
}

/// Reads the reply to CLUSTER SLOTS: for each range its first and last slot, then nodes with the primary first, each
/// with host and port. A node that doesn't know its own name leaves it empty: it is the one that was asked.
pub(super) fn ranges(answer: Value, asked: &Address) -> Option<Vec<Range>> {
    let Value::Array(items) = answer else { return None };
    items.into_iter().map(|item| range(item, asked)).collect()
}

fn range(item: Value, asked: &Address) -> Option<Range> {
    let Value::Array(fields) = item else { return None };
    let [Value::Int(first), Value::Int(last), Value::Array(primary), ..] = &fields[..] else { return None };
    let [host, Value::Int(port), ..] = &primary[..] else { return None };
    let named: Option<String> = redis::from_redis_value(host.clone()).ok()?;
    let host = match (named.filter(|host| !host.is_empty() && host != "?"), asked) {
        (Some(host), _) => host,
        (None, Address::Tcp { host, .. }) => host.clone(),
        (None, Address::Unix(_)) => return None,
    };
    let number = |value: &i64| u16::try_from(*value).ok();
    Some(Range { first: number(first)?, last: number(last)?, primary: Address::Tcp { host, port: number(port)? } })
}
