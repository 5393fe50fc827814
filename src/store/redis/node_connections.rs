//! The links to a Cluster's nodes, made when a node is first heard of; and where a node says that a slot has gone. Which
//! node has which slot is not known here.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use redis::RedisError;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::denial_cache::DenialCache;
use super::dial::Target;
use super::node_connection::{EstablishedConnection, NodeConnection};
use super::script::Script;
use super::settings::{Address, RedisSettings};
use super::stats::RedisStats;

#[cfg(test)]
mod tests;

/// The connections to all known nodes, each made when it is first needed.
pub(super) struct NodeConnections {
    settings: Arc<RedisSettings>,
    script: Arc<Script>,
    stats: Arc<RedisStats>,
    denial_cache: Arc<DenialCache>,
    tasks: TaskTracker,
    runtime: Handle,
    stop: CancellationToken,
    nodes: Mutex<HashMap<Address, (Arc<NodeConnection>, CancellationToken)>>,
}

impl NodeConnections {
    /// Links are kept by tasks on the runtime that this is called in.
    pub(super) fn new(
        settings: Arc<RedisSettings>,
        script: Arc<Script>,
        stats: Arc<RedisStats>,
        denial_cache: Arc<DenialCache>,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> NodeConnections {
        let (runtime, nodes) = (Handle::current(), Mutex::default());
        NodeConnections { settings, script, stats, denial_cache, tasks, runtime, stop, nodes }
    }

    pub(super) fn settings(&self) -> &RedisSettings {
        &self.settings
    }

    pub(super) fn all(&self) -> Vec<Arc<NodeConnection>> {
        self.nodes.lock().values().map(|(node, _)| node.clone()).collect()
    }

    pub(super) fn are_up(&self) -> bool {
        self.nodes.lock().values().all(|(node, _)| node.is_up())
    }

    pub(super) fn to(&self, address: &Address) -> Arc<NodeConnection> {
        let mut nodes = self.nodes.lock();
        if let Some((node, _)) = nodes.get(address) {
            return node.clone();
        }
        let stop = self.stop.child_token();
        let (node, keep) = NodeConnection::new(
            Target::Node(address.clone()),
            self.settings.clone(),
            self.script.clone(),
            self.stats.clone(),
            self.denial_cache.clone(),
            stop.clone(),
        );
        self.tasks.spawn_on(keep, &self.runtime);
        nodes.insert(address.clone(), (node.clone(), stop));
        node
    }

    /// Drops the connections to nodes that have no buckets any more.
    pub(super) fn keep_only(&self, used: &[Address]) {
        self.nodes.lock().retain(|address, (_, stop)| {
            let is_used = used.contains(address);
            if !is_used {
                stop.cancel();
            }
            is_used
        });
    }

    pub(super) fn established(&self) -> Vec<(Address, EstablishedConnection)> {
        let nodes = self.nodes.lock();
        nodes.iter().filter_map(|(address, (node, _))| Some((address.clone(), node.established()?))).collect()
    }
}

/// The address in MOVED and ASK of the node that has the slot now: `host:port`.
pub(super) fn redirected(error: &RedisError) -> Option<Address> {
    let (place, _slot) = error.redirect_node()?;
    let (host, port) = place.rsplit_once(':')?;
    let host = host.trim_matches(['[', ']']);
    (!host.is_empty()).then(|| Some(Address::Tcp { host: host.to_owned(), port: port.parse().ok()? }))?
}
