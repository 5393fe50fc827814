//! The blackboard in Redis: its commands, and how their replies are read.

use std::time::Duration;

use redis::{FromRedisValue, Pipeline, Value, from_redis_value, pipe};

use super::record::ReplicaRecord;
use crate::store::{StoreError, key, redis::CommandConnection};

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
    /// Limits of which lists of their own are asked for, by id.
    pub limits: Vec<Box<str>>,
}

/// Records of one command: at most 200 KiB.
const PAGE: usize = 100;

/// Lists of one command.
const LISTS_PAGE: usize = 8;

/// KEYS: the replicas, this one's record, its lists, whether lists are asked for, limits whose lists are. ARGV: its id, the
/// record, the lists ('' for none), the seconds that they last, and those that a question does. Returns the number of living
/// replicas, whether lists are asked for, and the limits.
const BEAT: &str = "
local now = tonumber(redis.call('TIME')[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[4])
redis.call('ZREMRANGEBYSCORE', KEYS[1], now + 1, '+inf')
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('EXPIRE', KEYS[1], ARGV[4])
redis.call('SET', KEYS[2], ARGV[2], 'EX', ARGV[4])
if ARGV[3] ~= '' then redis.call('SET', KEYS[3], ARGV[3], 'EX', ARGV[4]) end
redis.call('ZREMRANGEBYSCORE', KEYS[5], '-inf', now - ARGV[5])
return {redis.call('ZCARD', KEYS[1]), redis.call('GET', KEYS[4]) and 1 or 0, redis.call('ZRANGE', KEYS[5], 0, -1)}";

/// KEYS: limits whose lists are asked for. ARGV: a limit's id, how many are kept, the seconds that a question lasts.
const ASK_OF_LIMIT: &str = "
redis.call('ZADD', KEYS[1], tonumber(redis.call('TIME')[1]), ARGV[1])
for _, old in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1 - ARGV[2])) do redis.call('ZREM', KEYS[1], old) end
redis.call('EXPIRE', KEYS[1], ARGV[3])";

pub(super) struct Board {
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
        pipe.cmd("EVAL").arg(BEAT).arg(5).arg(&self.replicas).arg(self.record(id)).arg(self.lists_of(id));
        pipe.arg(self.asked()).arg(self.asked_limits()).arg(id).arg(record).arg(lists.unwrap_or_default());
        pipe.arg(LIFE.as_secs()).arg(ASKED_FOR.as_secs());
        let (replicas, wanted, limits): (u32, u32, Vec<String>) = self.read(&pipe).await?;
        let limits = limits.into_iter().map(String::into_boxed_str).collect();
        Ok(Heard { replicas, lists_are_wanted: wanted != 0, limits })
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

    fn asked(&self) -> String {
        format!("{}:asked", self.replicas)
    }

    fn asked_limits(&self) -> String {
        format!("{}:asked:limits", self.replicas)
    }
}

/// Why only this replica is shown.
pub fn why_partial(error: &StoreError) -> String {
    match error {
        StoreError::Refused(why) if why.contains("NOPERM") => {
            format!("this replica only: the Redis user lacks a permission ({why})")
        }
        StoreError::Refused(why) => format!("this replica only: Redis refused ({why})"),
        _ => "this replica only: Redis can't be reached".to_owned(),
    }
}
