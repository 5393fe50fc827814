//! The links to a Cluster's nodes, made when a node is first heard of; and where a node says that a slot has gone. Which
//! node has which slot is not known here.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use redis::RedisError;
use tokio::runtime::Handle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::denial_cache::DenialCache;
use super::dial::Target;
use super::node_connection::{EstablishedConnection, NodeConnection};
use super::script::Scripts;
use super::settings::{Address, RedisSettings};
use super::stats::RedisStats;

#[cfg(test)]
mod tests;

/// Time for which the connection to a node without buckets is kept after it was last sent the request of a moving slot.
const IMPORTING: Duration = Duration::from_secs(10);

/// The connections to all known nodes, each made when it is first needed.
pub(super) struct NodeConnections {
    settings: Arc<RedisSettings>,
    scripts: Scripts,
    stats: Arc<RedisStats>,
    denial_cache: Arc<DenialCache>,
    tasks: TaskTracker,
    runtime: Handle,
    stop: CancellationToken,
    nodes: Mutex<HashMap<Address, KnownNode>>,
}

struct KnownNode {
    connection: Arc<NodeConnection>,
    stop: CancellationToken,
    /// When it was last needed as the node that takes a slot over.
    importing: Option<Instant>,
}

impl NodeConnections {
    /// Links are kept by tasks on the runtime that this is called in.
    pub(super) fn new(
        settings: Arc<RedisSettings>,
        scripts: Scripts,
        stats: Arc<RedisStats>,
        denial_cache: Arc<DenialCache>,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> NodeConnections {
        let (runtime, nodes) = (Handle::current(), Mutex::default());
        NodeConnections { settings, scripts, stats, denial_cache, tasks, runtime, stop, nodes }
    }

    pub(super) fn settings(&self) -> &Arc<RedisSettings> {
        &self.settings
    }

    /// The connection to a node that is taking a slot over, and may have none yet.
    pub(super) fn to_importing(&self, address: &Address) -> Arc<NodeConnection> {
        let mut nodes = self.nodes.lock();
        let node = nodes.entry(address.clone()).or_insert_with(|| self.connect(address));
        node.importing = Some(Instant::now());
        node.connection.clone()
    }

    pub(super) fn to(&self, address: &Address) -> Arc<NodeConnection> {
        let mut nodes = self.nodes.lock();
        nodes.entry(address.clone()).or_insert_with(|| self.connect(address)).connection.clone()
    }

    fn connect(&self, address: &Address) -> KnownNode {
        let stop = self.stop.child_token();
        let (connection, keep) = NodeConnection::new(
            Target::Node(address.clone()),
            self.settings.clone(),
            self.scripts.clone(),
            self.stats.clone(),
            self.denial_cache.clone(),
            stop.clone(),
        );
        self.tasks.spawn_on(keep, &self.runtime);
        KnownNode { connection, stop, importing: None }
    }

    /// Drops the connections to nodes that have no buckets any more.
    pub(super) fn keep_only(&self, used: &[Address]) {
        self.nodes.lock().retain(|address, node| {
            let is_used = used.contains(address) || node.importing.is_some_and(|at| at.elapsed() < IMPORTING);
            if !is_used {
                node.stop.cancel();
            }
            is_used
        });
    }

    pub(super) fn established(&self) -> Vec<(Address, EstablishedConnection)> {
        let nodes = self.nodes.lock();
        let established =
            |(address, node): (&Address, &KnownNode)| Some((address.clone(), node.connection.established()?));
        nodes.iter().filter_map(established).collect()
    }
}

/// The address in MOVED and ASK of the node that has the slot now: `host:port`.
pub(super) fn redirected(error: &RedisError) -> Option<Address> {
    let (place, _slot) = error.redirect_node()?;
    let (host, port) = place.rsplit_once(':')?;
    let host = host.trim_matches(['[', ']']);
    (!host.is_empty()).then(|| Some(Address::Tcp { host: host.to_owned(), port: port.parse().ok()? }))?
}
