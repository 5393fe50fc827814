//! Which buckets the counters of a Redis are in: replicas of all releases agree, so that an upgrade admits no limit twice.

use std::time::Duration;

use tollgate::limit::{Algorithm, Entry, Limit, Unit};
use tollgate::store::Gate;
use tollgate::store::key::Buckets;
use tollgate::store::redis::{ClusterBatch, Redis, RedisSettings};

use crate::harness::eventually;
use crate::redis_exact::of_cluster;
use crate::redis_server::{RedisCluster, RedisServer};
use crate::redis_twin::{ask_of, settings, soon, store};

/// Charges `hits`, and says how many are left.
async fn left_after(redis: &Redis, hits: i64) -> u64 {
    let entries = [Entry { key: "user", value: "alice" }];
    let limit = Limit::new(10, Unit::Year.window(), Algorithm::SlidingWindow);
    redis.apply(&[ask_of("layout", &entries, limit, hits)], Gate::default(), soon()).await.expect("Redis answers")[0]
        .remaining
}

/// A replica as every release before this one was: with 256 buckets, and a record of them that nobody renews.
async fn older(settings: RedisSettings) -> Redis {
    store(RedisSettings { buckets: Some(Buckets::DEFAULT), cluster_batch: ClusterBatch::Slot, ..settings }).await
}

fn meta(cluster: &RedisCluster, command: &[&str]) -> String {
    cluster.nodes[0].cli(&[&["-c"], command].concat())
}

#[tokio::test]
async fn in_an_upgrade_old_and_new_replicas_of_a_cluster_share_their_counters() {
    let cluster = RedisCluster::start();
    let old = older(of_cluster(&cluster)).await;
    eventually("the record", || async { (!meta(&cluster, &["get", "tg1:meta"]).is_empty()).then_some(()) }).await;
    assert_eq!(left_after(&old, 7).await, 3);
    let new = store(of_cluster(&cluster)).await;
    assert_eq!(left_after(&new, 2).await, 1, "the record says which buckets are in use");
    assert_eq!(left_after(&old, 0).await, 1);
    assert_eq!((new.mismatch(), old.mismatch()), (None, None));
}

#[tokio::test]
async fn a_record_that_is_gone_while_older_replicas_live_is_not_taken_for_a_new_cluster() {
    let cluster = RedisCluster::start();
    let old = older(of_cluster(&cluster)).await;
    eventually("the record", || async { (!meta(&cluster, &["get", "tg1:meta"]).is_empty()).then_some(()) }).await;
    assert_eq!(left_after(&old, 7).await, 3);
    // After a day without a new connection.
    meta(&cluster, &["del", "tg1:meta"]);
    meta(&cluster, &["zadd", "tg1:{0}:replicas", "1", "old"]);
    let new = store(of_cluster(&cluster)).await;
    assert_eq!(left_after(&new, 2).await, 1);
    assert_eq!(meta(&cluster, &["get", "tg1:meta"]), "buckets=256 algorithm=sliding_window");
}

#[tokio::test]
async fn a_new_cluster_has_a_bucket_for_each_slot_and_replicas_that_were_told_otherwise_are_told_of() {
    let cluster = RedisCluster::start();
    let first = store(of_cluster(&cluster)).await;
    assert_eq!(left_after(&first, 7).await, 3);
    assert_eq!(meta(&cluster, &["get", "tg1:meta"]), "buckets=slots algorithm=sliding_window");
    let alike = store(of_cluster(&cluster)).await;
    assert_eq!(left_after(&alike, 2).await, 1);
    assert_eq!(alike.mismatch(), None);
    let other = older(of_cluster(&cluster)).await;
    let mismatch = eventually("the mismatch", || async { other.mismatch() }).await;
    assert_eq!(mismatch.theirs, "buckets=slots algorithm=sliding_window");
    assert_eq!(mismatch.ours, "buckets=256 algorithm=sliding_window");
}

#[tokio::test]
async fn batches_for_a_slot_begin_with_few_buckets() {
    let cluster = RedisCluster::start();
    let first = store(RedisSettings { cluster_batch: ClusterBatch::Slot, ..of_cluster(&cluster) }).await;
    assert_eq!(left_after(&first, 7).await, 3);
    assert_eq!(meta(&cluster, &["get", "tg1:meta"]), "buckets=256 algorithm=sliding_window");
}

#[tokio::test]
async fn one_redis_goes_on_with_the_buckets_that_it_has() {
    let server = RedisServer::start();
    let first = store(RedisSettings { buckets: Some(Buckets::Hashed(16)), ..settings(&server) }).await;
    assert_eq!(left_after(&first, 7).await, 3);
    let later = store(settings(&server)).await;
    assert_eq!(left_after(&later, 2).await, 1);
    assert_eq!(later.mismatch(), None);
}

#[tokio::test]
async fn the_record_is_renewed_before_it_expires() {
    let layout_renewal = Duration::from_millis(50);
    let (server, cluster) = (RedisServer::start(), RedisCluster::start());
    let _one = store(RedisSettings { layout_renewal, ..settings(&server) }).await;
    let _three = store(RedisSettings { layout_renewal, ..of_cluster(&cluster) }).await;
    let one = |command: &[&str]| server.cli(command);
    let three = |command: &[&str]| meta(&cluster, command);
    for cli in [&one as &dyn Fn(&[&str]) -> String, &three] {
        eventually("the record", || async { (!cli(&["get", "tg1:meta"]).is_empty()).then_some(()) }).await;
        cli(&["expire", "tg1:meta", "1000"]);
        let is_renewed =
            || async { cli(&["ttl", "tg1:meta"]).parse().is_ok_and(|left: u64| left > 80_000).then_some(()) };
        eventually("another day", is_renewed).await;
        // And one that was lost is written again.
        cli(&["del", "tg1:meta"]);
        eventually("the record", || async { (!cli(&["get", "tg1:meta"]).is_empty()).then_some(()) }).await;
    }
}
