//! Resets counters in Redis, and writes the entry about it to the audit stream.

use std::collections::BTreeMap;

use redis::{Pipeline, Value};

use super::{
    command_connection::{CommandConnection, PATIENCE},
    script::without_comments,
    settings::Topology,
};
use crate::limit::UnixMicros;
use crate::store::counter_check::CounterCheck;
use crate::store::key;
use crate::store::readings::StoreError;

const RESET: &str = include_str!("reset.lua");

/// What is written down about a reset in the (main) Redis: no counter begins afresh without it.
#[derive(Clone, Copy)]
pub struct AuditStreamEntry<'a> {
    /// The key of the stream.
    pub stream: &'a str,
    pub text: &'a str,
    /// Entries that the stream keeps.
    pub kept: usize,
}

impl CommandConnection {
    /// Begins the counters of these asks afresh, and tells all replicas to forget what they remember of denials by them.
    /// One script does that and writes the entry; in a Cluster, where they are in several slots, the entry is first, so
    /// that whatever fails in between is known. What Redis comes to after the deadline, by its own clock, it refuses.
    pub(crate) async fn reset(
        &self,
        checks: &[CounterCheck<'_>],
        entry: Option<AuditStreamEntry<'_>>,
        deadline: Option<UnixMicros>,
    ) -> Result<(), StoreError> {
        let settings = self.settings();
        let is_cluster = matches!(settings.topology, Topology::Cluster { .. });
        self.knows_buckets()?;
        let mut by_bucket: BTreeMap<u32, Vec<Vec<u8>>> = BTreeMap::new();
        for check in checks {
            // The keys of a bucket share a slot, so that one script may touch them all.
            let bucket = if is_cluster { key::bucket(&check.key, settings.buckets_or_default()) } else { 0 };
            by_bucket.entry(bucket).or_default().push(settings.counter_key(&check.key, &check.limit));
        }
        let mut entry = entry;
        if (is_cluster || by_bucket.is_empty())
            && let Some(alone) = entry.take()
        {
            self.run_reset(&[], Some(alone), deadline).await?;
        }
        for keys in by_bucket.values() {
            self.run_reset(keys, entry.take(), deadline).await?;
        }
        Ok(())
    }

    async fn run_reset(
        &self,
        counters: &[Vec<u8>],
        entry: Option<AuditStreamEntry<'_>>,
        deadline: Option<UnixMicros>,
    ) -> Result<(), StoreError> {
        let stream = entry.map(|entry| entry.stream.as_bytes());
        let Some(first) = counters.first().map(Vec::as_slice).or(stream) else { return Ok(()) };
        let channel = self.settings().refunds_channel();
        let mut deadline = deadline;
        for _ in 0..2 {
            let pipe = command(counters, entry, (&channel, deadline));
            let now: UnixMicros = match self.run(first, &pipe).await?.pop() {
                Some(Value::BulkString(text)) => match str::from_utf8(&text).ok().and_then(|text| text.parse().ok()) {
                    Some(now) => UnixMicros(now),
                    None => return Err(StoreError::Refused("an answer that makes no sense".to_owned())),
                },
                _ => return Ok(()),
            };
            // The answer came in time, so the clock of this node isn't where it was thought to be; nothing was done.
            deadline = Some(UnixMicros(now.0.saturating_add(PATIENCE.as_micros() as u64)));
        }
        Err(StoreError::Timeout(PATIENCE))
    }
}

/// The call of the script for the counters of one slot, with the entry if it is written there.
pub(super) fn command(
    counters: &[Vec<u8>],
    entry: Option<AuditStreamEntry<'_>>,
    (channel, deadline): (&str, Option<UnixMicros>),
) -> Pipeline {
    let deadline = deadline.map(|UnixMicros(deadline)| deadline.to_string()).unwrap_or_default();
    let mut pipe = redis::pipe();
    let keys = counters.len() + usize::from(entry.is_some());
    pipe.cmd("EVAL").arg(without_comments(RESET)).arg(keys).arg(counters);
    if let Some(entry) = entry {
        pipe.arg(entry.stream).arg(channel).arg(deadline).arg(entry.text).arg(entry.kept);
    } else {
        pipe.arg(channel).arg(deadline);
    }
    pipe
}
