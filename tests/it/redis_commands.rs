//! What Tollgate asks of Redis: which commands and how many of them, and that the rights which the docs name are enough.

use serde_json::json;
use tokio::task::JoinSet;
use tollgate::{
    limit::{Algorithm, Entry, Limit, Unit, UnixMicros},
    store::{Gate, redis::RedisSettings},
};

use crate::{
    api::{RULES, client::call, with_tokens},
    harness::{REDIS_CONNECTIONS, RulesDir, Tollgate, descriptor, eventually, request},
    redis_server::{RedisCluster, RedisServer},
    redis_twin::{ask_of, settings, soon, store},
};

/// How often a command was called, by scripts too.
fn calls(server: &RedisServer, command: &str) -> u64 {
    let stats = server.cli(&["info", "commandstats"]);
    let line = stats.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
    line.map_or(0, |line| line.split(',').next().and_then(|calls| calls.parse().ok()).expect("a number"))
}

#[tokio::test]
async fn a_decision_is_one_script_that_reads_once_and_writes_in_place() {
    const HITS: u64 = 100;
    let server = RedisServer::start();
    let redis = store(settings(&server)).await;
    for algorithm in Algorithm::ALL {
        server.cli(&["config", "resetstat"]);
        let limit = Limit { burst: 1_000, ..Limit::new(1_000, Unit::Hour.window(), algorithm) };
        let entries = [Entry { key: "user", value: algorithm.name() }];
        for nth in 0..HITS {
            let ask = ask_of("commands", &entries, limit, 1);
            let now = UnixMicros(1_800_000_000_000_000 + nth);
            let answer = redis.apply_at(&[ask], Gate::default(), now, soon()).await.expect("Redis answers");
            assert!(answer[0].admitted, "{algorithm:?}");
        }
        let [scripts, reads, pieces, created] =
            ["evalsha", "mget", "getrange", "set"].map(|command| calls(&server, command));
        // Of a log the header is read with the slots next to it, and where it is longer its oldest entries.
        let (whole, in_pieces) = if algorithm == Algorithm::SlidingLog { (0, HITS..=2 * HITS) } else { (HITS, 0..=0) };
        assert_eq!((scripts, reads), (HITS, whole), "{algorithm:?}");
        assert!(in_pieces.contains(&pieces), "{algorithm:?}: {pieces}");
        // A key is written anew when it is created, and when it has to live longer: a bucket that fills up needs that.
        assert!((1..=10).contains(&created), "{algorithm:?}: {created}");
        // A log writes its entry and then its header.
        let in_place = calls(&server, "setrange");
        let each = if algorithm == Algorithm::SlidingLog { 2 } else { 1 };
        assert_eq!(in_place, each * (HITS - created), "{algorithm:?}");
    }
}

#[tokio::test]
async fn requests_that_come_together_share_scripts_and_identical_ones_their_work() {
    const REQUESTS: usize = 1_000;
    let server = RedisServer::start();
    let redis = store(settings(&server)).await;
    let limit = Limit::new(10_000, Unit::Hour.window(), Algorithm::SlidingWindow);
    server.cli(&["config", "resetstat"]);
    let mut asked = JoinSet::new();
    for nth in 0..REQUESTS {
        let redis = redis.clone();
        // Half of them are of one user.
        let user = if nth % 2 == 0 { "hot".to_owned() } else { format!("u{nth}") };
        asked.spawn(async move {
            let entries = [Entry { key: "user", value: &user }];
            let ask = ask_of("commands", &entries, limit, 1);
            redis.apply(&[ask], Gate::default(), soon()).await.expect("Redis answers")[0].admitted
        });
    }
    assert!(asked.join_all().await.into_iter().all(|admitted| admitted));
    // On one thread all of them ask before the first is answered: one leaves alone, since nobody waits, then as many
    // together as a script may have counters.
    let scripts = calls(&server, "evalsha");
    assert!(scripts <= 20, "{scripts} scripts for {REQUESTS} requests");
    assert_eq!(redis.stats().requests.get(), REQUESTS as u64);
    assert!(redis.stats().merged.get() > 400, "{} shared another's work", redis.stats().merged.get());
    let entries = [Entry { key: "user", value: "hot" }];
    let look = redis.apply(&[ask_of("commands", &entries, limit, 0)], Gate::default(), soon()).await;
    assert_eq!(look.expect("Redis answers")[0].remaining, 9_500, "and each was counted");
}

/// The line of the page on overrides, as arguments.
fn documented_rights() -> Vec<&'static str> {
    let page = include_str!("../../docs/src/operating/overrides-kept.md");
    let line = page.lines().find(|line| line.starts_with("ACL SETUSER tollgate ")).expect("the docs have the line");
    line.split(' ').collect()
}

/// All that is asked of Redis, as the user of the docs; what Redis has refused is in its ACL log.
async fn is_enough(nodes: &[&RedisServer], env: &[(&str, &str)]) {
    for node in nodes {
        assert_eq!(node.cli(&documented_rights()), "OK");
    }
    let rules = RulesDir::with("api.yaml", RULES);
    let mut tollgate: Tollgate = with_tokens(&rules, &[env, &[("REDIS_AUTH", "tollgate:password")]].concat()).await;
    tollgate.redis_connections_are(REDIS_CONNECTIONS).await;
    let client = tollgate.client();
    for round in 0..2 {
        for user in ["alice", "bob", "carol", "dave"] {
            let both = || vec![descriptor(&[("user", user)]), descriptor(&[("user", user), ("action", "login")])];
            for _ in 0..4 {
                client.ask(request("api", both())).await.expect("a decision");
            }
            let mut back = descriptor(&[("user", user)]);
            back.is_negative_hits = true;
            back.hits_addend = Some(Default::default());
            client.ask(request("api", vec![back])).await.expect("a decision");
            for (what, body) in [
                ("POST /v1/explain", json!({"user": user})),
                ("PUT /v1/domains/api/overrides/x", json!({"match": {"user": user}, "limit": "5/s"})),
                ("GET /v1/domains/api/overrides/x", json!(null)),
                ("GET /v1/domains/api/overrides", json!(null)),
                ("DELETE /v1/domains/api/overrides/x", json!(null)),
                ("POST /v1/counters:reset", json!({"entries": {"user": user}})),
                ("GET /v1/audit", json!(null)),
            ] {
                let body = if body.is_null() { String::new() } else { body.to_string() };
                eventually(what, || async {
                    (call(tollgate.http, what, Some("secret"), &body).await.status < 300).then_some(())
                })
                .await;
            }
        }
        if round == 0 {
            nodes.iter().for_each(|node| _ = node.cli(&["script", "flush"]));
        }
    }
    // That it lives, and at its end that it doesn't.
    eventually("a heartbeat", || async { (tollgate.metric("tollgate_replicas").await == 1.0).then_some(()) }).await;
    assert_eq!(tollgate.metric("tollgate_redis_refused_total").await, 0.0);
    tollgate.process.signal("TERM");
    tollgate.process.end().await;
    for node in nodes {
        assert_eq!(node.cli(&["acl", "log"]), "", "what Redis refused");
    }
    assert!(!tollgate.process.log().contains("NOPERM"), "{}", tollgate.process.log());
}

#[tokio::test]
async fn the_rights_that_the_docs_name_are_enough_for_one_redis() {
    let server = RedisServer::start();
    is_enough(&[&server], &[("REDIS_URL", &server.address())]).await;
}

#[tokio::test]
async fn the_rights_that_the_docs_name_are_enough_for_a_cluster() {
    let cluster = RedisCluster::start();
    let nodes: Vec<String> = cluster.nodes.iter().map(RedisServer::address).collect();
    let env = [("REDIS_TYPE", "cluster"), ("REDIS_URL", &*nodes.join(","))];
    is_enough(&cluster.nodes.iter().collect::<Vec<_>>(), &env).await;
}

#[tokio::test]
async fn a_right_that_is_missing_is_found_in_redis_own_log() {
    // Or the two tests above could not fail.
    let server = RedisServer::start();
    let redis = store(RedisSettings { database: 0, ..settings(&server) }).await;
    server.cli(&["acl", "setuser", "default", "-mget"]);
    let entries = [Entry { key: "user", value: "alice" }];
    let ask = ask_of("commands", &entries, Limit::new(1, Unit::Hour.window(), Algorithm::SlidingWindow), 1);
    assert!(redis.apply(&[ask], Gate::default(), soon()).await.is_err());
    assert!(server.cli(&["acl", "log"]).contains("mget"));
}

#[tokio::test]
async fn a_log_is_decided_without_the_right_to_read_a_part_of_it() {
    // Which the docs did not name before.
    let server = RedisServer::start();
    let redis = store(settings(&server)).await;
    server.cli(&["acl", "setuser", "default", "-getrange"]);
    let entries = [Entry { key: "user", value: "alice" }];
    let ask = ask_of("commands", &entries, Limit::new(30, Unit::Hour.window(), Algorithm::SlidingLog), 1);
    // Round its ring once and a half.
    for nth in 0..45 {
        let now = UnixMicros(1_800_000_000_000_000 + nth * 120_000_000);
        let answer = redis.apply_at(&[ask], Gate::default(), now, soon()).await.expect("Redis answers");
        assert!(answer[0].admitted && answer[0].remaining == 29u64.saturating_sub(nth), "{nth}: {answer:?}");
    }
    assert!(server.cli(&["acl", "log"]).contains("getrange"), "and Redis' own log tells of it");
}
