//! What Redis' errors mean: which requests they concern, and what the operator does about them. Also remembers which
//! errors were logged already, because every core meets the same fault a thousand times a second and it should be one
//! line of the log. Decides nothing, and knows no connections.

use std::collections::{HashMap, HashSet};
use std::fmt::Display;
use std::time::Duration;

use parking_lot::Mutex;
use redis::RedisError;
use tokio::time::Instant;

#[cfg(test)]
mod tests;

/// A fault that did not occur for so long is over: if it occurs again, it is logged again.
const QUIET: Duration = Duration::from_secs(60);

/// Names of the settings of a Redis, for messages that say where to look.
#[derive(Clone, Debug)]
pub struct SettingNames {
    /// Prefix of the names: `REDIS`, or `REDIS_PERSECOND` for the second one.
    pub prefix: &'static str,
    /// Where user and password come from, in words, with names that begin with `REDIS`.
    pub auth: &'static str,
}

impl Default for SettingNames {
    fn default() -> SettingNames {
        SettingNames { prefix: "REDIS", auth: "REDIS_AUTH or REDIS_AUTH_FILE" }
    }
}

impl SettingNames {
    /// A message that names the settings of the first Redis, with the names of this one. Settings of certificates are
    /// the same for both.
    pub(super) fn in_message(&self, text: &str) -> String {
        let text = text.replace("{auth}", self.auth);
        if self.prefix == "REDIS" {
            return text;
        }
        text.replace("REDIS_", &format!("{}_", self.prefix)).replace(&format!("{}_TLS_", self.prefix), "REDIS_TLS_")
    }
}

/// An error that no Redis answered: why a connection or a question failed here.
pub(super) fn failed(why: String) -> RedisError {
    std::io::Error::other(why).into()
}

/// Which requests an error concerns. In each case nothing was charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    /// Every request to this node: another connection may lead to a better one.
    Node,
    /// Every request at this moment, over any connection. Sending the requests one by one would only be more load on a
    /// Redis that has enough; the next batch finds out whether it is over.
    Moment,
    /// Only requests with a certain counter, which are found by sending the requests one by one.
    Request,
}

/// A class of errors, by the word that they begin with.
#[derive(Debug)]
pub(super) struct ErrorClass {
    pub(super) code: &'static str,
    pub(super) extent: Extent,
    advice: &'static str,
}

const fn class(code: &'static str, extent: Extent, advice: &'static str) -> ErrorClass {
    ErrorClass { code, extent, advice }
}

/// A code of our own, not Redis': a Sentinel refuses the credentials, whose settings are others than Redis'.
pub(super) const SENTINEL: &str = "SENTINELAUTH";

static CLASSES: [ErrorClass; 18] = [
    class(
        "READONLY",
        Extent::Node,
        "this Redis is a replica: REDIS_URL must lead to the primary, or REDIS_TYPE be sentinel",
    ),
    class("LOADING", Extent::Node, "Redis reads its data back after a start; nothing has to be done"),
    class("MASTERDOWN", Extent::Node, "a replica has lost its primary: see to the primary, or to the failover"),
    class("CLUSTERDOWN", Extent::Node, "the Cluster lacks nodes for some slots: see CLUSTER INFO and bring them back"),
    class("NOAUTH", Extent::Node, "Redis wants a password: set REDIS_AUTH or REDIS_AUTH_FILE"),
    class("WRONGPASS", Extent::Node, "Redis refuses the user or password of {auth}"),
    class(
        SENTINEL,
        Extent::Node,
        "a Sentinel wants another password than it is given: set REDIS_SENTINEL_AUTH to that of the Sentinels, whatever \
            the one of Redis is",
    ),
    class(
        "MAXCLIENTS",
        Extent::Node,
        "Redis takes no more clients: raise its maxclients, or find who keeps connections",
    ),
    class("BUSY", Extent::Moment, "another client's script has kept Redis for long; SCRIPT KILL ends it"),
    class("OOM", Extent::Moment, "Redis is at its maxmemory: raise it, or set maxmemory-policy volatile-ttl"),
    class(
        "MISCONF",
        Extent::Moment,
        "Redis can't save its data and therefore takes no writes: see its log and its disk",
    ),
    class("NOREPLICAS", Extent::Moment, "fewer replicas than min-replicas-to-write: bring them back, or lower it"),
    class("MOVED", Extent::Request, "this Redis is part of a Cluster: set REDIS_TYPE=cluster"),
    class("ASK", Extent::Request, "this Redis is part of a Cluster: set REDIS_TYPE=cluster"),
    class("TRYAGAIN", Extent::Request, "this Redis is part of a Cluster: set REDIS_TYPE=cluster"),
    class(
        "NOPERM",
        Extent::Request,
        "the user of {auth} lacks a right: docs/src/operating/overrides-kept.md has the whole ACL line",
    ),
    class(
        "NOSCRIPT",
        Extent::Request,
        "Redis had forgotten the script and is given it again: does something call SCRIPT FLUSH?",
    ),
    OTHER,
];

const OTHER: ErrorClass = class("other", Extent::Request, "not known here: its words and Redis' log say more");

const SILENCE: ErrorClass = class("silence", Extent::Node, "");

/// The class of an error reply.
pub(super) fn class_of(error: &RedisError) -> &'static ErrorClass {
    let named = |code: &str| CLASSES.iter().find(|class| class.code == code);
    let detail = error.detail().unwrap_or_default();
    // Redis 6 wraps an error inside a script into an ERR, with the error's code behind a dash. The error of too many
    // clients has no code.
    let wrapped = || CLASSES.iter().find(|class| detail.contains(&format!("-{} ", class.code)));
    let wordless = || detail.contains("max number of clients").then(|| named("MAXCLIENTS")).flatten();
    error.code().and_then(named).or_else(wrapped).or_else(wordless).unwrap_or(&CLASSES[CLASSES.len() - 1])
}

/// Whether an error says that a script may not touch keys of several slots, or that it hasn't declared. Redis and Valkey
/// allow it.
pub(super) fn forbids_undeclared(text: &str) -> bool {
    ["undeclared", "same slot", "CROSSSLOT"].iter().any(|word| text.contains(word))
}

/// Whether an error is of no class that is known here.
pub(super) fn is_unknown(error: &RedisError) -> bool {
    class_of(error).code == OTHER.code
}

/// Whether a node that replies with this error when it is first connected to may be ready in a moment: it has just been
/// started, has joined a Cluster or is taking over. Wrong credentials don't mend themselves.
pub(super) fn may_pass(error: &RedisError) -> bool {
    const OF_A_MOMENT: [&str; 8] =
        ["READONLY", "LOADING", "MASTERDOWN", "CLUSTERDOWN", "BUSY", "MOVED", "ASK", "TRYAGAIN"];
    error.code().is_some() && OF_A_MOMENT.contains(&class_of(error).code)
}

/// Which errors of which Redis were logged. The cores share it, so that only one of them logs an error.
#[derive(Debug, Default)]
pub struct Faults {
    /// When each class last occurred, by node.
    last: Mutex<HashMap<(String, &'static str), Instant>>,
    /// Nodes whose batches are known to go by slots.
    by_slot: Mutex<HashSet<String>>,
}

impl Faults {
    /// Logs that `redis` replied with `error`, unless that is known. In a Cluster slots move in normal operation.
    pub(super) fn log_error(&self, redis: &dyn Display, error: &RedisError, is_cluster: bool, names: &SettingNames) {
        let class = class_of(error);
        if !self.is_news(redis.to_string(), class, Instant::now()) {
            return;
        }
        let code = class.code;
        if is_cluster && matches!(code, "MOVED" | "ASK" | "TRYAGAIN") {
            tracing::info!(%redis, code, %error, "a Cluster slot is moving: requests follow it, no action is needed");
        } else {
            let advice = names.in_message(class.advice);
            tracing::warn!(%redis, code, %error, "Redis answers with an error: {advice}");
        }
    }

    /// Logs that `redis` has sent nothing since the connection was begun `after` ago; `why` is what that may mean.
    pub(super) fn log_silence(&self, redis: &dyn Display, after: Duration, why: &str) {
        if self.is_news(redis.to_string(), &SILENCE, Instant::now()) {
            tracing::warn!(%redis, ?after, error = why, "no answer yet from Redis, still waiting");
        }
    }

    /// Logs, once, that the batches of `redis` are of one slot each from now on.
    pub(super) fn log_by_slot(&self, redis: &dyn Display, why: &str) {
        if self.by_slot.lock().insert(redis.to_string()) {
            tracing::warn!(
                %redis,
                why,
                "batches to this node hold one slot each from now on, and cost more: with few buckets they hold more \
                 (TOLLGATE_REDIS_CLUSTER_BATCH)"
            );
        }
    }

    /// Logs that `redis` had lost the script and was sent it again.
    pub(super) fn forgot_the_script(&self, redis: &dyn Display) {
        if let Some(class) = CLASSES.iter().find(|class| class.code == "NOSCRIPT")
            && self.is_news(redis.to_string(), class, Instant::now())
        {
            tracing::warn!(%redis, code = class.code, "Redis answers with an error: {}", class.advice);
        }
    }

    fn is_news(&self, redis: String, class: &ErrorClass, now: Instant) -> bool {
        let mut last = self.last.lock();
        // Nodes come and go: faults that are over are removed.
        last.retain(|_, at| now.saturating_duration_since(*at) < QUIET);
        last.insert((redis, class.code), now).is_none()
    }
}
