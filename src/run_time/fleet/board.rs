//! The blackboard in Redis: its commands, and how their replies are read.

use std::time::Duration;

use redis::{FromRedisValue, Pipeline, Value, from_redis_value, pipe};

use super::{
    record::ReplicaRecord,
    watches::{PostedWatch, WATCHES_MAX},
};
use crate::{
    run_time::overrides::Overrides,
    store::{
        StoreError, key,
        redis::{CommandConnection, Listening},
    },
};

/// How long a record is shown after its replica's last beat.
pub const LIFE: Duration = Duration::from_secs(15);

/// How long lists are written after somebody asked for them.
pub const ASKED_FOR: Duration = Duration::from_secs(60);

/// Bytes of all lists together: with a thousand records of [`RECORD_MAX`] they stay below 4 MiB.
pub const LISTS_MAX: usize = 2 << 20;

/// Limits whose own lists are written at once: those that were asked for last.
const LIMITS_MAX: usize = 8;

/// What a beat learned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// Number of living replicas, this one included.
    pub replicas: u32,
    /// Whether lists are asked for.
    pub lists_are_wanted: bool,
    /// Watches of decisions that are under way.
    pub watches: Vec<PostedWatch>,
    /// Limits of which lists of their own are asked for, by id.
    pub limits: Vec<Box<str>>,
}

/// How long a watch lasts that isn't renewed.
pub const WATCH_LIFE: Duration = Duration::from_secs(15);

/// On the channel of overrides: a domain without a name, and who is meant.
pub(crate) const CALL: &[u8] = b"\nfleet";

/// Records of one command: at most 200 KiB.
const PAGE: usize = 100;

/// Lists of one command.
const LISTS_PAGE: usize = 8;

/// KEYS: the replicas, this one's record, its lists, whether lists are asked for, limits whose lists are, the watches. ARGV:
/// its id, the record, the lists ('' for none), the seconds that they last, and those that a question does. Returns the
/// number of living replicas, whether lists are asked for, the limits, the time, and the watches by their ids, those included
/// that are over. They are few, so that one scan sees all.
const BEAT: &str = "
local now = tonumber(redis.call('TIME')[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[4])
redis.call('ZREMRANGEBYSCORE', KEYS[1], now + 1, '+inf')
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('EXPIRE', KEYS[1], ARGV[4])
redis.call('SET', KEYS[2], ARGV[2], 'EX', ARGV[4])
if ARGV[3] ~= '' then redis.call('SET', KEYS[3], ARGV[3], 'EX', ARGV[4]) end
redis.call('ZREMRANGEBYSCORE', KEYS[5], '-inf', now - ARGV[5])
local watches = redis.call('HSCAN', KEYS[6], 0, 'COUNT', 100)[2]
return {
  redis.call('ZCARD', KEYS[1]), redis.call('GET', KEYS[4]) and 1 or 0, redis.call('ZRANGE', KEYS[5], 0, -1), now, watches
}";

/// KEYS: limits whose lists are asked for. ARGV: a limit's id, how many are kept, the seconds that a question lasts.
const ASK_OF_LIMIT: &str = "
redis.call('ZADD', KEYS[1], tonumber(redis.call('TIME')[1]), ARGV[1])
for _, old in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1 - ARGV[2])) do redis.call('ZREM', KEYS[1], old) end
redis.call('EXPIRE', KEYS[1], ARGV[3])";

/// KEYS: the watches, the replicas. ARGV: the id, its text, the seconds that it lasts, how many there may be. Returns the
/// number of replicas; 0 where it isn't posted.
const POST: &str = "
local now, count = tonumber(redis.call('TIME')[1]), 0
local all = redis.call('HSCAN', KEYS[1], 0, 'COUNT', 100)[2]
for i = 1, #all, 2 do
  if tonumber(string.match(all[i + 1], '^%d+') or '0') <= now then redis.call('HDEL', KEYS[1], all[i])
  elseif all[i] ~= ARGV[1] then count = count + 1 end
end
if count >= tonumber(ARGV[4]) then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], string.format('%d', now + ARGV[3]) .. ' ' .. ARGV[2])
redis.call('EXPIRE', KEYS[1], ARGV[3])
return math.max(1, redis.call('ZCARD', KEYS[2]))";

/// What replicas write for each other.
pub struct Board {
    connection: CommandConnection,
    /// `<prefix>tg1:{0}:fleet`.
    replicas: String,
}

impl Board {
    pub(super) fn new(connection: CommandConnection) -> Board {
        let mut name = Vec::new();
        key::write_bucket(&mut name, &connection.settings().key_prefix, 0);
        let replicas = format!("{}:fleet", String::from_utf8_lossy(&name));
        Board { connection, replicas }
    }

    pub(super) async fn beat(&self, id: &str, record: &str, lists: Option<&[u8]>) -> Result<Heard, StoreError> {
        let mut pipe = pipe();
        pipe.cmd("EVAL").arg(BEAT).arg(6).arg(&self.replicas).arg(self.record(id)).arg(self.lists_of(id));
        pipe.arg(self.asked()).arg(self.asked_limits()).arg(self.watches());
        pipe.arg(id).arg(record).arg(lists.unwrap_or_default()).arg(LIFE.as_secs()).arg(ASKED_FOR.as_secs());
        let (replicas, wanted, limits, now, watches): (u32, u32, Vec<String>, u64, Vec<Vec<u8>>) =
            self.read(&pipe).await?;
        let limits = limits.into_iter().map(String::into_boxed_str).collect();
        let watches = watches.iter().skip(1).step_by(2).filter_map(|text| lasting(text, now)).collect();
        Ok(Heard { replicas, lists_are_wanted: wanted != 0, limits, watches })
    }

    pub(super) async fn leave(&self, id: &str) {
        let mut pipe = pipe();
        pipe.cmd("ZREM").arg(&self.replicas).arg(id).cmd("DEL").arg(self.record(id)).arg(self.lists_of(id));
        let _ = self.connection.run(self.replicas.as_bytes(), &pipe).await;
    }

    pub(super) async fn records(&self) -> Result<Vec<ReplicaRecord>, StoreError> {
        let ids = self.ids().await?;
        let mut records = Vec::with_capacity(ids.len());
        for ids in ids.chunks(PAGE) {
            let found = self.values(ids.iter().map(|id| self.record(id))).await?;
            // A record that is gone has just ended; one that can't be read is something else's.
            records.extend(found.into_iter().flatten().filter_map(|text| ReplicaRecord::read(&text)));
        }
        Ok(records)
    }

    /// Has the replicas write their lists for a while, also those of this limit.
    pub(super) async fn ask(&self, limit: Option<&str>) -> Result<(), StoreError> {
        let mut pipe = pipe();
        pipe.cmd("SET").arg(self.asked()).arg(1).arg("EX").arg(ASKED_FOR.as_secs());
        if let Some(limit) = limit {
            pipe.cmd("EVAL").arg(ASK_OF_LIMIT).arg(1).arg(self.asked_limits());
            pipe.arg(limit).arg(LIMITS_MAX).arg(ASKED_FOR.as_secs());
        }
        self.read::<()>(&pipe).await
    }

    /// The lists of all replicas but this one.
    pub(super) async fn lists_of_others(&self, own: &str) -> Result<Vec<Vec<u8>>, StoreError> {
        let ids: Vec<String> = self.ids().await?.into_iter().filter(|id| id != own).collect();
        let mut lists = Vec::new();
        // Each is at most a share of what all may take, so that a page of them stays below a MiB.
        for ids in ids.chunks(LISTS_PAGE) {
            lists.extend(self.values(ids.iter().map(|id| self.lists_of(id))).await?.into_iter().flatten());
        }
        Ok(lists)
    }

    /// Posts a watch, or renews it, for [`WATCH_LIFE`]. Returns the number of replicas.
    pub async fn post(&self, watch: &PostedWatch) -> Result<u32, PostError> {
        let mut pipe = pipe();
        pipe.cmd("EVAL").arg(POST).arg(2).arg(self.watches()).arg(&self.replicas).arg(&*watch.id).arg(watch.write());
        pipe.arg(WATCH_LIFE.as_secs()).arg(WATCHES_MAX);
        match self.read::<u32>(&pipe).await? {
            0 => Err(PostError::TooMany),
            replicas => Ok(replicas),
        }
    }

    /// Takes a watch off. If that fails it ends by itself.
    pub async fn withdraw(&self, id: &str) {
        let mut pipe = pipe();
        pipe.cmd("HDEL").arg(self.watches()).arg(id);
        let _ = self.connection.run(self.replicas.as_bytes(), &pipe).await;
    }

    /// Sends `message` to the replica that was asked for a watch.
    pub async fn publish(&self, watch: &PostedWatch, message: &[u8]) -> Result<(), StoreError> {
        let mut pipe = pipe();
        pipe.cmd(if watch.sharded { "SPUBLISH" } else { "PUBLISH" }).arg(self.channel(&watch.id)).arg(message);
        self.read::<i64>(&pipe).await.map(drop)
    }

    /// Listens for what is published for a watch, over a connection of its own, which ends with what is returned.
    pub async fn listen(&self, watch: &PostedWatch) -> Result<Listening, StoreError> {
        self.connection.listen(self.replicas.as_bytes(), &self.channel(&watch.id), watch.sharded).await
    }

    /// Whether the lines of watches may go by shard channels: only in a Cluster does that save anything.
    pub fn is_sharded(&self) -> bool {
        self.connection.is_cluster()
    }

    /// Has all replicas beat soon. Releases that don't know this read a domain without a name, and do nothing.
    pub async fn call_fleet(&self) -> Result<(), StoreError> {
        let mut pipe = pipe();
        pipe.cmd("PUBLISH").arg(Overrides::channel(self.connection.settings())).arg(CALL);
        self.read::<i64>(&pipe).await.map(drop)
    }

    pub(super) async fn ids(&self) -> Result<Vec<String>, StoreError> {
        let mut pipe = pipe();
        pipe.cmd("ZRANGE").arg(&self.replicas).arg(0).arg(-1);
        self.read(&pipe).await
    }

    async fn values(&self, keys: impl IntoIterator<Item = String>) -> Result<Vec<Option<Vec<u8>>>, StoreError> {
        let mut pipe = pipe();
        pipe.cmd("MGET");
        keys.into_iter().for_each(|key| {
            pipe.arg(key);
        });
        self.read(&pipe).await
    }

    async fn read<T: FromRedisValue>(&self, pipe: &Pipeline) -> Result<T, StoreError> {
        let answers = self.connection.run(self.replicas.as_bytes(), pipe).await?;
        let answer: Value = answers.into_iter().next().unwrap_or(Value::Nil);
        from_redis_value(answer).map_err(|error| StoreError::Refused(format!("an answer that makes no sense: {error}")))
    }

    fn record(&self, id: &str) -> String {
        format!("{}:{id}", self.replicas)
    }

    fn lists_of(&self, id: &str) -> String {
        format!("{}:lists:{id}", self.replicas)
    }

    fn watches(&self) -> String {
        format!("{}:watches", self.replicas)
    }

    /// Where the lines of a watch are published.
    fn channel(&self, id: &str) -> String {
        format!("{}:watch:{id}", self.replicas)
    }

    fn asked(&self) -> String {
        format!("{}:asked", self.replicas)
    }

    fn asked_limits(&self) -> String {
        format!("{}:asked:limits", self.replicas)
    }
}

/// A posted watch, unless it is over.
fn lasting(text: &[u8], now: u64) -> Option<PostedWatch> {
    let space = text.iter().position(|byte| *byte == b' ')?;
    let last: u64 = std::str::from_utf8(&text[..space]).ok()?.parse().ok()?;
    PostedWatch::read(&text[space + 1..]).filter(|_| last > now)
}

/// Why a watch isn't posted.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum PostError {
    #[error("{WATCHES_MAX} watches are under way already")]
    TooMany,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why only this replica is shown.
pub fn why_partial(error: &StoreError) -> String {
    match error {
        StoreError::Refused(why) if why.to_ascii_uppercase().contains("NOPERM") => {
            format!("this replica only: the Redis user lacks a permission ({why})")
        }
        StoreError::Refused(why) => format!("this replica only: Redis refused ({why})"),
        _ => "this replica only: Redis can't be reached".to_owned(),
    }
}
