//! Whether what answers is one Redis. A proxy over several of them routes each script by its first key, so that one counter
//! would lie on several servers and each would admit its limit. It knows no counters.

use redis::{RedisResult, Value};

use super::connection::Connection;
use super::faults::{self, Extent};

/// So many other first keys read what was written through one: of two servers of like size, all of them miss the second
/// one time in 65,536.
const READERS: usize = 16;

/// KEYS: what routes, and what is written. ARGV: the value, and how long it lives in ms.
const WRITE: &str = "return redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])";

/// KEYS: what routes, and what is read.
const READ: &str = "return redis.call('GET', KEYS[2])";

const LIFE_MS: u64 = 10_000;

/// What is said of an address that leads to several.
pub(super) const SEVERAL: &str = "this address leads to several Redis servers, and a script runs on that of its first key, \
     so that one counter would lie on several of them and each would admit its limit: name one server, or all nodes of a \
     Cluster with REDIS_TYPE=cluster";

/// Whether a key that was written is found through every other first key. `None` where this can't be asked here.
pub(super) async fn is_one(connection: &mut Connection, prefix: &str) -> RedisResult<Option<bool>> {
    // Others on other connections ask the same at the same time. Both forms of routing tell them apart, that by the whole
    // key and that by what stands in braces.
    let key = || format!("{prefix}tg1:{{{:016x}}}:route", rand::random::<u64>());
    let (probe, value) = (key(), rand::random::<u64>().to_string());
    let mut pipe = redis::pipe();
    pipe.cmd("EVAL").arg(WRITE).arg(2).arg(key()).arg(&probe).arg(&value).arg(LIFE_MS);
    for _ in 0..READERS {
        pipe.cmd("EVAL").arg(READ).arg(2).arg(key()).arg(&probe);
    }
    let mut answers = Vec::with_capacity(pipe.len());
    for answer in connection.send_packed_commands(&pipe, 0, pipe.len()).await? {
        match answer.extract_error() {
            Ok(answer) => answers.push(answer),
            Err(error) if faults::class_of(&error).extent == Extent::Node => return Err(error),
            // No right, no room: what that means for decisions they find out themselves.
            Err(_) => return Ok(None),
        }
    }
    let is_found = |answer: &Value| matches!(answer, Value::BulkString(found) if found == value.as_bytes());
    Ok(Some(answers.iter().skip(1).all(is_found)))
}
