//! Counts the replicas: each writes a beat to Redis and reads how many others did, in one script a second, however many
//! nodes a Cluster has. While Redis can't be reached, each replica admits its share of the limits; and while one of an older
//! release is alive, writes of overrides are looked for as that release needs it. It knows nothing of limits.

use std::time::Duration;

use redis::RedisResult;

use super::Redis;
use super::inner::Route;
use super::node_connection::EstablishedConnection;

/// Time between beats. The number of replicas is right a few beats after one came or went, and is then used in an
/// outage.
pub const BEAT_PERIOD: Duration = Duration::from_secs(1);

/// Seconds after its last beat for which a replica counts as alive.
const LIFE_SECONDS: u64 = 5;

/// A beat that takes longer is given up; the next comes soon.
const PATIENCE: Duration = Duration::from_millis(500);

/// KEYS: sorted sets of replicas by the time of their last beat: of all, and of those that announce their writes of
/// overrides, which older releases don't. ARGV: this replica, and the seconds for which a beat counts. A time in the future
/// is from before Redis' clock was set back: a live replica writes a new one. Returns the numbers of live replicas in both.
const BEAT: &str = "
local now = tonumber(redis.call('TIME')[1])
local alive = {}
for i, key in ipairs(KEYS) do
  redis.call('ZREMRANGEBYSCORE', key, '-inf', now - ARGV[2])
  redis.call('ZREMRANGEBYSCORE', key, now + 1, '+inf')
  redis.call('ZADD', key, now, ARGV[1])
  redis.call('EXPIRE', key, 10 * ARGV[2])
  alive[i] = redis.call('ZCARD', key)
end
return alive";

/// The replicas that are alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LiveReplicas {
    pub count: u32,
    /// Whether all of them announce their writes of overrides, as releases before that did not.
    pub all_announce: bool,
}

/// The presence of this process among the replicas that share one [`Redis`].
pub struct Presence {
    redis: Redis,
    /// A random id, so that it is this process' alone.
    id: String,
    /// The connection of the last beat: it is still established when the others are being closed.
    last: Option<EstablishedConnection>,
    is_warned: bool,
}

impl Presence {
    pub fn of(redis: Redis) -> Presence {
        Presence { redis, id: format!("{:016x}", rand::random::<u64>()), last: None, is_warned: false }
    }

    /// Writes a beat, and returns which replicas are alive; `None` if Redis gave no reply.
    pub async fn beat(&mut self) -> Option<LiveReplicas> {
        let mut established = self.established()?;
        self.last = Some(established.clone());
        let mut command = redis::cmd("EVAL");
        command.arg(BEAT).arg(2).arg(&self.keys()).arg(&self.id).arg(LIFE_SECONDS);
        let beat: RedisResult<(u32, u32)> =
            tokio::time::timeout(PATIENCE, command.query_async(&mut *established.connection)).await.ok()?;
        match beat {
            Ok((count, announcing)) => Some(LiveReplicas { count, all_announce: announcing >= count }),
            Err(error) => {
                if !self.is_warned && error.code() == Some("NOPERM") {
                    tracing::warn!(
                        %error,
                        "can't count the replicas: allow this user EVAL and sorted sets on {}*, or set TOLLGATE_EXPECTED_REPLICAS",
                        self.keys()[0],
                    );
                    self.is_warned = true;
                }
                None
            }
        }
    }

    /// Removes this replica, so that the shares of the others grow at once.
    pub async fn leave(self) {
        let Some(mut established) = self.last.clone() else { return };
        let mut leaving = redis::pipe();
        for key in self.keys() {
            leaving.cmd("ZREM").arg(key).arg(&self.id);
        }
        // If that fails, its last beat expires.
        let _ = tokio::time::timeout(PATIENCE, leaving.query_async::<()>(&mut *established.connection)).await;
    }

    /// `<prefix>tg1:{0}:replicas` and `…:announcing`: in a Cluster they lie where a bucket 0 would.
    fn keys(&self) -> [String; 2] {
        let replicas = self.redis.inner.settings.replicas_key();
        [replicas.clone(), format!("{replicas}:announcing")]
    }

    fn established(&self) -> Option<EstablishedConnection> {
        match &self.redis.inner.route {
            Route::One { node, .. } => node.established(),
            Route::Cluster(cluster) => cluster.connection(0)?.established(),
        }
    }
}
