//! The script that decides inside Redis: how its files become one text, and how Redis is made to run it. There are two
//! texts, which differ in how they find and read their keys. A script is
//! called by its SHA-1 (EVALSHA). Only a Redis that doesn't know it, because it is new, restarted or has failed over, is
//! sent the text (EVAL), and knows it from then on. What the arguments and the reply mean is `batch`'s matter.

use redis::{Arg, Cmd, RedisError, RedisResult, Value};

use std::sync::Arc;

use super::connection::Connection;
use super::faults::failed;

/// How a call over the keys of one slot finds and reads them, and how one over all slots of a node.
const KEYS_OF_SLOT: &str = include_str!("keys_of_slot.lua");
const KEYS_OF_NODE: &str = include_str!("keys_of_node.lua");

/// The other files of the script. Each has a line in a file before it where it is inserted: Redis takes one text, readers
/// want parts.
const PARTS: [(&str, &str); 5] = [
    ("careful", include_str!("careful.lua")),
    ("sliding", include_str!("sliding.lua")),
    ("fixed", include_str!("fixed.lua")),
    ("log", include_str!("log.lua")),
    ("bucket", include_str!("bucket.lua")),
];

/// The script: its text, and the SHA-1 by which Redis knows it.
pub(super) struct Script {
    inner: redis::Script,
    text: String,
    /// Whether its keys are of all slots of a node, and not declared.
    is_of_node: bool,
}

/// Both texts, cheap to clone.
#[derive(Clone)]
pub(super) struct Scripts {
    pub of_slot: Arc<Script>,
    pub of_node: Arc<Script>,
}

impl Scripts {
    pub(super) fn new() -> Scripts {
        Scripts { of_slot: Arc::new(Script::of_slot()), of_node: Arc::new(Script::of_node()) }
    }

    pub(super) fn of(&self, is_of_node: bool) -> Arc<Script> {
        if is_of_node { self.of_node.clone() } else { self.of_slot.clone() }
    }
}

impl Script {
    /// The script for one Redis, or for one slot of a Cluster.
    pub(super) fn of_slot() -> Script {
        Script::with_keys(KEYS_OF_SLOT, false)
    }

    /// The script for all slots of a Cluster's node.
    pub(super) fn of_node() -> Script {
        Script::with_keys(KEYS_OF_NODE, true)
    }

    fn with_keys(keys: &str, is_of_node: bool) -> Script {
        let parts = [("keys", keys)].into_iter().chain(PARTS);
        let whole = parts.fold(include_str!("decide.lua").to_owned(), |code, (name, part)| {
            code.replacen(&format!("-- {name}.lua goes here\n"), part, 1)
        });
        let text = without_comments(&whole);
        Script { inner: redis::Script::new(&text), text, is_of_node }
    }

    /// Runs the script with a deadline that is long past, so that it charges nothing and replies with Redis' clock, in
    /// µs since the epoch. Afterwards Redis is known to have the script and to be able to run it. (TIME alone would
    /// give the clock, but a proxy answers that by its own.) `route` is a key of the node, by which a proxy finds it.
    pub(super) async fn clock(&self, connection: &Connection, route: Option<&str>) -> RedisResult<u64> {
        /// Its own time, a deadline of 1970, no logs.
        const HEAD: [f64; 3] = [0.0, 1.0, 0.0];
        let mut cmd = self.call(route.iter().len(), 64);
        route.iter().for_each(|key| _ = cmd.arg(key));
        cmd.arg(&HEAD.map(f64::to_le_bytes).concat()[..]).arg("");
        self.end_call(&mut cmd, route.iter().len());
        match self.run(connection.clone(), cmd).await.0? {
            Value::BulkString(now) if now.len() == 8 => {
                Ok(f64::from_le_bytes(now.try_into().expect("it has 8 bytes")) as u64)
            }
            other => Err(failed(format!("unexpected answer to the script: {other:?}"))),
        }
    }

    /// The beginning of a call, which keys and arguments follow. redis-rs' own invocation allocates a vector for each
    /// argument.
    pub(super) fn call(&self, keys: usize, bytes: usize) -> Cmd {
        let mut cmd = Cmd::with_capacity(keys + 6, bytes + 64);
        cmd.arg("EVALSHA").arg(self.inner.get_hash()).arg(if self.is_of_node { 0 } else { keys });
        cmd
    }

    /// What stands behind all arguments of a call with so many keys.
    pub(super) fn end_call(&self, cmd: &mut Cmd, keys: usize) {
        if self.is_of_node {
            cmd.arg(keys);
        }
    }

    /// Sends a call and returns the reply. If Redis doesn't know the script (SCRIPT FLUSH, a failover), it has done
    /// nothing, and the call is sent again with the text; the second part of the result says whether that was so.
    pub(super) async fn run(&self, mut connection: Connection, cmd: Cmd) -> (RedisResult<Value>, bool) {
        let answer = connection.send_packed_command(&cmd).await.and_then(Value::extract_error);
        if !answer.as_ref().is_err_and(is_unknown_script) {
            return (answer, false);
        }
        let whole = self.with_text(&cmd);
        (connection.send_packed_command(&whole).await.and_then(Value::extract_error), true)
    }

    /// The same call with the script's text in place of its SHA-1. Redis keeps the text from then on. Loading it first
    /// would be another message, and Redis may forget the script again between the two.
    fn with_text(&self, cmd: &Cmd) -> Cmd {
        let args = cmd.args_iter().skip(2);
        let mut whole = Cmd::with_capacity(args.len() + 2, 2 * self.text.len());
        whole.arg("EVAL").arg(&self.text);
        for arg in args {
            if let Arg::Simple(bytes) = arg {
                whole.arg(bytes);
            }
        }
        whole
    }

    /// As [`Script::run`], on a node that is taking the slot over.
    pub(super) async fn run_with_asking(&self, mut connection: Connection, cmd: Cmd) -> (RedisResult<Value>, bool) {
        let answer = send_with_asking(&mut connection, &cmd).await;
        if !answer.as_ref().is_err_and(is_unknown_script) {
            return (answer, false);
        }
        (send_with_asking(&mut connection, &self.with_text(&cmd)).await, true)
    }
}

/// Without ASKING the node would send us back to the one that the slot still belongs to.
async fn send_with_asking(connection: &mut Connection, cmd: &Cmd) -> RedisResult<Value> {
    let mut pipe = redis::pipe();
    pipe.cmd("ASKING").add_command(cmd.clone());
    match connection.send_packed_commands(&pipe, 0, 2).await?.pop() {
        Some(answer) => answer.extract_error(),
        None => Err(failed("no answer to ASKING".to_owned())),
    }
}

/// A script without the lines that are comments, a third of it: they are for readers of the file, and would otherwise go
/// over the wire and stay in Redis' memory.
pub(super) fn without_comments(lua: &str) -> String {
    lua.split_inclusive('\n').filter(|line| !line.trim_start().starts_with("--")).collect()
}

fn is_unknown_script(error: &RedisError) -> bool {
    error.code() == Some("NOSCRIPT")
}

#[cfg(test)]
mod tests;
