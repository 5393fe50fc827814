//! Logs and counts circuit breakers. Each core has its own breaker for each node; this joins them, so that a node which
//! all cores lose is one line of the log. It doesn't decide when a breaker opens or closes.

use std::collections::HashMap;
use std::fmt::Display;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::stats::RedisStats;

#[cfg(test)]
mod tests;

/// The circuit breakers of all cores, by node. Cores that share the settings share this.
#[derive(Debug, Default)]
pub struct Breakers {
    nodes: Mutex<HashMap<String, NodeBreakers>>,
}

#[derive(Debug, Default)]
struct NodeBreakers {
    /// Number of cores whose breaker is open, and since when there is one.
    open: u32,
    since: Option<Instant>,
    /// Whether the log has said why no connection can be made.
    is_explained: bool,
    is_greeted: bool,
}

impl Breakers {
    /// Opens the breaker of one core because of `cause`. Logged, unless another core's breaker is open already.
    pub(super) fn open(self: &Arc<Self>, redis: &dyn Display, cause: &str, stats: &Arc<RedisStats>) -> OpenBreaker {
        stats.breaker_opens.add(1);
        stats.breakers_open.add(1);
        let open = OpenBreaker {
            breakers: Arc::clone(self),
            redis: redis.to_string(),
            stats: Arc::clone(stats),
            did_answer: false,
        };
        if open.is_first() {
            let redis = &open.redis;
            tracing::warn!(%redis, cause, "circuit breaker open: failure policies decide until this Redis answers");
        }
        open
    }

    /// The breaker of one core opens because no connection can be made, and `why`: one line says both.
    pub(super) fn open_unconnected(
        self: &Arc<Self>,
        redis: &dyn Display,
        why: &str,
        stats: &Arc<RedisStats>,
    ) -> OpenBreaker {
        let open = self.open(redis, &format!("can't connect to Redis: {why}"), stats);
        if let Some(node) = self.nodes.lock().get_mut(&open.redis) {
            node.is_explained = true;
        }
        open
    }

    /// Whether the log already says that `redis` is of no use to decisions.
    pub(super) fn is_open(&self, redis: &dyn Display) -> bool {
        self.nodes.lock().get(&redis.to_string()).is_some_and(|node| node.open > 0)
    }

    /// Whether any core has ever had a reply from this node.
    pub(super) fn was_reached(&self, redis: &dyn Display) -> bool {
        self.nodes.lock().get(&redis.to_string()).is_some_and(|node| node.is_greeted)
    }

    /// Notes that a node was reached. The first connection to a node that never was missed is logged too.
    pub(super) fn reached(&self, redis: &dyn Display) {
        let mut nodes = self.nodes.lock();
        let node = nodes.entry(redis.to_string()).or_default();
        if !std::mem::replace(&mut node.is_greeted, true) {
            drop(nodes);
            tracing::info!(%redis, "connected to Redis");
        }
    }
}

/// An open breaker of one core. It is dropped without being closed if the node isn't needed any more.
pub(super) struct OpenBreaker {
    breakers: Arc<Breakers>,
    redis: String,
    stats: Arc<RedisStats>,
    did_answer: bool,
}

impl OpenBreaker {
    fn is_first(&self) -> bool {
        let mut nodes = self.breakers.nodes.lock();
        let node = nodes.entry(self.redis.clone()).or_default();
        node.open += 1;
        node.since.get_or_insert_with(Instant::now);
        node.open == 1
    }

    /// After the breaker opened for another cause, no connection can be made, and `why`: logged once, however many attempts
    /// it takes on however many cores.
    pub(super) fn explain(&self, why: &str) {
        let is_explained = match self.breakers.nodes.lock().get_mut(&self.redis) {
            Some(node) => std::mem::replace(&mut node.is_explained, true),
            None => true,
        };
        if !is_explained {
            tracing::warn!(redis = %self.redis, error = why, "can't connect to Redis, retrying");
        }
    }

    /// Closes the breaker, because the node answered a probe. Logged once no core's breaker is open.
    pub(super) fn close(mut self) {
        self.did_answer = true;
    }
}

impl Drop for OpenBreaker {
    fn drop(&mut self) {
        self.stats.breakers_open.add(-1);
        let mut nodes = self.breakers.nodes.lock();
        let Some(node) = nodes.get_mut(&self.redis) else { return };
        node.open -= 1;
        if node.open > 0 {
            return;
        }
        (node.is_explained, node.is_greeted) = (false, true);
        let since = node.since.take();
        drop(nodes);
        if let Some(since) = since.filter(|_| self.did_answer) {
            let open_ms = since.elapsed().as_millis() as u64;
            tracing::warn!(redis = %self.redis, open_ms, "circuit breaker closed: this Redis answers again");
        }
    }
}
