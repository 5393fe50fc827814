//! Counts the keys that Redis evicted for lack of memory, for each was a counter that began afresh. One task in a
//! process is enough, since the number is Redis' own. It knows nothing of decisions.

use std::collections::HashMap;
use std::time::Duration;

use redis::RedisResult;

use super::Redis;
use super::inner::Route;
use super::node_connection::EstablishedConnection;
use super::settings::Address;

/// Time between checks: a reply of some kilobytes, which costs Redis nothing that can be measured.
pub const EVICTION_CHECK_PERIOD: Duration = Duration::from_secs(5);

/// Timeout of a check: while Redis is slow, other things matter more.
const PATIENCE: Duration = Duration::from_secs(1);

/// Checks the nodes of one [`Redis`], and adds what they evicted to its counters.
pub struct EvictionWatch {
    redis: Redis,
    /// For each node (`None` outside a Cluster) the number of the connection and what had been evicted at the last
    /// check over it. Another connection may lead to another server, whose number says nothing about this one.
    seen: HashMap<Option<Address>, (u64, u64)>,
    is_warned: bool,
}

impl EvictionWatch {
    pub fn of(redis: Redis) -> EvictionWatch {
        EvictionWatch { redis, seen: HashMap::new(), is_warned: false }
    }

    /// Checks each connected node; one that doesn't reply is checked again next time.
    pub async fn check(&mut self) {
        let nodes: Vec<(Option<Address>, EstablishedConnection)> = match &self.redis.inner.route {
            Route::One { node, .. } => node.established().map(|established| (None, established)).into_iter().collect(),
            Route::Cluster(cluster) => {
                cluster.established().into_iter().map(|(node, established)| (Some(node), established)).collect()
            }
        };
        self.seen.retain(|node, _| nodes.iter().any(|(established, _)| established == node));
        for (node, established) in nodes {
            let epoch = established.epoch;
            match tokio::time::timeout(PATIENCE, evicted(established)).await {
                Ok(Ok(Some(now))) => {
                    let before = self.seen.insert(node, (epoch, now)).filter(|(at, _)| *at == epoch);
                    self.redis.stats().evicted.add(before.map_or(0, |(_, then)| now.saturating_sub(then)));
                }
                Ok(Err(error)) if !self.is_warned && error.code() == Some("NOPERM") => {
                    tracing::warn!(%error, "can't see whether Redis evicts counters: allow its user +info");
                    self.is_warned = true;
                }
                _ => {}
            }
        }
    }
}

async fn evicted(mut established: EstablishedConnection) -> RedisResult<Option<u64>> {
    let info: String = redis::cmd("INFO").arg("stats").query_async(&mut *established.connection).await?;
    Ok(info.lines().find_map(|line| line.strip_prefix("evicted_keys:")?.trim().parse().ok()))
}
