//! What a caller of the API may do without a token.

use std::time::Duration;

use envoy_types::pb::envoy::{
    extensions::common::ratelimit::v3::{
        RateLimitDescriptor,
        rate_limit_descriptor::{Entry, RateLimitOverride},
    },
    service::ratelimit::v3::RateLimitRequest,
    r#type::v3::RateLimitUnit,
};
use serde_json::{Value, json};
use tollgate::{
    clock,
    front::api::{CheckRequest, tollgate_client::TollgateClient},
};
use tonic::{Code, Request};

use crate::{
    api::{RULES, client::call, token_line, write_tokens},
    harness::{Answer, RulesDir, Tollgate, channel, eventually},
    redis_server::RedisServer,
};

const CHECK: &str = "POST /v1/check";

/// Ten years, as it was seen.
const TEN_YEARS: f64 = 315_360_000.0;

/// The token `checker` may check, `reader` may not, `shop` may give back.
async fn tollgate(rules: &RulesDir, env: &[(&str, &str)]) -> Tollgate {
    let file = rules.path().join("tokens");
    let lines = [("checker", "check@api"), ("reader", "explain,audit.read"), ("shop", "hits.return@api")];
    write_tokens(&file, &lines.map(|(name, scopes)| token_line(name, name, scopes)).concat());
    let env = [&[("TOLLGATE_API_TOKEN_FILE", file.to_str().expect("temporary paths are text"))][..], env].concat();
    Tollgate::start_with(rules.path(), &env).await
}

fn own(user: &str, limit: u32, window_seconds: f64) -> Value {
    json!({"user": user, "action": "upload", "limit": limit, "window_seconds": window_seconds})
}

/// A request for `/json` that brings a limit.
fn requested(user: &str, limit: u32, unit: &str) -> String {
    let descriptor = json!({
        "entries": [{"key": "user", "value": user}],
        "limit": {"requestsPerUnit": limit, "unit": unit},
    });
    json!({"domain": "api", "descriptors": [descriptor]}).to_string()
}

fn is_problem(answer: &Answer, status: u16) -> bool {
    (answer.status, answer.header("content-type")) == (status, "application/problem+json")
}

#[tokio::test]
async fn a_callers_limit_over_ten_years_leaves_no_key_in_redis() {
    let (rules, redis) = (RulesDir::with("api.yaml", RULES), RedisServer::start());
    let tollgate = tollgate(&rules, &[("REDIS_URL", &redis.address())]).await;
    eventually("an answer of Redis", || async {
        (call(tollgate.http, CHECK, None, r#"{"user": "probe"}"#).await.json().get("degraded").is_none()).then_some(())
    })
    .await;
    let years = own("alice", 1_000_000, TEN_YEARS).to_string();
    let refused = call(tollgate.http, CHECK, None, &years).await;
    assert!(is_problem(&refused, 400), "{refused:?}");
    let problem = refused.json();
    assert_eq!(problem["errors"][0]["place"], "window_seconds");
    for way_out in ["TOLLGATE_CHECK_WINDOW_MAX", "token", "`check`"] {
        assert!(problem["detail"].as_str().expect("a text").contains(way_out), "{way_out}: {problem}");
    }
    assert_eq!(call(tollgate.http, CHECK, None, &own("alice", 5, 3_600.1).to_string()).await.status, 400);
    let mut client = TollgateClient::new(channel(tollgate.grpc));
    let check = CheckRequest {
        user: Some("alice".into()),
        limit: Some(1_000_000),
        window_seconds: Some(TEN_YEARS),
        ..CheckRequest::default()
    };
    let status = client.check(check.clone()).await.expect_err("no token");
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    let refused = call(tollgate.http, "POST /json", None, &requested("alice", 1_000_000, "YEAR")).await;
    assert!(is_problem(&refused, 400), "{refused:?}");
    assert_eq!(redis.cli(&["KEYS", "*alice*"]), "");
    assert_eq!(tollgate.metric("tollgate_refused_checks_total{reason=\"window\"}").await, 4.0);

    // An hour is no years, and a token may.
    assert_eq!(call(tollgate.http, CHECK, None, &own("bob", 5, 3_600.0).to_string()).await.status, 200);
    assert_eq!(call(tollgate.http, "POST /json", None, &requested("bob", 5, "HOUR")).await.status, 200);
    assert_eq!(call(tollgate.http, CHECK, Some("checker"), &years).await.status, 200);
    assert_eq!(call(tollgate.http, "POST /json", Some("checker"), &requested("bob", 5, "YEAR")).await.status, 200);
    let mut with_token = Request::new(check);
    with_token.metadata_mut().insert("authorization", "Bearer checker".parse().expect("text"));
    assert!(client.check(with_token).await.expect("a decision").into_inner().allowed);
    assert_eq!(call(tollgate.http, CHECK, Some("reader"), &years).await.status, 403, "out of scope");
    assert_eq!(call(tollgate.http, CHECK, Some("nobody"), &years).await.status, 401, "not known");
    assert_eq!(call(tollgate.http, CHECK, Some("nobody"), &own("carl", 5, 60.0).to_string()).await.status, 200);

    // Envoy's service is closed by certificates, not by tokens: what its routes say holds.
    let unit = RateLimitUnit::Year.into();
    let descriptor = RateLimitDescriptor {
        entries: vec![Entry { key: "user".into(), value: "dora".into() }],
        limit: Some(RateLimitOverride { requests_per_unit: 5, unit }),
        ..RateLimitDescriptor::default()
    };
    let request = RateLimitRequest { domain: "api".into(), descriptors: vec![descriptor], hits_addend: 1 };
    let answer = tollgate.client().ask(request).await.expect("a decision");
    assert_eq!(answer.statuses[0].limit_remaining, 4);
}

#[tokio::test]
async fn the_longest_window_of_a_callers_limit_is_a_setting() {
    let rules = RulesDir::with("api.yaml", RULES);
    let tollgate = tollgate(&rules, &[("TOLLGATE_CHECK_WINDOW_MAX", "24h")]).await;
    let status = async |seconds| call(tollgate.http, CHECK, None, &own("alice", 5, seconds).to_string()).await.status;
    assert_eq!((status(86_400.0).await, status(86_401.0).await), (200, 400));
}

#[tokio::test]
async fn who_makes_a_new_counter_with_every_check_is_told_to_come_again() {
    let rules = RulesDir::with("api.yaml", RULES);
    let tollgate = tollgate(&rules, &[("TOLLGATE_CHECK_NEW_COUNTERS", "5")]).await;
    let check = async |user: &str, token| call(tollgate.http, CHECK, token, &own(user, 5, 60.0).to_string()).await;
    let (begun, mut admitted, mut refused) = (clock::instant(), Vec::new(), 0);
    for nth in 0..60 {
        let user = format!("user-{nth}");
        let answer = check(&user, None).await;
        match answer.status {
            200 => admitted.push(user),
            _ => {
                assert!(is_problem(&answer, 429), "{answer:?}");
                assert_eq!(answer.header("retry-after"), "1");
                let problem = answer.json();
                assert!(problem.get("allowed").is_none(), "it is no decision: {problem}");
                assert!(problem["detail"].as_str().expect("a text").contains("TOLLGATE_CHECK_NEW_COUNTERS"));
                refused += 1;
            }
        }
    }
    // Each second that it took, and the ones that it began and ended in.
    let seconds = usize::try_from((begun.elapsed() + Duration::from_secs(2)).as_secs()).expect("a few");
    assert!((5..=5 * seconds).contains(&admitted.len()), "{} in {seconds} s", admitted.len());
    assert!(refused > 0, "60 in {seconds} s");
    assert_eq!(tollgate.metric("tollgate_refused_checks_total{reason=\"new_counters\"}").await, f64::from(refused));
    for user in &admitted {
        assert_eq!(check(user, None).await.status, 200, "{user} is known");
    }
    for nth in 0..60 {
        assert_eq!(check(&format!("with-a-token-{nth}"), Some("checker")).await.status, 200);
    }
    // Those that a rule is for are its own business.
    for nth in 0..60 {
        let user = json!({"user": format!("ruled-{nth}")}).to_string();
        assert_eq!(call(tollgate.http, CHECK, None, &user).await.status, 200);
    }
}

#[tokio::test]
async fn with_no_new_counters_a_callers_limit_needs_a_token_on_every_surface() {
    let rules = RulesDir::with("api.yaml", RULES);
    let tollgate = tollgate(&rules, &[("TOLLGATE_CHECK_NEW_COUNTERS", "0")]).await;
    let own = own("alice", 5, 60.0).to_string();
    for (what, body) in [(CHECK, own.clone()), ("POST /json", requested("alice", 5, "MINUTE"))] {
        let refused = call(tollgate.http, what, None, &body).await;
        assert!(is_problem(&refused, 429), "{what}: {refused:?}");
        assert_eq!(call(tollgate.http, what, Some("checker"), &body).await.status, 200, "{what}");
    }
    let request: CheckRequest = serde_json::from_str(&own).expect("a check");
    let status = TollgateClient::new(channel(tollgate.grpc)).check(request).await.expect_err("no token");
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
}

#[tokio::test]
async fn nobody_empties_a_bucket_by_asking_with_a_larger_limit() {
    let limit = "{requests_per_unit: 2, unit: hour, algorithm: token_bucket}";
    let rule = format!("domain: api\ndescriptors:\n  - {{key: user, rate_limit: {limit}}}\n");
    let rules = RulesDir::with("api.yaml", &rule);
    let tollgate = tollgate(&rules, &[("TOLLGATE_ALGORITHM", "token_bucket")]).await;
    let check = async |body: Value| call(tollgate.http, CHECK, None, &body.to_string()).await;
    let alice = || json!({"user": "alice"});
    for status in [200, 200, 429] {
        assert_eq!(check(alice()).await.status, status);
        assert_eq!(check(own("alice", 2, 3_600.0)).await.status, status);
    }
    assert_eq!(check(own("alice", u32::MAX, 3_600.0)).await.status, 200, "another limit");
    assert_eq!(check(own("alice", 2, 3_600.0)).await.status, 429, "is another counter");
    let refused = call(tollgate.http, "POST /json", None, &requested("alice", u32::MAX, "HOUR")).await;
    assert!(is_problem(&refused, 400), "{refused:?}");
    assert_eq!(check(alice()).await.status, 429, "nothing has drained");
}

/// Each way to give two hits back to alice, without Envoy's.
fn returns() -> [(&'static str, String); 2] {
    let entries = json!([{"key": "user", "value": "alice"}]);
    let ours = json!({"descriptors": [{"entries": entries, "hits": -2}]});
    let envoys = json!({"entries": entries, "hitsAddend": 2, "isNegativeHits": true});
    [(CHECK, ours.to_string()), ("POST /json", json!({"domain": "api", "descriptors": [envoys]}).to_string())]
}

#[tokio::test]
async fn nobody_lifts_a_limit_with_negative_hits_but_by_a_token_that_may() {
    for redis in [None, Some(RedisServer::start())] {
        let rules = RulesDir::with("api.yaml", RULES);
        let url = redis.as_ref().map(|redis| ("REDIS_URL", redis.address()));
        let env: Vec<(&str, &str)> = url.iter().map(|(name, url)| (*name, url.as_str())).collect();
        let tollgate = tollgate(&rules, &env).await;
        gives_back_by_token_alone(&tollgate).await;
    }
}

async fn gives_back_by_token_alone(tollgate: &Tollgate) {
    let remaining = async || {
        let look = call(tollgate.http, CHECK, None, r#"{"user": "alice", "hits": 0}"#).await.json();
        look["remaining"].as_u64().filter(|_| look.get("degraded").is_none())
    };
    let audit = async || call(tollgate.http, "GET /v1/audit?domain=api", Some("reader"), "").await;
    eventually("an answer of the store, and of the audit", || async {
        (remaining().await == Some(3) && audit().await.status == 200).then_some(())
    })
    .await;
    let spent = call(tollgate.http, CHECK, None, r#"{"user": "alice", "hits": 3}"#).await;
    assert_eq!(spent.status, 200, "{spent:?}");

    for (what, body) in returns() {
        for (token, status) in [(None, 401), (Some("nobody"), 401), (Some("checker"), 403)] {
            let refused = call(tollgate.http, what, token, &body).await;
            assert!(is_problem(&refused, status), "{what} {token:?}: {refused:?}");
        }
    }
    let mut client = TollgateClient::new(channel(tollgate.grpc));
    let check: CheckRequest = serde_json::from_str(&returns()[0].1).expect("a check");
    let status = client.check(check.clone()).await.expect_err("no token");
    assert_eq!((status.code(), status.message().contains("negative hits")), (Code::Unauthenticated, true));
    assert_eq!(remaining().await, Some(0), "nothing was given back");
    assert!(audit().await.json()["entries"].as_array().is_none_or(Vec::is_empty), "nor written down");
    assert_eq!(tollgate.metric("tollgate_refused_checks_total{reason=\"return\"}").await, 7.0);

    let mut given = 0;
    for (what, body) in returns() {
        assert_eq!(call(tollgate.http, what, Some("shop"), &body).await.status, 200, "{what}");
        given += 1;
        let entries = audit().await.json()["entries"].as_array().cloned().expect("entries");
        assert_eq!(entries.len(), given, "{entries:?}");
        let told = ["action", "token", "domain", "target"].map(|field| entries[0][field].as_str().unwrap_or_default());
        assert_eq!(told, ["hits.return", "shop", "api", "(user=alice) -2"]);
    }
    assert_eq!(remaining().await, Some(3), "2, and what there was of 2 more");
    let mut request = Request::new(check);
    request.metadata_mut().insert("authorization", "Bearer shop".parse().expect("text"));
    assert!(client.check(request).await.expect("a decision").into_inner().allowed);
    assert_eq!(audit().await.json()["entries"].as_array().map(Vec::len), Some(given + 1));
    tollgate.process.line("who gave back", |line| line.contains("hits.return").then_some(())).await;
}

#[tokio::test]
async fn envoys_service_gives_back_as_it_did() {
    let rules = RulesDir::with("api.yaml", RULES);
    let tollgate = tollgate(&rules, &[]).await;
    let ask = async |hits: u64, is_negative_hits: bool| {
        let hits_addend = Some(envoy_types::pb::google::protobuf::UInt64Value { value: hits });
        let entries = vec![Entry { key: "user".into(), value: "alice".into() }];
        let descriptor =
            RateLimitDescriptor { entries, hits_addend, is_negative_hits, ..RateLimitDescriptor::default() };
        let request = RateLimitRequest { domain: "api".into(), descriptors: vec![descriptor], hits_addend: 1 };
        tollgate.client().ask(request).await.expect("a decision").statuses[0].limit_remaining
    };
    assert_eq!((ask(3, false).await, ask(2, true).await), (0, 2));
}

#[tokio::test]
async fn callers_limits_make_no_series_of_their_users_names() {
    let rules = RulesDir::with("api.yaml", RULES);
    let env = [("USE_PROMETHEUS", "true"), ("TOLLGATE_CHECK_NEW_COUNTERS", "1000")];
    let tollgate = tollgate(&rules, &env).await;
    for nth in 0..20 {
        let body = own(&format!("somebody-{nth}"), 5, 60.0).to_string();
        assert_eq!(call(tollgate.http, CHECK, None, &body).await.status, 200);
    }
    let page = tollgate.metrics().await;
    assert!(!page.contains("somebody"), "{page}");
    let series = "ratelimit_service_rate_limit_total_hits{domain=\"api\",key1=\"_check\",key2=\"user\"}";
    assert_eq!(tollgate.metric(series).await, 20.0);
}
