//! Finds out whether an address leads to a single Redis. A proxy over several of them routes each script by its first
//! key, so that one counter would exist on several servers and each would admit its limit. It knows no counters.

use redis::{Cmd, RedisResult, Value};

use super::connection::Connection;
use super::faults::{self, Extent};

/// Number of other first keys that read what was written through one. With two servers of like size, all of them miss
/// the second one once in 65,536 times.
const READERS: usize = 16;

/// KEYS: the key that routes, and the key that is written. ARGV: the value, and its life in ms.
const WRITE: &str = "return redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])";

/// KEYS: the key that routes, and the key that is read.
const READ: &str = "return redis.call('GET', KEYS[2])";

/// KEYS: the key that routes, and the key that was written.
const CLEAR: &str = "return redis.call('DEL', KEYS[2])";

/// Life of the key in ms if it isn't removed, because the connection broke.
const LIFE_MS: u64 = 10_000;

/// The message about an address that leads to several servers.
pub(super) const SEVERAL: &str = "this address leads to several Redis servers, and a script runs on that of its first key, \
     so that one counter would lie on several of them and each would admit its limit: name one server, or all nodes of a \
     Cluster with REDIS_TYPE=cluster";

/// Whether a key that was written is found through every other first key, so that the connection leads to a single
/// Redis. `None` if that can't be found out here.
pub(super) async fn is_one(connection: &mut Connection, prefix: &str) -> RedisResult<Option<bool>> {
    // A random key, because other connections do the same at the same time. The keys differ both as a whole and in
    // their hash tag, so that both forms of routing separate them.
    let key = || format!("{prefix}tg1:{{{:016x}}}:route", rand::random::<u64>());
    let (probe, value) = (key(), rand::random::<u64>().to_string());
    let first = key();
    let written = eval(WRITE, &first, &probe).arg(&value).arg(LIFE_MS).to_owned();
    // Each step waits for the one before: a proxy may have several connections to its one Redis, which know nothing of
    // each other's order.
    if ask(connection, [written]).await?.is_none() {
        return Ok(None);
    }
    let Some(found) = ask(connection, (0..READERS).map(|_| eval(READ, &key(), &probe))).await? else { return Ok(None) };
    ask(connection, [eval(CLEAR, &first, &probe)]).await?;
    let is_found = |answer: &Value| matches!(answer, Value::BulkString(found) if found == value.as_bytes());
    Ok(Some(found.iter().all(is_found)))
}

fn eval(script: &str, route: &str, probe: &str) -> Cmd {
    let mut cmd = redis::cmd("EVAL");
    cmd.arg(script).arg(2).arg(route).arg(probe);
    cmd
}

/// The replies; `None` if one is an error that only some commands get (no right, no memory). Decisions find out for
/// themselves what that means for them.
async fn ask(connection: &mut Connection, cmds: impl IntoIterator<Item = Cmd>) -> RedisResult<Option<Vec<Value>>> {
    let mut pipe = redis::pipe();
    cmds.into_iter().for_each(|cmd| _ = pipe.add_command(cmd));
    let mut answers = Vec::with_capacity(pipe.len());
    for answer in connection.send_packed_commands(&pipe, 0, pipe.len()).await? {
        match answer.extract_error() {
            Ok(answer) => answers.push(answer),
            Err(error) if faults::class_of(&error).extent == Extent::Node => return Err(error),
            Err(_) => return Ok(None),
        }
    }
    Ok(Some(answers))
}
