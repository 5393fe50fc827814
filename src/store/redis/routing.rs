//! Finds out whether an address leads to a single Redis. A proxy over several of them routes each script by its first
//! key, so that one counter would exist on several servers and each would admit its limit. It knows no counters.

use redis::{Cmd, RedisResult, Value};

use super::connection::Connection;
use super::faults::{self, Extent};

/// So many other first keys read what was written through one: of two servers of like size, all of them miss the second
/// one time in 65,536.
const READERS: usize = 16;

/// KEYS: what routes, and what is written. ARGV: the value, and how long it lives in ms.
const WRITE: &str = "return redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])";

/// KEYS: what routes, and what is read.
const READ: &str = "return redis.call('GET', KEYS[2])";

/// KEYS: what routes, and what was written.
const CLEAR: &str = "return redis.call('DEL', KEYS[2])";

/// Where it isn't cleared, as where the connection breaks.
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
    let first = key();
    let written = eval(WRITE, &first, &probe).arg(&value).arg(LIFE_MS).to_owned();
    // Each step is waited for: a proxy may have several connections to its one Redis, and none of them knows the others' order.
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

/// The answers; `None` where one of them is an error that not everybody would get: no right, no room. What that means for
/// decisions they find out themselves.
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
