//! The faults, each with what it may cost. Each test is one fault on real processes of its own.

use std::{path::Path, time::Duration};

use super::{
    proxy::{Proxy, Weather},
    report::Report,
    run::{Allowed, FORGOTTEN, Manner, REMEMBERED, Replicas, rules, say, through},
    traffic::{Answer, Traffic, Verdict},
};
use crate::{
    harness::{Tollgate, eventually},
    redis_server::{RedisCluster, RedisServer, free_port, start_sentinel},
};

/// Writes every change to disk before it answers, so that a kill forgets nothing.
const REMEMBERS: [&str; 4] = ["--appendonly", "yes", "--appendfsync", "always"];

async fn on(redis: &str) -> Replicas {
    Replicas::start(&[("REDIS_URL", redis)]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_is_killed_and_restarted() {
    let mut redis = RedisServer::start_with(&REMEMBERS);
    let replicas = on(&redis.address()).await;
    through("Redis killed, restarted with its log", &replicas, REMEMBERED, async |manner: Manner| {
        redis.kill();
        tokio::time::sleep(manner.fault).await;
        redis.restart();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_is_killed_and_comes_back_empty() {
    let mut redis = RedisServer::start();
    let replicas = on(&redis.address()).await;
    through("Redis killed, restarted empty", &replicas, FORGOTTEN, async |manner: Manner| {
        redis.kill();
        tokio::time::sleep(manner.fault).await;
        redis.restart();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_is_stopped() {
    let redis = RedisServer::start();
    let replicas = on(&redis.address()).await;
    through("Redis stopped (SIGSTOP)", &replicas, REMEMBERED, async |manner: Manner| {
        redis.freeze();
        tokio::time::sleep(manner.fault).await;
        redis.thaw();
    })
    .await;
}

async fn in_weather(name: &str, weather: Weather, allowed: Allowed) {
    let redis = RedisServer::start();
    let proxy = Proxy::before(&redis.address()).await;
    let replicas = on(&proxy.address.to_string()).await;
    through(name, &replicas, allowed, async |manner: Manner| {
        proxy.turns(weather);
        tokio::time::sleep(manner.fault).await;
        proxy.turns(Weather::Fair);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_network_delays() {
    in_weather("network delays 50 ms", Weather::Delay(Duration::from_millis(50)), REMEMBERED).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_network_swallows() {
    in_weather("network drops everything", Weather::Swallow, REMEMBERED).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_network_cuts() {
    in_weather("network cuts connections", Weather::Cut, REMEMBERED).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_network_half_closes() {
    in_weather("network half-closes", Weather::HalfClose, REMEMBERED).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_network_corrupts() {
    in_weather("network corrupts replies", Weather::Corrupt, REMEMBERED).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_are_paused() {
    let redis = RedisServer::start();
    let replicas = on(&redis.address()).await;
    through("CLIENT PAUSE", &replicas, REMEMBERED, async |manner: Manner| {
        redis.cli(&["client", "pause", &manner.fault.as_millis().to_string(), "all"]);
        tokio::time::sleep(manner.fault).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_script_keeps_redis_busy() {
    // Soon others are told BUSY instead of waiting.
    let redis = RedisServer::start_with(&["--lua-time-limit", "300"]);
    let replicas = on(&redis.address()).await;
    through("another's script runs on and on", &replicas, REMEMBERED, async |manner: Manner| {
        std::thread::scope(|scope| {
            scope.spawn(|| redis.cli(&["eval", "while true do end", "0"]));
            tokio::task::block_in_place(|| std::thread::sleep(manner.fault));
            redis.cli(&["script", "kill"]);
        });
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_has_no_memory_left() {
    let redis = RedisServer::start();
    let replicas = on(&redis.address()).await;
    through("maxmemory reached (OOM)", &replicas, REMEMBERED, async |manner: Manner| {
        redis.cli(&["config", "set", "maxmemory", "1"]);
        tokio::time::sleep(manner.fault).await;
        redis.cli(&["config", "set", "maxmemory", "0"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_is_emptied() {
    let redis = RedisServer::start();
    let replicas = on(&redis.address()).await;
    through("FLUSHALL", &replicas, FORGOTTEN, async |_| {
        redis.cli(&["flushall"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sentinels_promote_a_replica() {
    let mut first = RedisServer::start();
    let second = RedisServer::start_with(&["--replicaof", "127.0.0.1", &first.port().to_string()]);
    let sentinel = start_sentinel(&first);
    eventually("the sentinel knows the replica", || async {
        let replicas = sentinel.cli(&["sentinel", "replicas", "tollgate"]);
        replicas.contains(&second.port().to_string()).then_some(())
    })
    .await;
    let url = format!("tollgate,{}", sentinel.address());
    let replicas = Replicas::start(&[("REDIS_TYPE", "sentinel"), ("REDIS_URL", &url)]).await;
    // A replica lacks what the master had not sent it yet.
    through("Sentinel failover", &replicas, FORGOTTEN, async |_| {
        first.kill();
        eventually("the replica is promoted", || async { second.cli(&["role"]).starts_with("master").then_some(()) })
            .await;
    })
    .await;
}

async fn on_cluster(cluster: &RedisCluster) -> Replicas {
    let url: Vec<String> = cluster.nodes.iter().map(RedisServer::address).collect();
    Replicas::start(&[("REDIS_TYPE", "cluster"), ("REDIS_URL", &url.join(","))]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_loses_a_node() {
    let mut cluster = RedisCluster::start();
    let replicas = on_cluster(&cluster).await;
    through("Cluster node killed, restarted empty", &replicas, FORGOTTEN, async |manner: Manner| {
        cluster.nodes[1].kill();
        tokio::time::sleep(manner.fault).await;
        cluster.nodes[1].restart();
        eventually("the cluster is whole", || async { cluster.is_whole().then_some(()) }).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_moves_slots() {
    let cluster = RedisCluster::start();
    let replicas = on_cluster(&cluster).await;
    through("Cluster slots moved", &replicas, REMEMBERED, async |_| {
        let with_keys: Vec<u16> = tokio::task::block_in_place(|| {
            let holds = |slot: &u16| cluster.nodes[0].cli(&["cluster", "countkeysinslot", &slot.to_string()]) != "0";
            (0..5_461).filter(holds).take(8).collect()
        });
        assert!(!with_keys.is_empty(), "nothing would be moved");
        for slot in with_keys {
            tokio::task::block_in_place(|| cluster.move_slot(slot, 0, 1, || {}));
        }
    })
    .await;
}

/// The memory store's counts go on over a restart; while nobody listens there are errors, which in a fleet another
/// replica prevents.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tollgate_is_restarted_with_its_state() {
    let manner = Manner::of_environment();
    let (rules, state, port) =
        (rules(manner.bound()), tempfile::tempdir().expect("a directory"), free_port().to_string());
    let env = [
        ("TOLLGATE_STATE_DIR", state.path().to_str().expect("UTF-8")),
        ("GRPC_PORT", &port),
        ("RESPONSE_DYNAMIC_METADATA", "true"),
    ];
    let start = async |rules: &Path| Tollgate::start_with(rules, &env).await;
    let mut tollgate = start(rules.path()).await;
    let traffic = Traffic::start(vec![tollgate.grpc], manner.rate);
    tokio::time::sleep(manner.calm).await;
    let began = traffic.now();
    tollgate.process.signal("TERM");
    assert_eq!(tollgate.process.end().await.code(), Some(0), "{}", tollgate.process.log());
    let again = start(rules.path()).await;
    let over = traffic.now();
    tokio::time::sleep(manner.calm).await;
    assert_eq!(again.metric("tollgate_panics_total").await, 0.0);
    let log = traffic.stop().await;
    // Nobody listened in between. Requests that were due before may have left later; that none is lost that was under way
    // is the matter of a test of its own.
    let absent = |answer: &Answer| answer.answered >= began && matches!(answer.verdict, Verdict::Failed(_));
    let answered: Vec<Answer> = log.iter().copied().filter(|answer| !absent(answer)).collect();
    let report = Report::of(&answered, manner.bound(), over);
    say("Tollgate restarted, memory store with its state", &report, manner);
    assert_eq!(report.errors, 0, "an error before the restart");
    for (policy, above) in report.excess {
        assert_eq!(above, 0, "{policy}");
    }
    let last = log.iter().rev().take(10);
    assert!(last.clone().all(|answer| !matches!(answer.verdict, Verdict::Failed(_))), "it answers again");
}
