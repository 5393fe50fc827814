//! What bounds an explanation: who may ask for one, a store that fails, and places to wait for it.

use std::fs;

use serde_json::{Value, json};

use crate::{
    api::{client::call, token_line, with_tokens, write_tokens},
    harness::{ONE_MAY_WAIT, REDIS_CONNECTIONS, RulesDir, Tollgate, eventually, get, run_to_end},
    redis_server::RedisServer,
};

const RULES: &str = "
domain: api
tiers: {gold: {requests: 50, window: 1h, on_store_failure: closed}}
descriptors:
  - key: user
    rate_limit: 2/h
    overrides: [{match: {user: vip}, limit: {tier: gold}, reason: contract 42, owner: sales}]
";

async fn explained(tollgate: &Tollgate, body: &Value) -> Value {
    call(tollgate.http, "POST /v1/explain", Some("secret"), &body.to_string()).await.json()
}

/// What the command says on standard error, which is one line, having failed.
fn refused(args: &[&str], token: &str) -> String {
    ends_with(1, args, token)
}

fn ends_with(code: i32, args: &[&str], token: &str) -> String {
    let env = [("TOLLGATE_TOKEN", token)];
    let output = run_to_end(&[&["explain", "--api", "--entry", "user=vip"], args].concat(), &env);
    let said = String::from_utf8(output.stderr).expect("text");
    assert_eq!((output.status.code(), output.stdout.len(), said.lines().count()), (Some(code), 0, 1), "{said}");
    said
}

#[tokio::test]
async fn the_command_asks_a_service_with_a_token_and_says_in_one_line_why_it_can_not() {
    let rules = RulesDir::with("api.yaml", RULES);
    let tokens = rules.path().join("tokens");
    write_tokens(&tokens, &(token_line("ops", "secret", "explain@api") + &token_line("ci", "checks", "check")));
    let env = [("TOLLGATE_API_TOKEN_FILE", tokens.to_str().expect("temporary paths are text"))];
    let tollgate = Tollgate::start_with(rules.path(), &env).await;
    let at = tollgate.grpc.to_string();
    let addr = ["--addr", &*at];

    let file = rules.path().join("token");
    fs::write(&file, "secret\n").expect("the directory is ours");
    let file = ["--token-file", file.to_str().expect("text")];
    let asked = ["explain", "--api", "--entry", "user=vip", "--json"];
    let output = run_to_end(&[&asked[..], &addr, &file].concat(), &[]);
    let answer: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(answer["descriptors"][0]["override"]["reason"], "contract 42", "{answer:#}");

    let said = refused(&addr, "");
    assert!(said.contains("needs a token") && said.contains("--token-file FILE, or TOLLGATE_TOKEN"), "{said}");
    let said = refused(&addr, "sesame");
    assert!(said.contains("token") && !said.contains("sesame"), "{said}");
    let said = refused(&addr, "checks");
    assert!(said.contains("token ci lacks the scope explain") && !said.contains("checks"), "{said}");
    let said = refused(&[&addr[..], &["--domain", "elsewhere"]].concat(), "secret");
    assert!(said.contains("elsewhere"), "{said}");
    let said = refused(&["--addr", "127.0.0.1:1"], "secret");
    assert!(said.contains("no connection to 127.0.0.1:1"), "{said}");
    let said = ends_with(2, &["--addr", "http://not an address"], "secret");
    assert!(said.contains("is no address"), "{said}");
}

#[tokio::test]
async fn while_redis_is_down_rule_override_and_keys_are_told_and_what_is_done_instead() {
    let mut redis = RedisServer::start();
    let rules = RulesDir::with("api.yaml", RULES);
    let tollgate = with_tokens(&rules, &[("REDIS_URL", &redis.address())]).await;
    let vip = json!({"user": "vip"});
    let before = eventually("what is held", || async {
        let answer = explained(&tollgate, &vip).await;
        answer["descriptors"][0]["counters"][0]["holds"].is_object().then_some(answer)
    })
    .await;
    assert_eq!(before.get("store_error"), None, "{before:#}");
    redis.kill();

    let answer = explained(&tollgate, &vip).await;
    assert!(answer["store_error"].as_str().is_some_and(|why| why.starts_with("the store ")), "{answer:#}");
    let answered = &answer["answer"];
    assert_eq!((&answered["allowed"], &answered["degraded"]), (&json!(false), &json!("closed")), "{answer:#}");
    let (now, then) = (&answer["descriptors"][0], &before["descriptors"][0]);
    for told in ["steps", "rule", "place", "override"] {
        assert_eq!(now[told], then[told], "{answer:#}");
    }
    assert_eq!(now["override"]["match"], json!({"user": "vip"}));
    let (now, then) = (&now["counters"][0], &then["counters"][0]);
    assert_eq!((&now["key"], &now["limit"]), (&then["key"], &then["limit"]), "{answer:#}");
    assert_eq!(now["on_store_failure"], "closed", "{answer:#}");
    for untold in ["admits", "remaining", "reset_seconds", "holds"] {
        assert_eq!(now.get(untold), None, "{answer:#}");
    }
    assert!(
        answer["descriptors"][0]["verdict"].as_str().unwrap().contains("is closed while the store fails"),
        "{answer:#}"
    );

    let admin = tollgate.admin.to_string();
    let (said, code) = super::explain(&["--admin", &admin, "--entry", "user=vip"]);
    assert_eq!(code, Some(0), "{said}");
    for told in ["  override  user=vip (", "  counter   tg1:", "  on error  closed", "the store failed: the store "] {
        assert!(said.contains(told), "no {told}:\n{said}");
    }
    assert!(!said.contains("holds") && !said.contains(" left"), "{said}");
}

/// As in a fleet of three, whose limits count locally while Redis is away.
#[tokio::test]
async fn while_redis_is_down_the_local_counter_that_decides_is_told_and_what_is_owed() {
    let mut redis = RedisServer::start();
    let rules = RulesDir::with("api.yaml", "domain: api\ndescriptors: [{key: user, rate_limit: 7/h}]\n");
    let url = redis.address();
    let env = [("REDIS_URL", &*url), ("TOLLGATE_EXPECTED_REPLICAS", "3")];
    let tollgate = with_tokens(&rules, &env).await;
    tollgate.redis_connections_are(REDIS_CONNECTIONS).await;
    // What was sent and not answered would be lost, not owed.
    redis.kill();
    let alice = json!({"user": "alice"});
    eventually("a refusal by this replica's share", || async {
        let answer = call(tollgate.http, "POST /v1/check", None, &alice.to_string()).await;
        (answer.status == 429).then_some(())
    })
    .await;
    let answer = explained(&tollgate, &alice).await;
    let counter = &answer["descriptors"][0]["counters"][0];
    let local = &counter["local"];
    assert_eq!(
        (&local["requests"], &local["replicas"], &local["admits"], &local["remaining"]),
        (&json!(2), &json!(3), &json!(false), &json!(0)),
        "{answer:#}"
    );
    assert_eq!((&counter["deferred"], counter.get("remaining")), (&json!(2), None), "{answer:#}");
    assert_eq!((&answer["answer"]["allowed"], &answer["answer"]["degraded"]), (&json!(false), &json!("local")));

    let admin = tollgate.admin.to_string();
    let (said, code) = super::explain(&["--admin", &admin, "--entry", "user=alice"]);
    assert_eq!(code, Some(0), "{said}");
    for told in [
        "  local     2 in 1h for each of 3 replicas; 0 left, admits again in ",
        "  owed      2 hits that this replica admitted",
        "  so        refused by this replica's own share of api/user while the store fails: 0 left, passes again in ",
        "the store failed: the store ",
        "this request would be refused, until ",
    ] {
        assert!(said.contains(told), "no {told}:\n{said}");
    }
    // One wait, to the millisecond, wherever it is told.
    let wait = |before: &str| said.split(before).nth(1).and_then(|rest| rest.split_whitespace().next());
    let waits = ["admits again in ", "passes again in ", "would be refused, until "].map(wait);
    assert!(waits[0].is_some() && waits.iter().all(|one| *one == waits[0]), "{waits:?}:\n{said}");
}

#[tokio::test]
async fn an_explanation_takes_a_place_among_those_that_may_wait_for_the_store() {
    let redis = RedisServer::start();
    let rules = RulesDir::with("api.yaml", &RULES.replace("gold: {", "gold: {name: gold, "));
    let url = redis.address();
    let env = [&[("REDIS_URL", url.as_str())][..], &ONE_MAY_WAIT].concat();
    let tollgate = with_tokens(&rules, &env).await;
    tollgate.redis_connections_are(REDIS_CONNECTIONS - 1.0).await;
    redis.freeze();
    let (http, vip) = (tollgate.http, json!({"user": "vip"}));
    let waiting =
        tokio::spawn(async move { call(http, "POST /v1/explain", Some("secret"), r#"{"user": "vip"}"#).await });
    eventually("the question to Redis", || async {
        (tollgate.metric("tollgate_redis_batches_total").await >= 1.0).then_some(())
    })
    .await;

    // Nobody else has a place: a check gets its limit's policy, and an explanation says that nobody was asked.
    let check = call(http, "POST /v1/check", None, &vip.to_string()).await;
    assert_eq!((check.status, &check.json()["degraded"]), (429, &json!("closed")), "{check:?}");
    let crowded = explained(&tollgate, &vip).await;
    assert_eq!(crowded["store_error"], "too many requests wait for the store", "{crowded:#}");
    assert_eq!(crowded["descriptors"][0]["rule"], "api/user", "{crowded:#}");
    assert_eq!(crowded["descriptors"][0]["override"]["reason"], "contract 42", "{crowded:#}");
    assert!(crowded["descriptors"][0]["counters"][0]["key"].is_string(), "{crowded:#}");
    assert_eq!(tollgate.metric("tollgate_shed_requests_total").await, 1.0, "explanations count nothing");
    // The admin listener isn't for the callers, who can't crowd its user out: it waits for the store like the first.
    assert!(!waiting.is_finished());
    redis.thaw();
    let first = waiting.await.expect("an answer").json();
    assert_eq!((first.get("store_error"), &first["answer"]["allowed"]), (None, &json!(true)), "{first:#}");
    assert_eq!(explained(&tollgate, &vip).await.get("store_error"), None, "the place is free again");
    let by_admin = get(tollgate.admin, "/explain?entry=user=vip", &[]).await.expect("an answer").json();
    assert_eq!(by_admin["descriptors"][0]["counters"][0]["key"], first["descriptors"][0]["counters"][0]["key"]);
}

#[tokio::test]
async fn overrides_and_the_limit_of_a_checks_own_are_told_with_their_counters() {
    let rules = RulesDir::with("api.yaml", RULES);
    let tollgate = with_tokens(&rules, &[]).await;
    let spec = json!({"match": {"user": "alice"}, "limit": {"tier": "gold"}, "for": "4h", "reason": "ticket 7"});
    let set = call(tollgate.http, "PUT /v1/domains/api/overrides/a-1", Some("secret"), &spec.to_string()).await;
    assert_eq!(set.status, 201, "{set:?}");

    let own = json!({"user": "alice", "action": "login", "limit": 5, "window_seconds": 60});
    let check = call(tollgate.http, "POST /v1/check", None, &own.to_string()).await;
    assert_eq!(check.json()["limit_id"], "api/(request)");
    let answer = explained(&tollgate, &own).await;
    let counter = &answer["descriptors"][0]["counters"][0];
    assert_eq!(
        (&counter["limit_id"], &counter["limit"]["requests"]),
        (&json!("api/(request)"), &json!(5)),
        "{answer:#}"
    );
    assert_eq!((&counter["holds"]["hits"], &counter["remaining"]), (&json!(1.0), &json!(4)), "{answer:#}");
    assert!(counter["key"].as_str().unwrap().contains("user=alice:action=login"), "{answer:#}");

    call(tollgate.http, "POST /v1/check", None, r#"{"user": "alice"}"#).await;
    let answer = explained(&tollgate, &json!({"user": "alice"})).await;
    let (found, counter) = (&answer["descriptors"][0]["override"], &answer["descriptors"][0]["counters"][0]);
    let told = (&found["source"], &found["id"], &found["reason"], &found["expires"]);
    let expires = call(tollgate.http, "GET /v1/domains/api/overrides/a-1", Some("secret"), "").await.json();
    let expected = (&json!("run_time"), &json!("a-1"), &json!("ticket 7"), &expires["spec"]["expires"]);
    assert_eq!(told, expected, "{answer:#}");
    assert_eq!((&counter["limit"]["requests"], &counter["holds"]["hits"]), (&json!(50), &json!(1.0)), "{answer:#}");

    assert_eq!(counter["limit"]["tier"], "gold", "{answer:#}");

    let answer = explained(&tollgate, &json!({"user": "vip"})).await;
    assert_eq!(answer["descriptors"][0]["counters"][0]["limit"]["tier"], "gold", "{answer:#}");
    let found = &answer["descriptors"][0]["override"];
    assert_eq!((&found["source"], &found["owner"]), (&json!("file"), &json!("sales")), "{answer:#}");
    let place = format!("{}:7", rules.path().join("api.yaml").display());
    assert_eq!(found["place"], place, "{answer:#}");
    let grpc = tollgate.grpc.to_string();
    let asked = ["explain", "--api", "--addr", &grpc, "--entry", "user=alice"];
    let output = run_to_end(&asked, &[("TOLLGATE_TOKEN", "secret")]);
    let said = String::from_utf8(output.stdout).expect("text");
    assert!(said.contains("  override  user=alice (set at run time as a-1), ends 2"), "{said}");
    assert!(said.contains("  limit     api/user: 50 in 1h, sliding_window, tier gold; 49 left"), "{said}");

    // Its tier is gone: the last numbers hold, and the explanation says so.
    rules.write("api.yaml", &RULES.replace("gold", "silver"));
    let answer = eventually("a warning that the tier is gone", || async {
        let answer = explained(&tollgate, &json!({"user": "alice"})).await;
        answer["descriptors"][0]["override"]["warning"].is_string().then_some(answer)
    })
    .await;
    let (found, counter) = (&answer["descriptors"][0]["override"], &answer["descriptors"][0]["counters"][0]);
    assert!(found["warning"].as_str().unwrap().contains("there is no tier `gold`"), "{answer:#}");
    assert_eq!((&counter["limit"]["requests"], counter["limit"].get("tier")), (&json!(50), None), "{answer:#}");
    let output = run_to_end(&asked, &[("TOLLGATE_TOKEN", "secret")]);
    let said = String::from_utf8(output.stdout).expect("text");
    assert!(said.contains(", but its limit can't be read any more, so its last numbers hold"), "{said}");
}
