//! Reads the map of slots from nodes of a Cluster. It keeps nothing.

use std::ops::RangeInclusive;
use std::time::Duration;

use redis::{RedisResult, Value};

use crate::store::hash_slot::SLOTS;
use crate::store::redis::connection::Connection;
use crate::store::redis::dial;
use crate::store::redis::faults::failed;
use crate::store::redis::settings::Address;

/// Time between asking one node for the slot map and asking the next.
const NODE_AFTER: Duration = Duration::from_millis(50);

/// The first map that one of these ways of asking brings. Nodes that are silent must not hold up those that aren't, for
/// while the map is old, buckets have no node.
pub(in crate::store::redis) async fn first_map<F>(ways: impl Iterator<Item = F>) -> RedisResult<Vec<Range>>
where
    F: Future<Output = RedisResult<Vec<Range>>>,
{
    dial::first_answer(ways, NODE_AFTER, "no seed is configured").await
}

/// Slots `first..=last` belong to `primary`.
#[derive(Debug, PartialEq)]
pub(in crate::store::redis) struct Range {
    pub first: u16,
    pub last: u16,
    pub primary: Address,
}

impl Range {
    pub(super) fn slots(&self) -> RangeInclusive<u16> {
        self.first..=self.last
    }
}

pub(in crate::store::redis) async fn read_map(mut connection: Connection, asked: &Address) -> RedisResult<Vec<Range>> {
    let answer: Value = redis::cmd("CLUSTER").arg("SLOTS").query_async(&mut *connection).await?;
    ranges(answer, asked).ok_or_else(|| failed("CLUSTER SLOTS answered something else".to_owned()))
}

/// Reads the reply to CLUSTER SLOTS: for each range its first and last slot, then nodes with the primary first, each
/// with host and port. A node that doesn't know its own name leaves it empty: it is the one that was asked.
pub(in crate::store::redis) fn ranges(answer: Value, asked: &Address) -> Option<Vec<Range>> {
    let Value::Array(items) = answer else { return None };
    items.into_iter().map(|item| range(item, asked)).collect()
}

fn range(item: Value, asked: &Address) -> Option<Range> {
    let Value::Array(fields) = item else { return None };
    let [Value::Int(first), Value::Int(last), Value::Array(primary), ..] = &fields[..] else { return None };
    let [host, Value::Int(port), ..] = &primary[..] else { return None };
    let named: Option<String> = redis::from_redis_value(host.clone()).ok()?;
    let host = match (named.filter(|host| !host.is_empty() && host != "?"), asked) {
        (Some(host), _) => host,
        (None, Address::Tcp { host, .. }) => host.clone(),
        (None, Address::Unix(_)) => return None,
    };
    let slot = |value: &i64| u16::try_from(*value).ok().filter(|slot| *slot < SLOTS);
    let port = u16::try_from(*port).ok()?;
    Some(Range { first: slot(first)?, last: slot(last)?, primary: Address::Tcp { host, port } })
}

#[cfg(test)]
mod tests;
