//! Reads counters without charging them: as checks of a request that is denied elsewhere, so that the script charges
//! nothing, and never from the denial cache. It also reads what a counter's key holds, over a connection that no
//! decision uses.

use redis::{Value, from_redis_value};
use tokio::time::Instant;

use super::{CommandConnection, Redis, lane::RequestFailure, request::Request};
use crate::{
    algorithm::State,
    limit::{SECOND, UnixMicros},
    store::{
        counter_check::{CounterCheck, Gate, uncharged},
        key,
        readings::{Readings, StoreError},
    },
};

impl Redis {
    /// As [`crate::store::Store::peek`].
    pub async fn peek(&self, checks: &[CounterCheck<'_>], deadline: Instant) -> Result<Readings, StoreError> {
        self.peek_from(checks, 0, deadline).await
    }

    /// As [`Redis::peek`], at a time that the caller passes in instead of Redis' own.
    pub async fn peek_at(
        &self,
        checks: &[CounterCheck<'_>],
        now: UnixMicros,
        deadline: Instant,
    ) -> Result<Readings, StoreError> {
        self.peek_from(checks, now.0, deadline).await
    }

    /// Each check is a request of its own: in a Cluster counters are on many nodes, and while a slot moves on two.
    async fn peek_from(
        &self,
        checks: &[CounterCheck<'_>],
        now: u64,
        deadline: Instant,
    ) -> Result<Readings, StoreError> {
        let settings = &self.inner.settings;
        let mut readings = Readings::new();
        for check in checks {
            let bucket = key::bucket(&check.key, settings.buckets_or_default());
            let check = uncharged(check);
            let request = Request::new(&[check], Gate::default(), true, now, &settings.key_prefix, |_| bucket);
            let answer = self.inner.route.submit(bucket, request, deadline).await.map_err(|failure| match failure {
                RequestFailure::Store(error) => error,
                RequestFailure::Elsewhere => StoreError::Refused("TRYAGAIN".to_owned()),
            })?;
            readings.extend(answer);
        }
        Ok(readings)
    }

    /// The key of a check's counter.
    pub fn counter_key(&self, check: &CounterCheck<'_>) -> Vec<u8> {
        self.inner.settings.counter_key(&check.key, &check.limit)
    }
}

/// KEYS[1]: a counter. Returns Redis' clock, and what the key holds. (A proxy would answer TIME by its own clock.)
const STATE: &str = "return {redis.call('TIME'), redis.call('GET', KEYS[1])}";

impl CommandConnection {
    /// The state of a check's counter, and when it was read, by the clock of its node. A value that no counter can have
    /// written counts as empty, as it does in a decision.
    pub(crate) async fn state(&self, check: &CounterCheck<'_>) -> Result<(State, UnixMicros), StoreError> {
        self.knows_buckets()?;
        let key = self.settings().counter_key(&check.key, &check.limit);
        let mut pipe = redis::pipe();
        pipe.cmd("EVAL").arg(STATE).arg(1).arg(&key);
        let answer = self.run(&key, &pipe).await?.pop().unwrap_or(Value::Nil);
        let (time, packed): ((u64, u64), Option<Vec<u8>>) =
            from_redis_value(answer).map_err(|error| StoreError::Refused(error.to_string()))?;
        let state = packed.and_then(|packed| State::from_redis(&packed, check.limit.algorithm)).unwrap_or_default();
        Ok((state, UnixMicros(time.0 * SECOND.0 + time.1)))
    }
}
