//! `/v1/check` and `Check`: the four forms, the numbers and headers, and what is refused.

use serde_json::{Value, json};

use super::{RULES, client::call};
use crate::harness::{Answer, RulesDir, Tollgate, channel, post};

async fn tollgate() -> (RulesDir, Tollgate) {
    let rules = RulesDir::with("api.yaml", RULES);
    let tollgate = Tollgate::start(rules.path()).await;
    (rules, tollgate)
}

async fn check(tollgate: &Tollgate, body: Value) -> Answer {
    post(tollgate.http, "/v1/check", body.to_string()).await.expect("an answer")
}

#[tokio::test]
async fn a_user_is_admitted_to_the_limit_and_then_told_when_to_come_again() {
    let (_rules, tollgate) = tollgate().await;
    for remaining in [2, 1, 0] {
        let answer = check(&tollgate, json!({"user": "alice"})).await;
        let body = answer.json();
        assert_eq!((answer.status, answer.header("content-type")), (200, "application/json"));
        assert_eq!(
            (&body["allowed"], &body["limit"], &body["remaining"]),
            (&json!(true), &json!(3), &json!(remaining))
        );
        assert_eq!((&body["limit_id"], &body["window_seconds"]), (&json!("api/user"), &json!(3600.0)));
        assert!(body.get("retry_after_seconds").is_none(), "{body}");
        assert_eq!(answer.header("ratelimit-policy"), r#""api/user";q=3;w=3600"#);
        assert!(answer.header("ratelimit").starts_with(&format!(r#""api/user";r={remaining};t="#)), "{answer:?}");
        assert!(answer.find_header("retry-after").is_none());
    }
    let refused = check(&tollgate, json!({"user": "alice"})).await;
    let body = refused.json();
    assert_eq!((refused.status, &body["allowed"], &body["remaining"]), (429, &json!(false), &json!(0)));
    let (wait, header) = (body["retry_after_seconds"].as_f64().unwrap(), refused.header("retry-after"));
    assert_eq!((wait.ceil(), &body["reset_seconds"]), (header.parse().unwrap(), &body["retry_after_seconds"]));
    assert!(wait > 3000.0 && wait < 3800.0, "{body}");
    assert_eq!(check(&tollgate, json!({"user": "bob"})).await.status, 200, "another user");
}

#[tokio::test]
async fn each_form_meets_its_own_limit() {
    let (_rules, tollgate) = tollgate().await;
    for (form, limit, id) in [
        (json!({"user": "alice"}), 3, "api/user"),
        (json!({"user": "alice", "endpoint": "/checkout"}), 2, "api/user/endpoint=/checkout"),
        (json!({"user": "alice", "action": "login"}), 4, "api/user/action=login"),
        (json!({"domain": "api", "descriptors": [{"entries": {"user": "bob"}}], "hits": 2}), 3, "api/user"),
        (json!({"descriptors": [{"entries": [{"key": "user", "value": "carol"}]}]}), 3, "api/user"),
    ] {
        let body = check(&tollgate, form.clone()).await.json();
        assert_eq!((&body["limit"], &body["limit_id"]), (&json!(limit), &json!(id)), "{form}");
    }
    assert_eq!(check(&tollgate, json!({"user": "bob", "hits": 0})).await.json()["remaining"], 1);
    let free = check(&tollgate, json!({"user": "alice", "endpoint": "/free"})).await;
    assert_eq!((free.status, free.json()), (200, json!({"allowed": true})));
}

#[tokio::test]
async fn an_own_limit_holds_besides_the_rules_and_is_counted_apart() {
    let (_rules, tollgate) = tollgate().await;
    let login = |limit: u32| json!({"user": "alice", "action": "login", "limit": limit, "window_seconds": 3600});
    // The own limit of 2 is tighter than the rule's 4.
    for remaining in [1, 0] {
        let body = check(&tollgate, login(2)).await.json();
        assert_eq!((&body["limit_id"], &body["remaining"]), (&json!("api/(request)"), &json!(remaining)));
    }
    assert_eq!(check(&tollgate, login(2)).await.status, 429);
    // A raised one goes on with the same count, and the refusal charged neither: 2 of 4 are used of the rule.
    let both = check(&tollgate, login(100)).await;
    assert_eq!((both.status, &both.json()["limit_id"]), (200, &json!("api/user/action=login")));
    let told = both.header("ratelimit-policy").to_owned();
    assert_eq!(told, r#""api/user/action=login";q=4;w=3600, "api/(request)";q=100;w=3600"#);
    assert_eq!(check(&tollgate, login(100)).await.status, 200);
    let ruled = check(&tollgate, login(100)).await;
    assert_eq!((ruled.status, &ruled.json()["limit_id"]), (429, &json!("api/user/action=login")), "never instead");
    // Where no rule is, it holds alone, and isn't reported as a rule that is missing.
    let alone = json!({"user": "alice", "action": "upload", "limit": 1, "window_seconds": 0.5});
    assert_eq!(check(&tollgate, alone).await.json()["window_seconds"], 0.5);
    assert!(!tollgate.metrics().await.contains("tollgate_unmatched_descriptors_total{"));
}

#[tokio::test]
async fn shortcuts_and_the_default_domain_say_what_the_forms_mean() {
    let rules = RulesDir::with("api.yaml", RULES);
    rules.write(
        "shop.yaml",
        "domain: shop\nshortcuts: {endpoint: [[client], [client, path]]}\n\
         descriptors:\n  - {key: client, rate_limit: 3/h}\n  - key: client\n    value: vip\n    \
           descriptors: [{key: path, rate_limit: 1/h}]\n",
    );
    let tollgate = Tollgate::start(rules.path()).await;
    let unnamed = check(&tollgate, json!({"user": "alice"})).await;
    assert_eq!((unnamed.status, &unnamed.json()["errors"][0]["place"]), (400, &json!("domain")));
    let shop = json!({"domain": "shop", "user": "c1", "endpoint": "/x"});
    assert_eq!(check(&tollgate, shop).await.json()["limit_id"], "shop/client");
    drop(tollgate);

    let tollgate = Tollgate::start_with(rules.path(), &[("TOLLGATE_DEFAULT_DOMAIN", "shop")]).await;
    assert_eq!(check(&tollgate, json!({"user": "c1", "endpoint": "/x"})).await.json()["limit_id"], "shop/client");
    assert_eq!(check(&tollgate, json!({"domain": "api", "user": "a"})).await.json()["limit_id"], "api/user");
}

#[tokio::test]
async fn what_is_wrong_with_a_check_is_said_with_its_place() {
    let (_rules, tollgate) = tollgate().await;
    let long = "x".repeat(4_097);
    for (body, status, place) in [
        (json!({"user": ""}).to_string(), 400, "user"),
        (json!({"user": long}).to_string(), 400, "user"),
        (json!({}).to_string(), 400, "user"),
        (json!({"endpoint": "/x"}).to_string(), 400, "user"),
        (json!({"user": "a", "endpoint": ""}).to_string(), 400, "endpoint"),
        (json!({"user": "a", "endpoint": "/x", "action": "y"}).to_string(), 400, "action"),
        (json!({"user": "a", "limit": 5}).to_string(), 400, "window_seconds"),
        (json!({"user": "a", "window_seconds": 5}).to_string(), 400, "limit"),
        (json!({"user": "a", "limit": 5, "window_seconds": 0}).to_string(), 400, "window_seconds"),
        (json!({"user": "a", "limit": 5, "window_seconds": -60}).to_string(), 400, "window_seconds"),
        (json!({"user": "a", "limit": 5, "window_seconds": 1e12}).to_string(), 400, "window_seconds"),
        (json!({"user": "a", "limit": -5, "window_seconds": 60}).to_string(), 400, "body, line 1, column 11"),
        (json!({"user": "a", "descriptors": [{"entries": {"user": "a"}}]}).to_string(), 400, "user"),
        (json!({"descriptors": [{"entries": {}}]}).to_string(), 400, "descriptors[0].entries"),
        ("{\"user\": \"a\",\n \"usr\": 1}".into(), 400, "body, line 2, column 6"),
        ("{\"user\": \"é😀\", \"usr\": 1}".into(), 400, "body, line 1, column 20"),
        ("\u{feff}{\"usr\": 1}".into(), 400, "body, line 1, column 6"),
        ("{\"user\": \"a\", \"hits\": -1}".into(), 400, "body, line 1, column 24"),
        ("".into(), 400, "body, line 1, column 0"),
        ("[1]".into(), 400, "body, line 1, column 2"),
        (json!({"domain": "nowhere", "user": "a"}).to_string(), 404, ""),
        // One byte too many, so that it is read whole: who goes on sending may not see the answer.
        (format!("\"{}\"", "x".repeat((4 << 20) - 1)), 413, ""),
    ] {
        let answer = post(tollgate.http, "/v1/check", body.clone()).await.expect("an answer");
        let problem = answer.json();
        let body = &body[..body.len().min(80)];
        assert_eq!((answer.status, answer.header("content-type")), (status, "application/problem+json"), "{body}");
        assert_eq!((problem["status"].as_u64(), problem["title"].is_string()), (Some(status.into()), true), "{body}");
        assert_eq!(problem["errors"][0]["place"].as_str().unwrap_or_default(), place, "{body}: {problem}");
        assert!(problem["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{body}");
    }
}

#[tokio::test]
async fn grpc_answers_as_http_does() {
    use tollgate::front::api::{CheckRequest, tollgate_client::TollgateClient};
    let (_rules, tollgate) = tollgate().await;
    let mut client = TollgateClient::new(channel(tollgate.grpc));
    let mut ask = async |user: &str| {
        let request = CheckRequest { user: Some(user.into()), ..CheckRequest::default() };
        client.check(request).await.map(tonic::Response::into_inner)
    };
    for remaining in [2, 1, 0] {
        let answer = ask("alice").await.expect("a decision");
        assert_eq!((answer.allowed, answer.remaining, &*answer.limit_id), (true, Some(remaining), "api/user"));
    }
    let refused = ask("alice").await.expect("a decision");
    assert!(!refused.allowed && refused.retry_after_seconds.is_some_and(|wait| wait > 3000.0), "{refused:?}");
    assert_eq!(check(&tollgate, json!({"user": "alice"})).await.status, 429, "one count for both");
    let wrong = ask("").await.expect_err("nobody");
    assert_eq!((wrong.code(), wrong.message().starts_with("user: ")), (tonic::Code::InvalidArgument, true));
}

#[tokio::test]
async fn paths_and_methods_that_are_not_there_are_problems_too() {
    let (_rules, tollgate) = tollgate().await;
    for path in ["/v1", "/v1/nothing", "/v1/domains/api"] {
        let answer = call(tollgate.http, &format!("GET {path}"), None, "").await;
        assert_eq!((answer.status, answer.header("content-type")), (404, "application/problem+json"), "{path}");
    }
    let answer = call(tollgate.http, "GET /v1/check", None, "").await;
    assert_eq!((answer.status, answer.header("allow")), (405, "POST"));
    let answer = call(tollgate.http, "POST /v1/domains/api/overrides/x", None, "").await;
    assert_eq!((answer.status, answer.header("allow")), (405, "GET, PUT, DELETE"));
}
