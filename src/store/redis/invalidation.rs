//! What ends remembered denials before their time. A counter that was reset, or whose limit changed, is named on a
//! channel that every core of every replica listens to, as the script names those that hits were given back to. It
//! makes commands and knows no connections: whoever resets sends them over its own.

use redis::{Cmd, Pipeline};

use super::settings::RedisSettings;
use crate::limit::Limit;
use crate::store::{Key, key};

/// Names no counter, since no key is empty: all denials are to be forgotten.
pub(super) const ALL: &[u8] = b"";

impl RedisSettings {
    /// Where replicas tell each other of counters that admit again: `<prefix>tg1:refunds`. A message is a counter's key.
    pub fn refunds_channel(&self) -> String {
        format!("{}tg1:refunds", self.key_prefix)
    }

    /// The key under which Redis holds a counter, which also is its name on the channel.
    pub fn counter_key(&self, key: &Key<'_>, limit: &Limit) -> Vec<u8> {
        let mut out = Vec::with_capacity(96);
        key::write(&mut out, &self.key_prefix, key::bucket(key, self.buckets), key, limit);
        out
    }

    /// Tells all replicas to forget what they remember of denials by these counters. To be sent after the change that
    /// it tells of, to any node of a Cluster; a core hears of it as soon as Redis passes it on.
    pub fn forget_denials<'a>(&self, counters: impl IntoIterator<Item = &'a [u8]>) -> Pipeline {
        let channel = self.refunds_channel();
        let mut pipe = redis::pipe();
        for counter in counters {
            pipe.cmd("PUBLISH").arg(&channel).arg(counter).ignore();
        }
        pipe
    }

    /// As [`RedisSettings::forget_denials`], of every counter: for a change that touches more than can be named.
    pub fn forget_all_denials(&self) -> Cmd {
        let mut cmd = redis::cmd("PUBLISH");
        cmd.arg(self.refunds_channel()).arg(ALL);
        cmd
    }
}
