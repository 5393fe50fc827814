//! What Redis throws out when it has no more room is counted: each such key was a counter that began afresh.

use tollgate::limit::{Algorithm, Cost, Entry, Limit, Unit};
use tollgate::store::redis::{EvictionWatch, Redis};
use tollgate::store::{CounterCheck, Gate, Key, Role};

use crate::redis_server::RedisServer;
use crate::redis_twin::{settings, soon, store};

async fn hit(redis: &Redis, user: usize) {
    let user = format!("user-{user}");
    let entries = [Entry { key: "user", value: &user }];
    let check = CounterCheck {
        key: Key { domain: "room", entries: &entries, shared: &[], limit_name: "", variable: 0 },
        rule: 0,
        limit: Limit::new(10, Unit::Hour.window(), Algorithm::SlidingWindow),
        cost: Cost { hits: 1, charge_denied: false },
        role: Role::Enforced,
    };
    redis.apply(&[check], Gate::default(), soon()).await.expect("Redis decides");
}

#[tokio::test]
async fn counters_that_redis_evicts_are_counted_from_the_first_look_on() {
    let server = RedisServer::start_with(&["--maxmemory-policy", "volatile-ttl"]);
    let redis = store(settings(&server)).await;
    let mut room = EvictionWatch::of(redis.clone());
    let evicts = || server.cli(&["config", "set", "maxmemory", "1"]);
    let refills = || server.cli(&["config", "set", "maxmemory", "0"]);
    hit(&redis, 0).await;
    evicts();
    refills();
    let long_ago = evicted(&server);
    assert!(long_ago > 0);
    room.check().await;
    assert_eq!(redis.stats().evicted.get(), 0, "what was before the first look is not news");
    for user in 1..=20 {
        hit(&redis, user).await;
    }
    evicts();
    refills();
    room.check().await;
    assert_eq!(redis.stats().evicted.get(), evicted(&server) - long_ago);
    assert!(redis.stats().evicted.get() >= 20);
}

fn evicted(server: &RedisServer) -> u64 {
    let info = server.cli(&["info", "stats"]);
    info.lines().find_map(|line| line.strip_prefix("evicted_keys:")?.trim().parse().ok()).expect("Redis says it")
}
