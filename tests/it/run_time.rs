//! What is changed while the service runs, over HTTP: overrides and resets, on one replica with a state directory and on
//! two that share Redis.

mod audit;
mod force;
mod late;
mod owed;

use serde_json::{Value, json};

use crate::{
    api::{client::call, with_tokens},
    harness::{RulesDir, Tollgate, eventually},
    redis_server::{RedisServer, free_port},
};

const RULES: &str = "domain: api\n\
    tiers: {gold: 50/h, silver: 20/h}\n\
    descriptors:\n  \
    - {key: user, rate_limit: {requests_per_unit: 2, unit: hour}}\n";

async fn put(tollgate: &Tollgate, id: &str, spec: Value) -> (u16, Value) {
    change(tollgate, &format!("PUT /v1/domains/api/overrides/{id}"), &spec.to_string()).await
}

/// What was stored, of an answer to a write.
fn without_touches(mut saved: Value) -> Value {
    saved.as_object_mut().expect("an object").remove("touches");
    saved
}

async fn change(tollgate: &Tollgate, what: &str, body: &str) -> (u16, Value) {
    let answer = call(tollgate.http, what, Some("secret"), body).await;
    (answer.status, answer.json())
}

/// Of one more hit of a user.
async fn check(tollgate: &Tollgate, user: &str) -> Value {
    call(tollgate.http, "POST /v1/check", None, &json!({"user": user}).to_string()).await.json()
}

/// The limit that holds for a user, without a hit.
async fn limit(tollgate: &Tollgate, user: &str) -> Value {
    call(tollgate.http, "POST /v1/check", None, &json!({"user": user, "hits": 0}).to_string()).await.json()["limit"]
        .clone()
}

async fn becomes(tollgate: &Tollgate, user: &str, expected: u32) {
    eventually(&format!("a limit of {expected} for {user}"), || async {
        (limit(tollgate, user).await == expected).then_some(())
    })
    .await;
}

/// Both on this Redis.
async fn two_replicas(redis: &RedisServer) -> (RulesDir, [Tollgate; 2]) {
    let rules = RulesDir::with("api.yaml", RULES);
    let address = redis.address();
    let env = [("REDIS_URL", address.as_str())];
    let replicas = [with_tokens(&rules, &env).await, with_tokens(&rules, &env).await];
    // Each reaches Redis, on the connection beside the decisions, when it does.
    for replica in &replicas {
        eventually("a connection beside the decisions", || async {
            (change(replica, "GET /v1/audit", "").await.0 == 200).then_some(())
        })
        .await;
    }
    (rules, replicas)
}

/// Asks until Redis is reached on the connection that writes.
async fn reset(tollgate: &Tollgate, body: Value) -> Value {
    eventually("a connection that resets", || async {
        let (status, counters) = change(tollgate, "POST /v1/counters:reset", &body.to_string()).await;
        (status == 200).then_some(counters)
    })
    .await
}

#[tokio::test]
async fn what_is_set_on_one_replica_holds_on_both_and_is_gone_on_both() {
    let redis = RedisServer::start();
    let (_rules, [here, there]) = two_replicas(&redis).await;
    for replica in [&here, &there] {
        becomes(replica, "alice", 2).await;
    }
    let spec = json!({"match": {"user": "alice"}, "limit": "7/h", "reason": "contract 42", "owner": "sales"});
    let saved = eventually("a connection that writes", || async {
        let (status, saved) = put(&here, "alice", spec.clone()).await;
        (status == 201).then_some(saved)
    })
    .await;
    assert_eq!((&saved["spec"], &saved["updated_by"]), (&spec, &json!("ops")));
    assert_eq!(limit(&here, "alice").await, 7, "whoever set it sees it at once");
    becomes(&there, "alice", 7).await;
    assert_eq!(limit(&there, "bob").await, 2, "nobody else");

    let found = call(there.http, "GET /v1/domains/api/overrides/alice", Some("secret"), "").await;
    assert_eq!(saved["touches"][0]["rule"], "api/user", "{saved:#}");
    assert_eq!(found.json(), without_touches(saved.clone()));
    assert_eq!(found.header("etag"), format!("\"{}\"", saved["etag"].as_str().unwrap()));
    let (status, unlimited) = put(&there, "alice", json!({"match": {"user": "alice"}, "limit": "unlimited"})).await;
    assert_eq!((status, &unlimited["unlimited"]), (200, &json!(true)));
    eventually("no limit for alice", || async { (limit(&here, "alice").await == Value::Null).then_some(()) }).await;

    let (status, deleted) = change(&here, "DELETE /v1/domains/api/overrides/alice?reason=over", "").await;
    assert_eq!((status, &deleted["spec"]), (200, &unlimited["spec"]));
    becomes(&there, "alice", 2).await;
    let (status, audit) = change(&there, "GET /v1/audit?domain=api", "").await;
    let entries: Vec<_> =
        audit["entries"].as_array().unwrap().iter().map(|entry| entry["action"].as_str().unwrap()).collect();
    assert_eq!((status, entries), (200, vec!["override.delete", "override.set", "override.set"]));
    let newest = &audit["entries"][0];
    assert_eq!(
        (&newest["token"], &newest["reason"], &newest["target"]),
        (&json!("ops"), &json!("over"), &json!("alice"))
    );
    assert_eq!((&newest["before"], newest.get("after")), (&unlimited["spec"], None));
}

#[tokio::test]
async fn a_reset_lets_a_denied_user_in_again_on_both_replicas() {
    let redis = RedisServer::start();
    let (_rules, [here, there]) = two_replicas(&redis).await;
    for replica in [&here, &there] {
        becomes(replica, "alice", 2).await;
        eventually("a denial", || async { (check(replica, "alice").await["allowed"] == false).then_some(()) }).await;
    }
    let dry = json!({"domain": "api", "entries": {"user": "alice"}, "dry_run": true}).to_string();
    let (status, counters) = change(&here, "POST /v1/counters:reset", &dry).await;
    assert_eq!((status, &counters["counters"][0]["limit_id"]), (200, &json!("api/user")));
    assert_eq!(check(&here, "alice").await["allowed"], false, "a dry run changes nothing");
    let alice = json!({"domain": "api", "entries": {"user": "alice"}, "reason": "a support case"});
    let counters = reset(&here, alice).await;
    assert_eq!(counters["counters"][0]["limit_id"], "api/user");
    assert!(counters["counters"][0]["key"].as_str().unwrap().ends_with(":api:user=alice"), "{counters}");
    // Two hits an hour, and denials are remembered: only the reset can let one in again on each replica.
    for replica in [&here, &there] {
        eventually("an admission", || async { (check(replica, "alice").await["allowed"] == true).then_some(()) }).await;
    }
    let (_, audit) = change(&there, "GET /v1/audit", "").await;
    assert_eq!(
        (&audit["entries"][0]["action"], &audit["entries"][0]["target"]),
        (&json!("counter.reset"), &json!("(user=alice)"))
    );
    let nobody = json!({"domain": "api", "entries": {"tenant": "a"}}).to_string();
    assert_eq!(change(&here, "POST /v1/counters:reset", &nobody).await.0, 404);
}

#[tokio::test]
async fn a_reset_that_cannot_be_written_down_does_not_happen() {
    let redis = RedisServer::start();
    let (_rules, [here, _]) = two_replicas(&redis).await;
    let bob = json!({"entries": {"user": "bob"}});
    reset(&here, bob.clone()).await;
    eventually("a denial", || async { (check(&here, "alice").await["allowed"] == false).then_some(()) }).await;
    let audit = "tg1:overrides:{api}:audit";
    let counters = || redis.cli(&["KEYS", "*:api:user=alice"]);
    let before = counters();
    assert!(!before.is_empty());
    assert_eq!(redis.cli(&["XLEN", audit]), "1", "that of bob");
    // No stream: whatever is added to it is refused.
    redis.cli(&["DEL", audit]);
    redis.cli(&["SET", audit, "something else"]);
    let body = json!({"entries": {"user": "alice"}}).to_string();
    assert_eq!(change(&here, "POST /v1/counters:reset", &body).await.0, 503);
    assert_eq!(counters(), before, "the counter is as it was");
    redis.cli(&["DEL", audit]);
    assert_eq!(change(&here, "POST /v1/counters:reset", &body).await.0, 200);
    assert_eq!((redis.cli(&["XLEN", audit]), counters()), ("1".to_owned(), String::new()), "gone, with its entry");
}

#[tokio::test]
async fn the_callers_own_limit_is_reset_as_its_check_names_it() {
    let redis = RedisServer::start();
    let (rules, [here, _]) = two_replicas(&redis).await;
    let alone = with_tokens(&rules, &[]).await;
    let own = json!({"user": "alice", "action": "login", "limit": 1, "window_seconds": 3600});
    let login = async |tollgate: &Tollgate| {
        call(tollgate.http, "POST /v1/check", None, &own.to_string()).await.json()["allowed"].clone()
    };
    for tollgate in [&alone, &here] {
        eventually("a denial", || async { (login(tollgate).await == false).then_some(()) }).await;
        // A user's own counters are others.
        reset(tollgate, json!({"entries": {"user": "alice"}})).await;
        assert_eq!(login(tollgate).await, false);
        let body = json!({"user": "alice", "action": "login", "limit": 1, "window_seconds": 3600, "reason": "asked"});
        let counters = reset(tollgate, body).await;
        assert_eq!(counters["counters"].as_array().map(Vec::len), Some(1), "no rule is for logins: {counters}");
        assert_eq!(counters["counters"][0]["limit_id"], "api/(request)");
        eventually("an admission", || async { (login(tollgate).await == true).then_some(()) }).await;
        let (_, audit) = change(tollgate, "GET /v1/audit?domain=api", "").await;
        let target = "(user=alice)(action=login)(limit=1)(window_seconds=3600)";
        assert_eq!(audit["entries"][0]["target"], target);
    }
    for (body, told) in [
        (json!({"entries": {"user": "alice"}, "user": "alice"}), "both say what is counted"),
        (json!({"user": "alice", "action": "login", "window_seconds": 60}), "needs its limit"),
        (json!({}), "1 to 32 keys"),
    ] {
        let (status, problem) = change(&alone, "POST /v1/counters:reset", &body.to_string()).await;
        assert_eq!((status, problem.to_string().contains(told)), (400, true), "{body}: {problem}");
    }
}

/// Calls of a command since `CONFIG RESETSTAT`, those within scripts included.
fn calls(redis: &RedisServer, command: &str) -> u32 {
    let stats = redis.cli(&["info", "commandstats"]);
    let of = |line: &str| line.strip_prefix(&format!("cmdstat_{command}:calls="))?.split(',').next()?.parse().ok();
    stats.lines().find_map(of).unwrap_or(0)
}

#[tokio::test]
async fn a_replica_polls_and_beats_once_a_second_whatever_its_domains_unless_one_of_an_older_release_is_alive() {
    let redis = RedisServer::start();
    let rules = RulesDir::with("api.yaml", RULES);
    for nth in 0..40 {
        rules.write(&format!("more{nth}.yaml"), &RULES.replace("api", &format!("more{nth}")));
    }
    let address = redis.address();
    let tollgate = with_tokens(&rules, &[("REDIS_URL", &address)]).await;
    // A look at a domain has one HMGET, a beat one ZADD for each of its two sets, a poll an XRANGE.
    let per_poll = async |polls: u32| {
        redis.cli(&["config", "resetstat"]);
        eventually("some polls", || async { (calls(&redis, "xrange") >= polls).then_some(()) }).await;
        (calls(&redis, "hmget"), calls(&redis, "zadd"))
    };
    eventually("no looks but the one in turn", || async {
        let (looks, _) = per_poll(1).await;
        (looks <= 2).then_some(())
    })
    .await;
    let (looks, beats) = per_poll(4).await;
    assert!(looks <= 6 && (2..=14).contains(&beats), "{looks} looks and {beats} writes of beats in four polls");
    assert_eq!(tollgate.metric("tollgate_replicas").await, 1.0);

    // As a replica of an older release writes its beat.
    redis.cli(&["eval", "redis.call('ZADD', 'tg1:{0}:replicas', redis.call('TIME')[1] + 0, 'old')", "0"]);
    eventually("looks at every domain", || async {
        let (looks, _) = per_poll(1).await;
        (looks >= 40).then_some(())
    })
    .await;
    // It beats no more, and is forgotten.
    eventually("no looks but the one in turn", || async {
        let (looks, _) = per_poll(1).await;
        (looks <= 2).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_replica_that_never_reached_redis_tells_for_how_long_it_knows_nothing() {
    let nobody = format!("127.0.0.1:{}", free_port());
    let rules = RulesDir::with("api.yaml", RULES);
    let tollgate = with_tokens(&rules, &[("REDIS_URL", &nobody)]).await;
    let age = async || tollgate.metric("tollgate_run_time_overrides_sync_age_seconds").await;
    let first = eventually("an age", || async { Some(age().await).filter(|age| *age > 0.0) }).await;
    eventually("a greater age", || async { (age().await > first).then_some(()) }).await;
}

#[tokio::test]
async fn in_a_state_directory_overrides_outlive_the_process() {
    let (rules, state) = (RulesDir::with("api.yaml", RULES), tempfile::tempdir().unwrap());
    let env = [("TOLLGATE_STATE_DIR", state.path().to_str().unwrap())];
    let mut tollgate = with_tokens(&rules, &env).await;
    let (_, kept) = put(&tollgate, "alice", json!({"match": {"user": "alice"}, "limit": "7/h"})).await;
    put(&tollgate, "bob", json!({"match": {"user": "bob"}, "limit": "8/h"})).await;
    assert_eq!(change(&tollgate, "DELETE /v1/domains/api/overrides/bob", "").await.0, 200);
    // As a crash does: what was answered was kept.
    tollgate.process.kill();
    let again = with_tokens(&rules, &env).await;
    assert_eq!((limit(&again, "alice").await, limit(&again, "bob").await), (json!(7), json!(2)));
    assert_eq!(change(&again, "GET /v1/domains/api/overrides/alice", "").await, (200, without_touches(kept)));
    let (_, audit) = change(&again, "GET /v1/audit?page_size=2", "").await;
    assert_eq!(audit["entries"].as_array().unwrap().len(), 2);
    let rest = format!("GET /v1/audit?page_token={}", audit["next_page_token"].as_str().unwrap());
    let (_, rest) = change(&again, &rest, "").await;
    assert_eq!((rest["entries"].as_array().unwrap().len(), &rest["entries"][0]["target"]), (1, &json!("alice")));
}

#[tokio::test]
async fn a_tier_changes_its_members_and_one_that_is_gone_leaves_its_last_numbers() {
    let rules = RulesDir::with("api.yaml", RULES);
    let tollgate = with_tokens(&rules, &[]).await;
    let (_, saved) = put(&tollgate, "alice", json!({"match": {"user": "alice"}, "limit": {"tier": "gold"}})).await;
    assert_eq!(saved["limits"][0]["requests"], 50);
    assert!(saved["warnings"][0].as_str().unwrap().contains("in memory only"), "no state directory: {saved}");
    rules.write("api.yaml", &RULES.replace("gold: 50/h", "gold: 60/h"));
    becomes(&tollgate, "alice", 60).await;
    rules.write("api.yaml", &RULES.replace("gold: 50/h, ", ""));
    let gone = eventually("a warning that the tier is gone", || async {
        let (_, shown) = change(&tollgate, "GET /v1/domains/api/overrides/alice", "").await;
        shown["warnings"][0].as_str().unwrap_or_default().contains("last numbers").then_some(shown)
    })
    .await;
    assert_eq!(gone["limits"][0]["requests"], 50, "as they were when it was written: {gone}");
    assert_eq!(limit(&tollgate, "alice").await, 50);
}

#[tokio::test]
async fn conditions_pages_and_dry_runs_do_what_they_say() {
    let rules = RulesDir::with("api.yaml", RULES);
    let tollgate = with_tokens(&rules, &[]).await;
    let spec = |user: &str| json!({"match": {"user": user}, "limit": "7/h"});
    let dry = change(&tollgate, "PUT /v1/domains/api/overrides/a?dry_run=true", &spec("alice").to_string()).await;
    assert_eq!((dry.0, &dry.1["limits"][0]["requests"]), (200, &json!(7)));
    assert_eq!(change(&tollgate, "GET /v1/domains/api/overrides/a", "").await.0, 404, "a dry run writes nothing");
    for (id, user) in [("a", "alice"), ("b", "bob"), ("c", "albert")] {
        assert_eq!(put(&tollgate, id, spec(user)).await.0, 201);
    }
    let list = async |query: &str| {
        let (_, page) = change(&tollgate, &format!("GET /v1/domains/api/overrides?{query}"), "").await;
        let ids = page["overrides"]
            .as_array()
            .map_or_else(Vec::new, |rows| rows.iter().map(|row| row["id"].clone()).collect());
        (ids, page["next_page_token"].as_str().unwrap_or_default().to_owned())
    };
    let (first, token) = list("page_size=2").await;
    assert_eq!(first, ["a", "b"]);
    assert_eq!(list(&format!("page_size=2&page_token={token}")).await, (vec![json!("c")], String::new()));
    assert_eq!(list("key=user&value_prefix=al").await.0, ["a", "c"]);
    assert_eq!(change(&tollgate, "GET /v1/domains/api/overrides?page_token=zz", "").await.0, 400);
    let stale = [("authorization", "Bearer secret"), ("if-match", "\"1\"")];
    let body = spec("anna").to_string();
    let refused = crate::harness::send(tollgate.http, "PUT", "/v1/domains/api/overrides/a", &stale, body.into()).await;
    assert_eq!(refused.expect("an answer").status, 412);
    assert_eq!(limit(&tollgate, "alice").await, 7, "nothing half-applied");
}

#[tokio::test]
async fn a_bad_override_is_refused_with_its_place() {
    let rules = RulesDir::with("api.yaml", RULES);
    let tollgate = with_tokens(&rules, &[]).await;
    for (spec, told) in [
        (json!({"match": {"user": "a"}, "limit": "5/s", "expires": "2001-01-01"}), "past"),
        (json!({"match": {"user": "a"}, "limit": "5/s", "for": "0s"}), "longer than 0"),
        (json!({"match": {"user": "a"}, "limit": "5/s", "for": "soon"}), "whole numbers"),
        (json!({"match": {"user": "a"}, "limit": {"tier": "gould"}}), "gold"),
        (json!({"match": {"tenant": "a"}, "limit": "5/s"}), "tenant"),
        (json!({"match": {"user": "a"}, "limit": "5/s", "rule": "nowhere"}), "nowhere"),
        (json!({"match": {"user": "a"}, "limit": {"requests": 5, "window": "0s"}}), "longer than 0"),
        (json!({"match": {}, "limit": "5/s"}), "keys"),
        (json!({"match": {"user": "a"}, "limit": "5/s", "until": "later"}), "until"),
    ] {
        let (status, problem) = put(&tollgate, "a", spec.clone()).await;
        assert_eq!((status, problem.to_string().contains(told)), (400, true), "{spec}: {problem}");
    }
    assert_eq!(change(&tollgate, "GET /v1/domains/api/overrides/a", "").await.0, 404);
    let (status, saved) = put(&tollgate, "a", json!({"match": {"user": "a"}, "limit": "5/s", "for": "4h"})).await;
    assert_eq!((status, saved["spec"].get("for")), (201, None));
    assert!(saved["spec"]["expires"].is_string(), "kept as the moment that it comes to: {saved}");
}
