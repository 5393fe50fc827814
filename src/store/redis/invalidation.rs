//! What ends cached denials before their time. The script that resets a counter, or gives hits back to it, publishes
//! the counter's key on a channel that every core of every replica listens to. It knows no connections.

use super::settings::RedisSettings;
use crate::limit::Limit;
use crate::store::counter_check::Key;
use crate::store::key;

impl RedisSettings {
    /// Where replicas tell each other of counters that admit again: `<prefix>tg1:refunds`. A message is a counter's key.
    pub fn refunds_channel(&self) -> String {
        format!("{}tg1:refunds", self.key_prefix)
    }

    /// The key under which Redis holds a counter, which also is its name on the channel.
    pub fn counter_key(&self, key: &Key<'_>, limit: &Limit) -> Vec<u8> {
        let mut out = Vec::with_capacity(96);
        key::write(&mut out, &self.key_prefix, key::bucket(key, self.buckets_or_default()), key, limit);
        out
    }
}
