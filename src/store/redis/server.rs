//! What a server says of itself that decides how it may be used. It knows no counters.

use redis::{RedisResult, Value};

use super::connection::Connection;
use super::faults::{self, Extent};

/// Why a script must not touch several slots of this server, if that is so. An error only where every request would get it.
pub(super) async fn replays_wrongly(connection: &mut Connection) -> RedisResult<Option<String>> {
    let mut pipe = redis::pipe();
    pipe.cmd("INFO").arg("server").cmd("INFO").arg("persistence");
    let mut info = String::new();
    for answer in connection.send_packed_commands(&pipe, 0, 2).await? {
        match answer.extract_error() {
            // Text of RESP3 has its format before it.
            Ok(Value::BulkString(text)) => info.push_str(&String::from_utf8_lossy(&text)),
            Ok(Value::VerbatimString { text, .. }) => info.push_str(&text),
            Err(error) if faults::class_of(&error).extent == Extent::Node => return Err(error),
            // Without the right to INFO nothing is known, and few servers are such.
            Ok(_) | Err(_) => {}
        }
    }
    Ok(wrong_replay(&info))
}

/// Valkey 9.0.0 and 9.0.1 read a transaction over several slots wrongly back from their append-only file, and a script is
/// written there as a transaction.
fn wrong_replay(info: &str) -> Option<String> {
    let field = |name: &str| info.lines().find_map(|line| line.trim_end().strip_prefix(name)?.strip_prefix(':'));
    let version = field("valkey_version").filter(|version| matches!(*version, "9.0.0" | "9.0.1"))?;
    (field("aof_enabled") == Some("1")).then(|| {
        format!("Valkey {version} with appendonly reads scripts over several slots wrongly back after a restart: 9.0.2 doesn't")
    })
}

#[cfg(test)]
mod tests;
