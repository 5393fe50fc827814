//! Counts the keys that Redis evicted for lack of memory, for each was a counter that began afresh. One task in a
//! process is enough, since the number is Redis' own. It knows nothing of decisions.

use std::collections::HashMap;
use std::time::Duration;

use redis::RedisResult;

use super::Redis;
use super::inner::Route;
use super::link::Live;
use super::settings::Address;

/// Time between checks: a reply of some kilobytes, which costs Redis nothing that can be measured.
pub const LOOK_PERIOD: Duration = Duration::from_secs(5);

/// Timeout of a check: while Redis is slow, other things matter more.
const PATIENCE: Duration = Duration::from_secs(1);

/// Checks the nodes of one [`Redis`], and adds what they evicted to its counters.
pub struct Room {
    redis: Redis,
    /// For each node (`None` outside a Cluster) the number of the connection and what had been evicted at the last
    /// check over it. Another connection may lead to another server, whose number says nothing about this one.
    seen: HashMap<Option<Address>, (u64, u64)>,
    said: bool,
}

impl Room {
    pub fn of(redis: Redis) -> Room {
        Room { redis, seen: HashMap::new(), said: false }
    }

    /// Checks each connected node; one that doesn't reply is checked again next time.
    pub async fn look(&mut self) {
        let nodes: Vec<(Option<Address>, Live)> = match &self.redis.inner.route {
            Route::One { link, .. } => link.live().map(|live| (None, live)).into_iter().collect(),
            Route::Cluster(cluster) => cluster.live().into_iter().map(|(node, live)| (Some(node), live)).collect(),
        };
        self.seen.retain(|node, _| nodes.iter().any(|(live, _)| live == node));
        for (node, live) in nodes {
            let epoch = live.epoch;
            match tokio::time::timeout(PATIENCE, evicted(live)).await {
                Ok(Ok(Some(now))) => {
                    let before = self.seen.insert(node, (epoch, now)).filter(|(at, _)| *at == epoch);
                    self.redis.tally().evicted.add(before.map_or(0, |(_, then)| now.saturating_sub(then)));
                }
                Ok(Err(error)) if !self.said && error.code() == Some("NOPERM") => {
                    tracing::warn!(%error, "can't see whether Redis evicts counters: allow its user +info");
                    self.said = true;
                }
                _ => {}
            }
        }
    }
}

async fn evicted(mut live: Live) -> RedisResult<Option<u64>> {
    let info: String = redis::cmd("INFO").arg("stats").query_async(&mut *live.connection).await?;
    Ok(info.lines().find_map(|line| line.strip_prefix("evicted_keys:")?.trim().parse().ok()))
}
