//! Which limit is in force, on two replicas that share Redis: who comes first, until when, by which tier, and when Redis
//! forgets.

use envoy_types::pb::envoy::extensions::common::ratelimit::v3::{
    RateLimitDescriptor, rate_limit_descriptor::RateLimitOverride,
};
use serde_json::{Value, json};

use super::{becomes, change, limit, put, two_replicas};
use crate::{
    api::with_tokens,
    harness::{Answer, RulesDir, Tollgate, descriptor, eventually, request, send},
    redis_clock::Clock,
    redis_server::RedisServer,
};

/// Writes once Redis is reached on the connection that writes.
async fn set(tollgate: &Tollgate, id: &str, spec: Value) -> Value {
    eventually("a connection that writes", || async {
        let (status, saved) = put(tollgate, id, spec.clone()).await;
        [200, 201].contains(&status).then_some(saved)
    })
    .await
}

#[tokio::test]
async fn run_time_beats_the_request_beats_the_disk_beats_the_rule_on_both_replicas() {
    const RULES: &str = "domain: api\n\
        descriptors:\n  \
        - key: user\n    rate_limit: 20/h\n    \
          overrides: [{match: {user: disk}, limit: 30/h}, {match: {user: both}, limit: 30/h}]\n";
    const HOUR: i32 = 3;
    let redis = RedisServer::start();
    let (rules, address) = (RulesDir::with("api.yaml", RULES), redis.address());
    let env = [("REDIS_URL", address.as_str()), ("TOLLGATE_STORE_TIMEOUT", "20s")];
    let replicas = [with_tokens(&rules, &env).await, with_tokens(&rules, &env).await];
    for user in ["set", "both"] {
        set(&replicas[0], user, json!({"match": {"user": user}, "limit": "70/h"})).await;
        for replica in &replicas {
            becomes(replica, user, 70).await;
        }
    }
    for replica in &replicas {
        let client = replica.client();
        let asked = async |user: &str, in_request: Option<u32>| {
            let limit = in_request.map(|requests_per_unit| RateLimitOverride { requests_per_unit, unit: HOUR });
            let descriptor = RateLimitDescriptor { limit, ..descriptor(&[("user", user)]) };
            let answer = client.ask(request("api", vec![descriptor])).await.expect("a decision");
            answer.statuses[0].current_limit.as_ref().map(|limit| limit.requests_per_unit)
        };
        for (user, in_request, expected) in [
            ("nobody", None, 20),
            ("nobody", Some(50), 50),
            ("disk", None, 30),
            ("disk", Some(50), 50),
            ("set", None, 70),
            ("set", Some(50), 70),
            ("both", None, 70),
            ("both", Some(50), 70),
        ] {
            assert_eq!(asked(user, in_request).await, Some(expected), "{user}, {in_request:?} in the request");
        }
    }
}

#[tokio::test]
async fn a_tier_changes_all_its_members_at_the_next_reload() {
    const RULES: &str = "domain: api\n\
        tiers: {gold: 50/h}\n\
        descriptors:\n  \
        - key: user\n    rate_limit: {tier: gold}\n    overrides_from: [users.csv]\n    \
          overrides: [{match: {user: inline}, limit: {tier: gold}}, \
                      {match: {user: patched}, limit: {tier: gold, algorithm: fixed_window}}, \
                      {match: {user: other}, limit: 5/h}]\n";
    let rules = RulesDir::with("api.yaml", RULES);
    rules.write("users.csv", "match.user,tier\nfile,gold\n");
    let tollgate = with_tokens(&rules, &[]).await;
    set(&tollgate, "a", json!({"match": {"user": "run-time"}, "limit": {"tier": "gold"}})).await;
    let members = ["anybody", "file", "inline", "patched", "run-time"];
    for member in members {
        assert_eq!(limit(&tollgate, member).await, 50, "{member}");
    }
    rules.write("api.yaml", &RULES.replace("gold: 50/h", "gold: 60/h"));
    for member in members {
        becomes(&tollgate, member, 60).await;
    }
    assert_eq!(limit(&tollgate, "other").await, 5, "nobody else");
    let saved = change(&tollgate, "GET /v1/domains/api/overrides/a", "").await.1;
    assert_eq!((&saved["limits"][0]["requests"], &saved["limits"][0]["tier"]), (&json!(60), &json!("gold")), "{saved}");
}

#[tokio::test]
async fn an_override_outlives_a_flushall_without_a_moment_in_which_it_does_not_hold() {
    let redis = RedisServer::start();
    let (rules, replicas) = two_replicas(&redis).await;
    set(&replicas[0], "alice", json!({"match": {"user": "alice"}, "limit": "7/h"})).await;
    for replica in &replicas {
        becomes(replica, "alice", 7).await;
    }
    redis.cli(&["FLUSHALL"]);
    eventually("the override in Redis again", || async {
        for replica in &replicas {
            assert_eq!(limit(replica, "alice").await, 7, "it never stops being in force");
        }
        (redis.cli(&["HEXISTS", "tg1:overrides:{api}", "alice"]) == "1").then_some(())
    })
    .await;
    let address = redis.address();
    let late = with_tokens(&rules, &[("REDIS_URL", &address)]).await;
    becomes(&late, "alice", 7).await;
    assert_eq!(change(&late, "DELETE /v1/domains/api/overrides/alice", "").await.0, 200);
    for replica in &replicas {
        becomes(replica, "alice", 2).await;
    }
}

#[tokio::test]
async fn an_override_ends_by_the_clock_of_redis_whatever_that_of_a_replica_says() {
    let clock = Clock::new();
    let redis = clock.redis();
    let (_rules, replicas) = two_replicas(&redis).await;
    // Redis is far ahead of this machine, whose clock would let it hold for a long time yet.
    let expires = "2100-01-01T00:00:00Z";
    let end = tollgate::limit::moment::parse(expires).expect("a moment").0;
    set(&replicas[0], "alice", json!({"match": {"user": "alice"}, "limit": "7/h", "expires": expires})).await;
    const MINUTE: u64 = 60_000_000;
    clock.set_us(end - MINUTE);
    for replica in &replicas {
        becomes(replica, "alice", 7).await;
    }
    clock.set_us(end + MINUTE);
    for replica in &replicas {
        becomes(replica, "alice", 2).await;
    }
}

#[tokio::test]
async fn dry_runs_and_conditions_are_judged_by_what_redis_has() {
    let redis = RedisServer::start();
    let (_rules, [here, there]) = two_replicas(&redis).await;
    let spec = |limit: &str| json!({"match": {"user": "alice"}, "limit": limit}).to_string();
    let ask = async |tollgate: &Tollgate, method: &str, query: &str, condition: (&str, &str), body: String| -> Answer {
        let headers = [("authorization", "Bearer secret"), condition];
        let path = format!("/v1/domains/api/overrides/a{query}");
        send(tollgate.http, method, &path, &headers, body.into()).await.expect("an answer")
    };
    set(&here, "a", json!({"match": {"user": "alice"}, "limit": "7/h"})).await;
    set(&there, "warm", json!({"match": {"user": "nobody"}, "limit": "7/h"})).await;
    let first = ask(&here, "GET", "", ("accept", "*/*"), String::new()).await.header("etag").to_owned();
    let stale = "\"1\"";

    for (method, body) in [("PUT", spec("8/h")), ("DELETE", String::new())] {
        let dry = ask(&here, method, "?dry_run=true", ("if-match", &first), body.clone()).await;
        assert_eq!(dry.status, 200, "{method}: {dry:?}");
        let refused = ask(&here, method, "?dry_run=true", ("if-match", stale), body.clone()).await;
        assert_eq!(refused.status, 412, "{method}: {refused:?}");
        let refused = ask(&here, method, "", ("if-match", stale), body).await;
        assert_eq!(refused.status, 412, "{method}: {refused:?}");
    }
    assert_eq!(ask(&here, "PUT", "", ("if-none-match", "*"), spec("8/h")).await.status, 412);
    let kept = ask(&here, "GET", "", ("accept", "*/*"), String::new()).await;
    assert_eq!(
        (kept.header("etag"), &kept.json()["limits"][0]["requests"]),
        (&*first, &json!(7)),
        "nothing was changed"
    );

    let second = ask(&here, "PUT", "", ("if-match", &first), spec("8/h")).await;
    assert_eq!(second.status, 200, "{second:?}");
    let second = second.header("etag").to_owned();
    // The other replica need not have heard of it: Redis knows.
    assert_eq!(ask(&there, "PUT", "", ("if-match", &first), spec("9/h")).await.status, 412);
    assert_eq!(ask(&there, "DELETE", "", ("if-match", &first), String::new()).await.status, 412);
    becomes(&there, "alice", 8).await;
    assert_eq!(ask(&there, "DELETE", "", ("if-match", &second), String::new()).await.status, 200);
    becomes(&here, "alice", 2).await;
}
