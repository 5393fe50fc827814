//! How counters are spread over hash tags, on which all replicas of a Redis must agree: those that differ count for
//! themselves, and admit a limit twice. The first replica writes it down (`<prefix>tg1:meta`); those that come later compare,
//! or take what is written where their settings leave it open. It knows no counters, and no node but the one it is given.

use redis::{Pipeline, RedisResult, Value};

use super::LIFE_SECONDS;
use crate::store::key::{self, Buckets};
use crate::store::redis::connection::Connection;
use crate::store::redis::faults::{self, Extent};
use crate::store::redis::settings::RedisSettings;
use crate::store::redis::stats::{Mismatch, RedisStats};

impl RedisSettings {
    /// The buckets in use; `None` where they are yet to be found.
    pub(in crate::store::redis) fn known_buckets(&self) -> Option<Buckets> {
        self.buckets.or_else(|| self.layout.found())
    }

    /// The buckets in use, as far as they are known.
    pub(in crate::store::redis) fn buckets_or_default(&self) -> Buckets {
        self.known_buckets().unwrap_or(Buckets::DEFAULT)
    }

    pub(in crate::store::redis) fn layout_key(&self) -> String {
        format!("{}tg1:meta", self.key_prefix)
    }

    /// `<prefix>tg1:{0}:replicas`: where replicas write that they live, whatever buckets they use.
    pub(in crate::store::redis) fn replicas_key(&self) -> String {
        let mut key = Vec::new();
        key::write_bucket(&mut key, &self.key_prefix, 0);
        format!("{}:replicas", String::from_utf8_lossy(&key))
    }

    /// The record, as every release has written it.
    fn layout_record(&self, buckets: Buckets) -> String {
        format!("buckets={buckets} algorithm={}", self.default_algorithm.name())
    }
}

/// What the node said that should have the record.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::store::redis) enum Record {
    Found(String),
    /// It has none: this may be the first replica.
    Absent,
    /// It is on another node, or this user may not read it.
    Unreadable,
}

/// Reads the record. An error only where every request would get it.
pub(in crate::store::redis) async fn read(
    connection: &mut Connection,
    settings: &RedisSettings,
) -> RedisResult<Record> {
    let mut pipe = redis::pipe();
    pipe.cmd("GET").arg(settings.layout_key());
    run(connection, &pipe).await
}

/// Writes the record if there is none, renews it if it is ours, and compares it with the settings. Where these leave the
/// buckets open, those of the record are taken, else `otherwise`. Returns whether the node has the record.
pub(in crate::store::redis) async fn agree(
    connection: &mut Connection,
    settings: &RedisSettings,
    stats: &RedisStats,
    otherwise: Buckets,
) -> RedisResult<bool> {
    let key = settings.layout_key();
    let first = settings.layout_record(settings.known_buckets().unwrap_or(otherwise));
    let mut pipe = redis::pipe();
    pipe.cmd("SET").arg(&key).arg(&first).arg("EX").arg(LIFE_SECONDS).arg("NX");
    pipe.cmd("GET").arg(&key);
    let Record::Found(theirs) = run(connection, &pipe).await? else { return Ok(false) };
    if settings.buckets.is_none() {
        settings.layout.find(buckets_of(&theirs).unwrap_or(otherwise));
    }
    let ours = settings.layout_record(settings.known_buckets().unwrap_or(otherwise));
    let differs = theirs != ours;
    if differs {
        stats.mismatches.add(1);
        tracing::warn!(
            ours,
            theirs,
            "another replica builds its Redis keys differently: it doesn't share counters with this one"
        );
    } else {
        let mut pipe = redis::pipe();
        pipe.cmd("EXPIRE").arg(&key).arg(LIFE_SECONDS);
        run(connection, &pipe).await?;
    }
    *stats.mismatch.lock() = differs.then_some(Mismatch { ours, theirs });
    Ok(true)
}

/// Uses `buckets` from now on, because nobody can say what others use.
pub(in crate::store::redis) fn assume(settings: &RedisSettings, buckets: Buckets) {
    settings.layout.find(buckets);
}

fn buckets_of(record: &str) -> Option<Buckets> {
    record.split(' ').find_map(|part| part.strip_prefix("buckets=")).and_then(Buckets::parse)
}

/// The last reply that is a record.
async fn run(connection: &mut Connection, pipe: &Pipeline) -> RedisResult<Record> {
    let mut record = Record::Unreadable;
    for answer in connection.send_packed_commands(pipe, 0, pipe.len()).await? {
        match answer.extract_error() {
            Ok(Value::BulkString(found)) => record = Record::Found(String::from_utf8_lossy(&found).into_owned()),
            Ok(Value::Nil) => record = Record::Absent,
            Err(error) if faults::class_of(&error).extent == Extent::Node => return Err(error),
            Ok(_) | Err(_) => {}
        }
    }
    Ok(record)
}

#[cfg(test)]
mod tests;
