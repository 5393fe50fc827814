//! Counters in Redis begun afresh.

use std::collections::BTreeMap;

use super::side::Side;
use crate::store::{Ask, StoreError, key};

const RESET: &str = include_str!("reset.lua");

impl Side {
    /// Begins the counters of these asks afresh, and tells all replicas to forget what they remember of denials by them.
    pub(crate) async fn reset(&self, asks: &[Ask<'_>]) -> Result<(), StoreError> {
        let settings = self.settings();
        let mut by_bucket: BTreeMap<u32, Vec<Vec<u8>>> = BTreeMap::new();
        for ask in asks {
            let bucket = key::bucket(&ask.key, settings.buckets);
            by_bucket.entry(bucket).or_default().push(settings.counter_key(&ask.key, &ask.limit));
        }
        // The keys of a bucket share a slot, so that one script may touch them all.
        for keys in by_bucket.values() {
            let mut pipe = redis::pipe();
            pipe.cmd("EVAL").arg(RESET).arg(keys.len()).arg(keys).arg(settings.refunds_channel());
            self.ask(&keys[0], &pipe).await?;
        }
        Ok(())
    }
}
