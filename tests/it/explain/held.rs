//! What an explanation says that counters hold, against what was charged: in memory, in Redis and in a Redis Cluster.

use serde_json::{Value, json};
use tollgate::limit::moment;

use crate::{
    api::{client::call, with_tokens},
    harness::{RulesDir, Tollgate, eventually, get, run_to_end},
    redis_clock::Clock,
    redis_server::{RedisCluster, RedisServer},
};

/// A limit of each algorithm, so long that nothing leaves while a test looks.
const EACH: &str = "
domain: api
descriptors:
  - key: user
    rate_limit:
      - {name: sliding, requests: 100, window: 365d}
      - {name: fixed, requests: 100, window: 365d, algorithm: fixed_window}
      - {name: log, requests: 100, window: 365d, algorithm: sliding_log}
      - {name: token, requests: 100, window: 365d, algorithm: token_bucket}
      - {name: leaky, requests: 100, window: 365d, algorithm: leaky_bucket, burst: 100}
";

/// No decision is given up because the machine is busy.
const PATIENT: (&str, &str) = ("TOLLGATE_STORE_TIMEOUT", "20s");

async fn explained(tollgate: &Tollgate, body: &Value) -> Value {
    call(tollgate.http, "POST /v1/explain", Some("secret"), &body.to_string()).await.json()
}

/// The counters of the first descriptor.
fn counters(answer: &Value) -> &[Value] {
    answer["descriptors"][0]["counters"].as_array().unwrap_or_else(|| panic!("no counters: {answer:#}"))
}

/// The moment at which a key expires, in µs. PEXPIRETIME, which says it, came with Redis 7.
fn expires_us(redis: &RedisServer, key: &str) -> u64 {
    let script = "local now = redis.call('TIME') \
                  return now[1] * 1000 + math.ceil(now[2] / 1000) + redis.call('PTTL', KEYS[1])";
    redis.cli(&["EVAL", script, "1", key]).parse::<u64>().expect("a moment in ms") * 1_000
}

/// Waits until what the user's counters hold can be read, which is nothing yet.
async fn reads(tollgate: &Tollgate, user: &str) {
    let answer = eventually("what is held", || async {
        let answer = explained(tollgate, &json!({"user": user})).await;
        counters(&answer).iter().all(|counter| counter["holds"].is_object()).then_some(answer)
    })
    .await;
    for counter in counters(&answer) {
        let holds = &counter["holds"];
        assert_eq!(
            (holds["hits"].as_f64(), holds.get("until"), holds.get("parts")),
            (Some(0.0), None, None),
            "{holds}"
        );
    }
}

async fn charge(tollgate: &Tollgate, body: Value) {
    let answer = call(tollgate.http, "POST /v1/check", None, &body.to_string()).await.json();
    assert_eq!((&answer["allowed"], answer.get("degraded")), (&json!(true), None), "{answer}");
}

/// By the name of its limit, what a counter holds, in whole hits, and in how many parts that is told.
fn held(answer: &Value) -> Vec<(&str, u64, usize)> {
    let of = |counter: &'_ Value| {
        // A bucket has lost a little of the last hit already.
        let hits = counter["holds"]["hits"].as_f64().unwrap_or_else(|| panic!("no hits: {counter}")).ceil();
        (hits as u64, counter["holds"]["parts"].as_array().map_or(0, Vec::len))
    };
    let named =
        counters(answer).iter().map(|counter| (counter["limit"]["name"].as_str().expect("a name"), of(counter)));
    named.map(|(name, (hits, parts))| (name, hits, parts)).collect()
}

fn micros(moment: &Value) -> u64 {
    moment::parse(moment.as_str().expect("text")).expect("a moment").0
}

/// Explains thirty single hits, which are told alike wherever they are; returns the answer.
async fn thirty_hits_are_told(tollgate: &Tollgate) -> Value {
    reads(tollgate, "bob").await;
    for _ in 0..30 {
        charge(tollgate, json!({"user": "bob"})).await;
    }
    let answer = explained(tollgate, &json!({"user": "bob"})).await;
    let told = held(&answer);
    let hits: Vec<_> = told.iter().map(|(name, hits, _)| (*name, *hits)).collect();
    assert_eq!(hits, ["sliding", "fixed", "log", "token", "leaky"].map(|name| (name, 30)), "{answer:#}");
    let parts = [told[1].2, told[2].2, told[3].2, told[4].2];
    assert_eq!(parts, [1, 20, 0, 0], "a window, the oldest and newest of the log, levels: {answer:#}");
    assert_eq!(counters(&answer)[2]["holds"]["left_out"], 10);
    for counter in counters(&answer) {
        let holds = &counter["holds"];
        let parts: Vec<&Value> = holds["parts"].as_array().into_iter().flatten().collect();
        let told: u64 = parts.iter().map(|part| part["hits"].as_u64().expect("whole")).sum();
        let left_out = holds["left_out"].as_u64().unwrap_or_default();
        assert!(parts.is_empty() || told + left_out == 30, "{counter:#}");
        for part in &parts {
            assert!(micros(&part["since"]) <= micros(&holds["at"]), "{counter:#}");
            assert!(micros(&holds["at"]) < micros(&part["until"]), "{counter:#}");
        }
        assert!(parts.last().is_none_or(|last| last["until"] == holds["until"]), "{counter:#}");
        assert_eq!(counter["remaining"], 70, "the numbers are of the same hits: {counter:#}");
    }
    // The admin listener tells the same, and nobody else's counters hold anything.
    let path = "/explain?entry=user=bob";
    let by_admin = get(tollgate.admin, path, &[]).await.expect("an answer").json();
    assert_eq!(held(&by_admin), held(&answer));
    reads(tollgate, "alice").await;
    answer
}

#[tokio::test]
async fn what_a_counter_holds_in_memory_is_what_was_charged() {
    let rules = RulesDir::with("api.yaml", EACH);
    let tollgate = with_tokens(&rules, &[]).await;
    thirty_hits_are_told(&tollgate).await;

    let grpc = tollgate.grpc.to_string();
    let output =
        run_to_end(&["explain", "--api", "--addr", &grpc, "--entry", "user=bob"], &[("TOLLGATE_TOKEN", "secret")]);
    let said = String::from_utf8(output.stdout).expect("text");
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let lines: Vec<&str> = said.lines().filter_map(|line| line.strip_prefix("  holds     ")).collect();
    for (line, end) in
        lines.iter().zip(["the last until", "the last until", "the last until", "full again at", "empty at"])
    {
        assert!(line.starts_with("30 hits, ") && line.contains(end), "{line} has no {end}:\n{said}");
    }
    assert_eq!(lines.len(), 5, "{said}");
    let log = said.split("api/user#log").nth(1).expect("the log's limit");
    let parts = log.lines().skip_while(|line| !line.starts_with("  holds")).skip(1);
    let parts: Vec<&str> = parts.take_while(|line| line.starts_with("            ")).map(str::trim).collect();
    assert_eq!((parts.len(), parts[4]), (9, "… 22 more between these"), "{said}");
    assert!(parts[0].starts_with("1 since ") && parts[0].contains("Z, until "), "{said}");
}

#[tokio::test]
async fn what_a_counter_holds_in_redis_is_what_was_charged_under_the_key_that_is_told() {
    let redis = RedisServer::start();
    let rules = RulesDir::with("api.yaml", EACH);
    let tollgate = with_tokens(&rules, &[("REDIS_URL", &redis.address()), PATIENT]).await;
    let answer = thirty_hits_are_told(&tollgate).await;
    for counter in counters(&answer) {
        let key = counter["key"].as_str().expect("text");
        assert_eq!(redis.cli(&["EXISTS", key]), "1", "{key}");
        // Kept for as long as it means something, and not for many windows.
        let expires = expires_us(&redis, key);
        let (at, until) = (micros(&counter["holds"]["at"]), micros(&counter["holds"]["until"]));
        let year = 365 * 86_400 * 1_000_000;
        assert!((until..at + 3 * year).contains(&expires), "{expires} µs: {counter:#}");
    }
    let keys = redis.cli(&["KEYS", "*user=*"]);
    assert_eq!(keys.lines().count(), counters(&answer).len(), "nothing besides, and nothing of alice's: {keys}");
    // Reset, it holds nothing, under the same key.
    let reset = json!({"entries": {"user": "bob"}}).to_string();
    assert_eq!(call(tollgate.http, "POST /v1/counters:reset", Some("secret"), &reset).await.status, 200);
    reads(&tollgate, "bob").await;
    assert_eq!(counters(&explained(&tollgate, &json!({"user": "bob"})).await)[0]["key"], counters(&answer)[0]["key"]);
}

#[tokio::test]
async fn in_a_cluster_the_key_is_told_with_the_hash_tag_that_places_it() {
    let cluster = RedisCluster::start();
    let nodes = cluster.nodes.iter().map(RedisServer::address).collect::<Vec<_>>().join(",");
    let rules = RulesDir::with("api.yaml", EACH);
    let tollgate = with_tokens(&rules, &[("REDIS_TYPE", "cluster"), ("REDIS_URL", &nodes), PATIENT]).await;
    let mut holders = std::collections::BTreeSet::new();
    for (hits, user) in (1..).zip(["alice", "bob", "carol", "dave", "erin", "frank"]) {
        reads(&tollgate, user).await;
        charge(&tollgate, json!({"descriptors": [{"entries": {"user": user}}], "hits": hits})).await;
        let answer = explained(&tollgate, &json!({"user": user})).await;
        assert!(held(&answer).iter().all(|(_, held, _)| *held == hits), "{hits} of {user}: {answer:#}");
        for counter in counters(&answer) {
            let key = counter["key"].as_str().expect("text");
            let tag = key.split_once('{').and_then(|(_, rest)| rest.split_once('}')).expect("a hash tag").0;
            let slot = |text| cluster.nodes[0].cli(&["CLUSTER", "KEYSLOT", text]);
            assert_eq!(slot(key), slot(tag), "{key}");
            let has = |node: &&RedisServer| node.cli(&["EXISTS", key]) == "1";
            holders.insert(cluster.nodes.iter().find(has).unwrap_or_else(|| panic!("no node has {key}")).port());
        }
    }
    assert!(holders.len() > 1, "six users lie on more than one of three nodes");
}

#[tokio::test]
async fn what_limits_of_a_second_hold_is_read_from_the_redis_that_they_have_for_themselves() {
    const RULES: &str = "
domain: api
descriptors:
  - key: user
    rate_limit: [{name: now, requests: 100, window: 1s}, {name: daily, requests: 100, window: 1d}]
";
    // Whose clock stands: nothing leaves while the test looks.
    let clock = Clock::new();
    let (main, per_second) = (RedisServer::start(), clock.redis());
    let rules = RulesDir::with("api.yaml", RULES);
    let urls = [main.address(), per_second.address()];
    let env = [("REDIS_URL", &*urls[0]), ("REDIS_PERSECOND", "true"), ("REDIS_PERSECOND_URL", &*urls[1]), PATIENT];
    let tollgate = with_tokens(&rules, &env).await;
    reads(&tollgate, "bob").await;
    charge(&tollgate, json!({"descriptors": [{"entries": {"user": "bob"}}], "hits": 3})).await;
    let answer = explained(&tollgate, &json!({"user": "bob"})).await;
    assert_eq!(held(&answer), [("now", 3, 1), ("daily", 3, 1)], "{answer:#}");
    for (counter, [home, other]) in counters(&answer).iter().zip([[&per_second, &main], [&main, &per_second]]) {
        let key = counter["key"].as_str().expect("text");
        assert_eq!([home, other].map(|redis| redis.cli(&["EXISTS", key])), ["1", "0"], "{key}");
    }
}

/// Of each algorithm, in the order in which their waits are tried.
const SOON: &str = "
domain: api
descriptors:
  - {key: sliding_window, rate_limit: {requests: 5, window: 1m}}
  - {key: fixed_window, rate_limit: {requests: 5, window: 1m, algorithm: fixed_window}}
  - {key: sliding_log, rate_limit: {requests: 5, window: 1m, algorithm: sliding_log}}
  - {key: token_bucket, rate_limit: {requests: 5, window: 1m, algorithm: token_bucket}}
  - {key: leaky_bucket, rate_limit: {requests: 5, window: 1m, algorithm: leaky_bucket}}
";

#[tokio::test]
async fn who_is_refused_passes_again_at_the_moment_that_is_told_and_not_a_microsecond_before() {
    let clock = Clock::new();
    let redis = clock.redis();
    let rules = RulesDir::with("api.yaml", SOON);
    // What is remembered of denials is held by this process' own clock.
    let env = [("REDIS_URL", &*redis.address()), ("TOLLGATE_DENIALS_MAX_BYTES", "0"), PATIENT];
    let tollgate = with_tokens(&rules, &env).await;
    let mut tried = 0;
    for algorithm in ["sliding_window", "fixed_window", "sliding_log", "token_bucket", "leaky_bucket"] {
        let body = json!({"descriptors": [{"entries": {algorithm: "alice"}}]});
        let allowed = async || {
            let answer = call(tollgate.http, "POST /v1/check", None, &body.to_string()).await.json();
            assert_eq!(answer.get("degraded"), None, "{answer}");
            answer["allowed"] == true
        };
        eventually("a counter that can be read", || async {
            counters(&explained(&tollgate, &body).await)[0]["holds"].is_object().then_some(())
        })
        .await;
        while allowed().await {}

        let told = explained(&tollgate, &body).await;
        let counter = &counters(&told)[0];
        let wait = (counter["reset_seconds"].as_f64().expect("a wait") * 1e6).round() as u64;
        let again = micros(&counter["holds"]["at"]) + wait;
        assert_eq!((&counter["admits"], wait > 1), (&json!(false), true), "{told:#}");
        let verdict = told["descriptors"][0]["verdict"].as_str().expect("a sentence");
        assert!(verdict.contains("0 left, passes again in "), "{told:#}");
        if let Some(oldest) = counter["holds"]["parts"].as_array().and_then(|parts| parts.first()) {
            assert_eq!(micros(&oldest["until"]), again, "it passes when the oldest hits leave: {told:#}");
        }

        clock.set_us(again - 1);
        let just_before = explained(&tollgate, &body).await;
        assert_eq!(counters(&just_before)[0]["reset_seconds"], 1e-6, "{algorithm}: {just_before:#}");
        assert!(!allowed().await, "{algorithm}: a microsecond before");
        clock.set_us(again);
        assert_eq!(explained(&tollgate, &body).await["answer"]["allowed"], true, "{algorithm}");
        assert!(allowed().await, "{algorithm}: at the moment");
        tried += 1;
    }
    assert_eq!(tried, 5);
}
