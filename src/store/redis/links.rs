//! The links to a Cluster's nodes, made when a node is first heard of; and where a node says that a slot has gone. Which
//! node has which slot is not known here.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use redis::RedisError;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::denials::Denials;
use super::dial::Target;
use super::link::{Link, Live};
use super::script::Script;
use super::settings::{Address, RedisSettings};
use super::tally::Tally;

#[cfg(test)]
mod tests;

/// The connections to all known nodes, each made when it is first needed.
pub(super) struct Links {
    settings: Arc<RedisSettings>,
    script: Arc<Script>,
    tally: Arc<Tally>,
    denials: Arc<Denials>,
    tasks: TaskTracker,
    runtime: Handle,
    stop: CancellationToken,
    links: Mutex<HashMap<Address, (Arc<Link>, CancellationToken)>>,
}

impl Links {
    /// Links are kept by tasks on the runtime that this is called in.
    pub(super) fn new(
        settings: Arc<RedisSettings>,
        script: Arc<Script>,
        tally: Arc<Tally>,
        denials: Arc<Denials>,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Links {
        let (runtime, links) = (Handle::current(), Mutex::default());
        Links { settings, script, tally, denials, tasks, runtime, stop, links }
    }

    pub(super) fn settings(&self) -> &RedisSettings {
        &self.settings
    }

    pub(super) fn all(&self) -> Vec<Arc<Link>> {
        self.links.lock().values().map(|(link, _)| link.clone()).collect()
    }

    pub(super) fn are_up(&self) -> bool {
        self.links.lock().values().all(|(link, _)| link.is_up())
    }

    pub(super) fn to(&self, address: &Address) -> Arc<Link> {
        let mut links = self.links.lock();
        if let Some((link, _)) = links.get(address) {
            return link.clone();
        }
        let stop = self.stop.child_token();
        let (link, keep) = Link::new(
            Target::Node(address.clone()),
            self.settings.clone(),
            self.script.clone(),
            self.tally.clone(),
            self.denials.clone(),
            stop.clone(),
        );
        self.tasks.spawn_on(keep, &self.runtime);
        links.insert(address.clone(), (link.clone(), stop));
        link
    }

    /// Drops the connections to nodes that have no buckets any more.
    pub(super) fn keep_only(&self, used: &[Address]) {
        self.links.lock().retain(|address, (_, stop)| {
            let is_used = used.contains(address);
            if !is_used {
                stop.cancel();
            }
            is_used
        });
    }

    pub(super) fn live(&self) -> Vec<(Address, Live)> {
        let links = self.links.lock();
        links.iter().filter_map(|(address, (link, _))| Some((address.clone(), link.live()?))).collect()
    }
}

/// The address in MOVED and ASK of the node that has the slot now: `host:port`.
pub(super) fn redirected(error: &RedisError) -> Option<Address> {
    let (place, _slot) = error.redirect_node()?;
    let (host, port) = place.rsplit_once(':')?;
    let host = host.trim_matches(['[', ']']);
    (!host.is_empty()).then(|| Some(Address::Tcp { host: host.to_owned(), port: port.parse().ok()? }))?
}
