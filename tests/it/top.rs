//! `tollgate top`, `/v1/top`, gRPC's `Top` and the admin listener's `/v1/top`: who is refused most, as a real process has
//! counted it, who may ask, and how values are shown.

mod privacy;
mod refusing;

use serde_json::{Value, json};
use tollgate::front::api::{TopRequest, tollgate_client::TollgateClient};
use tonic::Request;

use crate::{
    api::{client::call, token_line, write_tokens},
    harness::{RulesDir, Tollgate, channel, get, run_to_end},
    redis_server::RedisServer,
};

const RULES: &str = "
domain: api
descriptors:
  - key: user
    rate_limit: {requests: 2, window: 1h}
  - {key: tried, shadow_mode: true, rate_limit: {requests: 1, window: 1h}}
";

const SHOP: &str = "domain: shop\ndescriptors:\n  - {key: cart, rate_limit: {requests: 1, window: 1h}}\n";

/// What the command prints, and its exit code.
fn top(tollgate: &Tollgate, args: &[&str]) -> (String, Option<i32>) {
    let admin = tollgate.admin.to_string();
    let output = run_to_end(&[&["top", "--admin", &admin], args].concat(), &[]);
    let said = if output.status.success() { output.stdout } else { output.stderr };
    (String::from_utf8(said).expect("text"), output.status.code())
}

/// Limit, descriptor, and the counts of denied, hits and shadow.
fn entries(answer: &Value) -> Vec<Value> {
    let all = answer["entries"].as_array().unwrap_or_else(|| panic!("no entries in {answer}"));
    all.iter().map(|it| json!([it["limit"], it["descriptor"], it["denied"], it["hits"], it["shadow"]])).collect()
}

async fn flood(tollgate: &Tollgate) {
    let client = tollgate.client();
    for (key, value, times) in [("user", "alice", 7), ("user", "bob", 3), ("user", "carol", 1), ("tried", "x", 4)] {
        for _ in 0..times {
            client.admits("api", &[(key, value)]).await;
        }
    }
}

async fn asked(tollgate: &Tollgate, path: &str) -> Value {
    get(tollgate.admin, path, &[]).await.expect("an answer").json()
}

#[tokio::test]
async fn the_counters_with_most_come_first_on_every_store() {
    let (rules, redis) = (RulesDir::with("api.yaml", RULES), RedisServer::start());
    let (url, memory) = (redis.address(), ("USE_STATSD", "false"));
    for store in [memory, ("REDIS_URL", &*url)] {
        let tollgate = Tollgate::start_with(rules.path(), &[store, ("TOLLGATE_FLEET", "shop-eu")]).await;
        if store != memory {
            tollgate.redis_connections_are(crate::harness::REDIS_CONNECTIONS).await;
        }
        flood(&tollgate).await;
        let answer = asked(&tollgate, "/v1/top").await;
        assert_eq!((&answer["fleet"], &answer["replicas"]), (&json!("shop-eu"), &json!(1)), "{answer}");
        assert_eq!((&answer["by"], &answer["since"]), (&json!("denied"), &json!("10m")), "{answer}");
        assert_eq!(
            entries(&answer),
            [json!(["api/user", "user=alice", 5, 7, 0]), json!(["api/user", "user=bob", 1, 3, 0])]
        );
        assert!(answer["entries"].as_array().unwrap().iter().all(|entry| entry["error"] == 0), "{answer}");
        let most_hits = asked(&tollgate, "/v1/top?by=hits&n=1&since=1m").await;
        assert_eq!(entries(&most_hits), [json!(["api/user", "user=alice", 5, 7, 0])]);
        assert_eq!(most_hits["others_at_most"], 4, "{most_hits}");
        let would_be = asked(&tollgate, "/v1/top?by=shadow&since=1h").await;
        assert_eq!(entries(&would_be), [json!(["api/tried", "tried=x", 0, 4, 3])]);
        let of_one = asked(&tollgate, "/v1/top?by=hits&entry=user=bob&limit=api/user").await;
        assert_eq!(entries(&of_one), [json!(["api/user", "user=bob", 1, 3, 0])]);
        assert_eq!(entries(&asked(&tollgate, "/v1/top?limit=api/tried").await), [Value::Null; 0]);
        assert!(tollgate.metric("tollgate_top_bytes").await > 0.0);
    }
}

#[tokio::test]
async fn the_command_prints_a_table_or_json() {
    let rules = RulesDir::with("api.yaml", RULES);
    let tollgate = Tollgate::start(rules.path()).await;
    let (text, code) = top(&tollgate, &[]);
    assert!(text.starts_with("fleet tollgate, 1 replica\nmost denied over the last 10m, since 20"), "{text}");
    assert!(text.ends_with("\nnobody\n") && code == Some(0), "{text}");
    assert!(text.lines().nth(1).is_some_and(|line| line.ends_with(" min ago)")), "a moment with its distance: {text}");
    flood(&tollgate).await;
    let (text, _) = top(&tollgate, &["--by", "hits", "--since", "1m", "-n", "2"]);
    let table: Vec<&str> = text.lines().skip(2).collect();
    let expected = [
        "DENIED  HITS  SHADOW  ERROR  LIMIT      DESCRIPTOR",
        "     5     7       0      0  api/user   user=alice",
        "     0     4       3      0  api/tried  tried=x",
        "no other has more than 3",
    ];
    assert_eq!(table, expected, "{text}");
    let (text, _) = top(&tollgate, &["--entry", "user=bob", "--json"]);
    let answer: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(entries(&answer), [json!(["api/user", "user=bob", 1, 3, 0])]);
    for (args, says) in [
        (&["--since", "5m"][..], "[possible values: 1m, 10m, 1h]"),
        (&["--by", "errors"], "[possible values: denied, hits, shadow]"),
        (&["--limit", "api/usr"], "no limit has the id `api/usr`"),
        (&["--domain", "nowhere"], "no rule file is for domain `nowhere`"),
        (&["--entry", "user"], "'user' is no key=value"),
    ] {
        let (text, code) = top(&tollgate, args);
        let is_usage = ["--since", "--by", "--entry"].contains(&args[0]);
        assert!(text.contains(says) && code == Some(if is_usage { 2 } else { 1 }), "{args:?}: {code:?} {text}");
    }
    for (query, says) in [
        ("since=5m", "nothing is counted over `5m`"),
        ("by=errors", "nothing is counted as `errors`"),
        ("entry=user", "'user' is no key=value"),
    ] {
        let answer = get(tollgate.admin, &format!("/v1/top?{query}"), &[]).await.expect("an answer");
        assert!(answer.status == 400 && answer.body.contains(says), "{query}: {answer:?}");
    }
}

/// Light counters of a limit are in no list of the hundred heaviest of all limits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lists_of_one_limit_come_from_the_other_replicas_on_request() {
    let (rules, redis) = (RulesDir::with("api.yaml", RULES), RedisServer::start());
    let replicas = crate::switches::fleet(&rules, &redis, &["a", "b"]).await;
    for tenant in 0..120 {
        for _ in 0..3 {
            replicas[1].client().admits("api", &[("tried", &format!("x{tenant}"))]).await;
        }
    }
    for replica in [&replicas[0], &replicas[0], &replicas[1]] {
        replica.client().admits("api", &[("user", "alice")]).await;
    }
    crate::harness::eventually("the other's lists of all limits", || async {
        let answer = asked(&replicas[0], "/v1/top").await;
        (answer["replicas"] == 2 && answer["partial"].is_null()).then_some(())
    })
    .await;
    let path = "/v1/top?by=hits&limit=api/user";
    let first = asked(&replicas[0], path).await;
    assert!(first["partial"].as_str().is_some_and(|why| why.starts_with("1 of 2 replicas so far")), "{first}");
    let whole = crate::harness::eventually("the other's list of this limit", || async {
        Some(asked(&replicas[0], path).await).filter(|answer| answer["partial"].is_null())
    })
    .await;
    assert_eq!(entries(&whole), [json!(["api/user", "user=alice", 1, 3, 0])], "{whole}");
    assert_eq!(whole["entries"][0]["hits_error"], 0, "{whole}");
    // What isn't a limit is asked of nobody.
    assert_eq!(get(replicas[0].admin, "/v1/top?limit=api/usr", &[]).await.expect("an answer").status, 404);
    assert_eq!(redis.cli(&["ZRANGE", "tg1:{0}:fleet:asked:limits", "0", "-1"]), "api/user");
}

#[tokio::test]
async fn a_token_sees_the_domains_that_it_may_and_no_other() {
    let rules = RulesDir::with("api.yaml", RULES);
    rules.write("shop.yaml", SHOP);
    let file = rules.path().join("tokens");
    let lines = token_line("all", "all", "insight.read")
        + &token_line("shop", "shop", "insight.read@shop")
        + &token_line("both", "both", "insight.read@shop,insight.read@api")
        + &token_line("none", "none", "explain,audit.read");
    write_tokens(&file, &lines);
    let env = [("TOLLGATE_API_TOKEN_FILE", file.to_str().expect("temporary paths are text"))];
    let tollgate = Tollgate::start_with(rules.path(), &env).await;
    flood(&tollgate).await;
    for _ in 0..2 {
        tollgate.client().admits("shop", &[("cart", "7")]).await;
    }
    let ask = async |token, query: &str| {
        let answer = call(tollgate.http, &format!("GET /v1/top?{query}"), Some(token), "").await;
        let limits = answer.json()["entries"]
            .as_array()
            .map(|all| all.iter().map(|entry| entry["limit"].as_str().expect("a text").to_owned()).collect::<Vec<_>>());
        (answer.status, limits.unwrap_or_default().join(" "))
    };
    assert_eq!(ask("all", "").await, (200, "api/user api/user shop/cart".into()));
    assert_eq!(ask("both", "").await, (200, "api/user api/user shop/cart".into()));
    assert_eq!(ask("all", "domain=shop").await, (200, "shop/cart".into()));
    assert_eq!(ask("shop", "").await, (200, "shop/cart".into()));
    assert_eq!(ask("shop", "domain=shop").await, (200, "shop/cart".into()));
    for query in ["domain=api", "domain=nowhere"] {
        assert_eq!(ask("shop", query).await.0, 403, "{query}");
    }
    // It doesn't learn that there is such a limit.
    assert_eq!(ask("shop", "limit=api/user").await.0, 404);
    assert_eq!(ask("none", "").await.0, 403);
    assert_eq!(ask("all", "limt=api/user").await.0, 400);

    let mut client = TollgateClient::new(channel(tollgate.grpc));
    let mut request = Request::new(TopRequest { n: 1, ..TopRequest::default() });
    request.metadata_mut().insert("authorization", "Bearer all".parse().expect("ASCII"));
    let answer = client.top(request).await.expect("it may").into_inner();
    let first = &answer.entries[0];
    assert_eq!((&*first.limit, &*first.descriptor, first.denied, first.hits), ("api/user", "user=alice", 5, 7));
    assert_eq!(answer.others_at_most, 1);
    let (grpc, env) = (tollgate.grpc.to_string(), [("TOLLGATE_TOKEN", "shop")]);
    let output = run_to_end(&["top", "--api", "--addr", &grpc, "--json"], &env);
    let answer: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(entries(&answer), [json!(["shop/cart", "cart=7", 1, 2, 0])]);
}

#[tokio::test]
async fn with_no_memory_for_it_nothing_is_counted_and_the_answer_says_so() {
    let rules = RulesDir::with("api.yaml", RULES);
    let tollgate = Tollgate::start_with(rules.path(), &[("TOLLGATE_TOP_MAX_BYTES", "0")]).await;
    flood(&tollgate).await;
    let (text, code) = top(&tollgate, &[]);
    assert!(text.contains("TOLLGATE_TOP_MAX_BYTES is 0") && code == Some(1), "{text}");
    let little = run_to_end(&["check", "--settings"], &[("TOLLGATE_TOP_MAX_BYTES", "1KiB")]);
    let said = String::from_utf8_lossy(&little.stderr).into_owned() + &String::from_utf8_lossy(&little.stdout);
    assert!(said.contains("TOLLGATE_TOP_MAX_BYTES") && said.contains("at least 256KiB"), "{said}");
}

#[tokio::test]
async fn a_hostile_value_is_shown_as_text() {
    let rules = RulesDir::with("api.yaml", RULES);
    let tollgate = Tollgate::start(rules.path()).await;
    let hostile = format!("\u{1b}[2J\n,=\\{}", "ä".repeat(4_096));
    for _ in 0..3 {
        tollgate.client().admits("api", &[("user", &hostile)]).await;
    }
    let answer = asked(&tollgate, "/v1/top").await;
    let descriptor = answer["entries"][0]["descriptor"].as_str().expect("a text");
    assert!(descriptor.len() <= 128 && descriptor.starts_with("user=\u{1b}[2J\n\\,=\\\\ä"), "{descriptor:?}");
    let (text, _) = top(&tollgate, &[]);
    assert!(text.contains(r"user=\u{1b}[2J\n\,=\\ä") && !text.contains('\u{1b}'), "{text:?}");
}
