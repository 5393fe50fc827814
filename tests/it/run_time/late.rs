//! Writes that Redis comes to only after their author was told that they failed: it refuses them, by its own clock.

use serde_json::json;

use super::{becomes, change, check, limit, put, two_replicas};
use crate::{harness::eventually, redis_clock::Clock, redis_server::RedisServer};

#[tokio::test]
async fn what_failed_while_redis_stood_still_is_not_done_when_it_goes_on() {
    let redis = RedisServer::start();
    let (_rules, [here, there]) = two_replicas(&redis).await;
    let (kept, late) =
        (json!({"match": {"user": "kept"}, "limit": "5/h"}), json!({"match": {"user": "late"}, "limit": "9/h"}));
    assert_eq!(put(&here, "kept", kept).await.0, 201);
    for _ in 0..2 {
        assert_eq!(check(&here, "alice").await["allowed"], true);
    }
    assert_eq!(check(&here, "alice").await["allowed"], false);

    redis.freeze();
    let reset = json!({"entries": {"user": "alice"}, "reason": "too late"}).to_string();
    let (set, deleted, began_afresh) = tokio::join!(
        put(&here, "late", late.clone()),
        change(&there, "DELETE /v1/domains/api/overrides/kept?reason=late", ""),
        change(&here, "POST /v1/counters:reset", &reset),
    );
    for (status, problem) in [&set, &deleted, &began_afresh] {
        assert_eq!(*status, 503, "{problem}");
    }
    assert!(set.1["detail"].as_str().expect("why").contains("refuses what it comes to later"), "{set:?}");
    redis.thaw();

    // Whatever stood before Redis when it went on was read before what comes now.
    eventually("a write of now", || async {
        (put(&here, "now", json!({"match": {"user": "now"}, "limit": "7/h"})).await.0 < 300).then_some(())
    })
    .await;
    for replica in [&here, &there] {
        becomes(replica, "now", 7).await;
        assert_eq!((limit(replica, "kept").await, limit(replica, "late").await), (json!(5), json!(2)));
    }
    eventually("what was counted", || async { (check(&here, "alice").await["allowed"] == false).then_some(()) }).await;
    let (_, audit) = change(&here, "GET /v1/audit", "").await;
    assert_eq!(audit["entries"].as_array().expect("entries").len(), 2, "nothing of what failed: {audit:#}");
    // And again it can be done.
    assert_eq!(put(&here, "late", late).await.0, 201);
    assert_eq!(change(&here, "POST /v1/counters:reset", &reset).await.0, 200);
    assert_eq!(check(&here, "alice").await["allowed"], true);
}

/// Hours after where such a clock begins, in µs since the epoch.
const JUMPED: u64 = 1_800_100_000_000_000;

#[tokio::test]
async fn a_redis_whose_clock_jumps_takes_writes_and_resets_at_once() {
    let clock = Clock::new();
    let redis = clock.redis();
    let (_rules, [here, _]) = two_replicas(&redis).await;
    // Known to no replica before the write.
    clock.set_us(JUMPED);
    assert_eq!(put(&here, "a", json!({"match": {"user": "a"}, "limit": "5/h"})).await.0, 201);
    clock.set_us(JUMPED + 3_600_000_000);
    let reset = json!({"entries": {"user": "alice"}}).to_string();
    assert_eq!(change(&here, "POST /v1/counters:reset", &reset).await.0, 200);
}
