//! Watches over several replicas: any of them shows the decisions of all, within the bounds, and says what it lacks.

use serde_json::Value;

use super::{Tail, ask};
use crate::{
    asking::Ran,
    harness::{RulesDir, Tollgate, eventually},
    redis_server::{RedisCluster, RedisServer},
};

const RULES: &str = super::RULES;

/// Replicas on one Redis that know of each other.
async fn fleet(rules: &RulesDir, env: &[(&str, &str)], names: &[&str]) -> Vec<Tollgate> {
    let mut replicas = Vec::new();
    for name in names {
        replicas.push(Tollgate::start_with(rules.path(), &[env, &[("TOLLGATE_REPLICA_NAME", *name)]].concat()).await);
    }
    eventually("each replica sees all", || async {
        let seen = |replica: &Tollgate| {
            let status = Ran::with(&["status", "--json", "--admin", &replica.admin.to_string()], &[]).json();
            status["replicas"].as_array().map_or(0, Vec::len)
        };
        replicas.iter().all(|replica| seen(replica) == names.len()).then_some(())
    })
    .await;
    replicas
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_replica_shows_the_decisions_of_all() {
    let (rules, redis) = (RulesDir::with("api.yaml", RULES), RedisServer::start());
    let url = redis.address();
    let replicas = fleet(&rules, &[("REDIS_URL", &url)], &["a", "b", "c"]).await;
    let tail = Tail::of(&replicas[1], &["--entry", "user=alice"]).await;
    for (replica, name) in replicas.iter().zip(["a", "b", "c"]) {
        eventually("its decisions are shown", || async {
            ask(replica, "user", "alice", 1).await;
            tail.text().lines().any(|line| line.contains(&format!("  {name}  "))).then_some(())
        })
        .await;
    }
    assert!(tail.text().starts_with("fleet tollgate, 3 replicas\n"), "{}", tail.text());
    // Once it is over, nobody fills it any more, and Redis holds nothing of it.
    drop(tail);
    eventually("the blackboard has no watch", || async {
        let kept: String = redis.cli(&["HGETALL", "tg1:{0}:fleet:watches"]);
        kept.trim().is_empty().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_watches_are_under_way_at_most_in_the_whole_fleet() {
    let (rules, redis) = (RulesDir::with("api.yaml", RULES), RedisServer::start());
    let url = redis.address();
    let replicas = fleet(&rules, &[("REDIS_URL", &url)], &["a", "b"]).await;
    let mut watches = Vec::new();
    for replica in [&replicas[0], &replicas[1], &replicas[0], &replicas[1]] {
        watches.push(Tail::of(replica, &[]).await);
    }
    let fifth = Ran::with(&["tail", "--admin", &replicas[0].admin.to_string()], &[]);
    assert!(fifth.code == 1 && fifth.err.contains("4 watches are under way already"), "{fifth:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_is_shown_in_part_and_the_rest_is_counted() {
    let (rules, redis) = (RulesDir::with("api.yaml", RULES), RedisServer::start());
    let url = redis.address();
    let replicas = fleet(&rules, &[("REDIS_URL", &url)], &["a", "b"]).await;
    let tail = Tail::of(&replicas[0], &["--json"]).await;
    let began = tollgate::clock::instant();
    let mut asked = 0;
    eventually("some are left out", || {
        let (replicas, tail) = (&replicas, &tail);
        asked += 400;
        async move {
            // At once, so that they are a flood however busy the machine is.
            let clients = (0..20).flat_map(|_| replicas).map(|replica| ask(replica, "user", "flood", 10));
            futures_util::future::join_all(clients).await;
            tail.text().contains("decisions were left out").then_some(())
        }
    })
    .await;
    let seconds = began.elapsed().as_secs_f64();
    let shown = tail.text().lines().filter(|line| line.starts_with('{')).count();
    // A look at both ends of the spell.
    assert!(shown as f64 <= 500.0 * (seconds + 1.0), "{shown} of {asked} in {seconds} s");
    assert!(shown > 0, "none of {asked} in {seconds} s");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_user_that_may_not_publish_watches_its_own_replica_and_says_so() {
    let (rules, redis) = (RulesDir::with("api.yaml", RULES), RedisServer::start());
    redis.cli(&["ACL", "SETUSER", "narrow", "on", ">secret", "~*", "resetchannels", "+@all"]);
    let env = [("REDIS_URL", &*redis.address()), ("REDIS_AUTH", "narrow:secret")];
    let replica = Tollgate::start_with(rules.path(), &env).await;
    eventually("it decides", || async { (replica.client().admits("api", &[("user", "zoe")]).await).then_some(()) })
        .await;
    let tail = Tail::of(&replica, &[]).await;
    assert!(tail.text().contains("this replica only: the Redis user lacks a permission"), "{}", tail.text());
    ask(&replica, "user", "alice", 1).await;
    tail.shows(&["(user=alice)"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_goes_on_when_redis_comes_back() {
    let (rules, mut redis) = (RulesDir::with("api.yaml", RULES), RedisServer::start());
    let url = redis.address();
    let replicas = fleet(&rules, &[("REDIS_URL", &url)], &["a", "b"]).await;
    let tail = Tail::of(&replicas[0], &[]).await;
    redis.restart();
    eventually("decisions of the other replica are shown again", || async {
        ask(&replicas[1], "user", "alice", 1).await;
        tail.text().lines().any(|line| line.contains("  b  ")).then_some(())
    })
    .await;
    let decision: Value = Ran::with(&["status", "--json", "--admin", &replicas[0].admin.to_string()], &[]).json();
    assert!(decision["replicas"].is_array());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_a_cluster_the_lines_go_by_a_shard_channel() {
    let (rules, cluster) = (RulesDir::with("api.yaml", RULES), RedisCluster::start());
    let url = cluster.nodes.iter().map(|node| node.address()).collect::<Vec<_>>().join(",");
    let replicas = fleet(&rules, &[("REDIS_TYPE", "CLUSTER"), ("REDIS_URL", &url)], &["a", "b"]).await;
    let tail = Tail::of(&replicas[0], &[]).await;
    eventually("decisions of the other replica are shown", || async {
        ask(&replicas[1], "user", "alice", 1).await;
        tail.text().lines().any(|line| line.contains("  b  ")).then_some(())
    })
    .await;
    assert!(!tail.text().contains("this replica only"), "{}", tail.text());
    let channels =
        |command: &str| -> String { cluster.nodes.iter().map(|node| node.cli(&["PUBSUB", command])).collect() };
    assert!(channels("SHARDCHANNELS").contains("tg1:{0}:fleet:watch:"), "{}", channels("SHARDCHANNELS"));
    assert!(!channels("CHANNELS").contains("fleet:watch"), "only one node passes them on");
}
