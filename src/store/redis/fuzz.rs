//! Fuzz entry point: parses arbitrary bytes as a reply of Redis, as the lanes and the Cluster's guide do. A reply that is
//! damaged may cost its requests, never the process.

use redis::{RedisError, Value};

use super::batch::Batch;
use super::cluster;
use super::node_connections;
use super::request::Request;
use super::script::Script;
use super::settings::Address;
use crate::limit::{Algorithm, Cost, Entry, Limit, SECOND};
use crate::store::counter_check::{CounterCheck, Gate, Key, Role};

/// Parses `bytes` as a value of Redis' protocol, and as the script's reply inside it.
pub(crate) fn reply(bytes: &[u8]) {
    read(bytes);
    match redis::parse_redis_value(bytes) {
        Ok(Value::BulkString(inner)) => read(&inner),
        Ok(Value::ServerError(error)) => drop(node_connections::redirected(&RedisError::from(error))),
        Ok(value) => {
            let asked = Address::Tcp { host: "127.0.0.1".to_owned(), port: 6379 };
            drop(cluster::slots::ranges(value, &asked));
        }
        Err(_) => {}
    }
}

/// Reads the bytes as the reply to three requests, two of which are merged.
fn read(bytes: &[u8]) {
    let entries = [Entry { key: "user", value: "alice" }];
    let check = |hits| CounterCheck {
        key: Key { domain: "api", entries: &entries, shared: &[], limit_name: "", variable: 0 },
        rule: 0,
        limit: Limit::new(10, SECOND, Algorithm::SlidingWindow),
        cost: Cost { hits, charge_denied: false },
        role: Role::Enforced,
    };
    let request = |checks: &[CounterCheck<'_>]| Request::new(checks, Gate::default(), false, 0, "", |_| 3);
    let requests = [request(&[check(1), check(2)]), request(&[check(1)]), request(&[check(1)])];
    let (batch, _) = Batch::new(requests.iter(), &Script::of_node(), "refunds", 0, 0);
    if let Some(verdict) = batch.read(bytes).and_then(|reply| reply.result) {
        for (nth, request) in requests.iter().enumerate() {
            let Some(readings) = batch.readings(&verdict, nth) else { continue };
            assert_eq!(readings.len(), request.check_count());
            // What the limiter does with the readings.
            let _ = request.denial_holds(&readings);
        }
    }
}
