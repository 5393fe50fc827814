//! Who may: tokens that are wrong, missing, out of scope or replaced, over HTTP and gRPC.

use tollgate::front::api::{
    CheckRequest, DeleteOverrideRequest, Entry, GetOverrideRequest, Limit, ListAuditRequest, ListOverridesRequest,
    OverrideSpec, ResetCounterRequest, SetOverrideRequest, TopRequest, tollgate_client::TollgateClient,
};
use tonic::{Code, Request, Status, transport::Channel};

use super::{RULES, client::call, token_line, with_tokens, write_tokens};
use crate::{
    harness::{RulesDir, Tollgate, channel, eventually, run_to_end},
    redis_server::RedisServer,
};

/// Every call that needs a token, with a body that would do.
const GUARDED: [(&str, &str); 9] = [
    ("POST /v1/explain", r#"{"user": "alice"}"#),
    ("GET /v1/domains/api/overrides", ""),
    ("GET /v1/domains/api/overrides/x", ""),
    ("PUT /v1/domains/api/overrides/x", r#"{"match": {"user": "alice"}, "limit": "5/s"}"#),
    ("DELETE /v1/domains/api/overrides/x", ""),
    ("POST /v1/counters:reset", r#"{"entries": {"user": "alice"}}"#),
    ("GET /v1/audit?domain=api", ""),
    ("GET /v1/top?domain=api", ""),
    ("GET /v1/decisions?domain=api&for=1s", ""),
];

const CHECK: &str = r#"{"user": "alice"}"#;

#[tokio::test]
async fn without_a_token_file_only_checks_are_answered_and_the_rest_says_why() {
    let rules = RulesDir::with("api.yaml", RULES);
    let tollgate = Tollgate::start(rules.path()).await;
    for (what, body) in GUARDED {
        for token in [None, Some("secret")] {
            let answer = call(tollgate.http, what, token, body).await;
            assert_eq!((answer.status, answer.header("content-type")), (401, "application/problem+json"), "{what}");
            assert!(answer.json()["detail"].as_str().unwrap().contains("--api-token-file"), "{what}: {answer:?}");
            assert!(answer.header("www-authenticate").starts_with("Bearer"), "{what}");
        }
    }
    assert_eq!(call(tollgate.http, "POST /v1/check", None, CHECK).await.status, 200);
    assert_eq!(call(tollgate.http, "GET /v1/openapi.json", None, "").await.status, 200);
}

#[tokio::test]
async fn a_call_needs_a_token_that_is_known_and_may() {
    let rules = RulesDir::with("api.yaml", RULES);
    rules.write("shop.yaml", "domain: shop\n");
    let tollgate = with_tokens(&rules, &[("TOLLGATE_DEFAULT_DOMAIN", "api")]).await;
    let lines = token_line("ops", "secret", "*")
        + &token_line("ci", "check-only", "check")
        + &token_line("shop", "shop-only", "*@shop");
    write_tokens(&rules.path().join("tokens"), &lines);
    eventually("the new tokens are known", || async {
        (call(tollgate.http, "GET /v1/audit", Some("check-only"), "").await.status == 403).then_some(())
    })
    .await;
    for (what, body) in GUARDED {
        let status = async |token| call(tollgate.http, what, token, body).await.status;
        assert_eq!(status(None).await, 401, "{what} without a token");
        assert_eq!(status(Some("secreT")).await, 401, "{what} with a wrong one");
        assert_eq!(status(Some("")).await, 401, "{what} with an empty one");
        assert_eq!(status(Some("check-only")).await, 403, "{what} out of scope");
        assert_eq!(status(Some("shop-only")).await, 403, "{what} in another domain");
        assert!(![401, 403].contains(&status(Some("secret")).await), "{what} with a good one");
    }
    let basic = crate::harness::get(tollgate.http, "/v1/audit", &[("authorization", "Basic c2VjcmV0")]).await.unwrap();
    assert_eq!(basic.status, 401);
    let own = call(tollgate.http, "GET /v1/domains/shop/overrides", Some("shop-only"), "").await;
    assert!(![401, 403].contains(&own.status), "{own:?}");
}

/// Every call that names a domain, with one that is `{}`.
const NAMED: [(&str, &str); 9] = [
    ("POST /v1/check", r#"{"domain": "{}", "user": "alice"}"#),
    ("POST /v1/explain", r#"{"domain": "{}", "user": "alice"}"#),
    ("GET /v1/domains/{}/overrides", ""),
    ("GET /v1/domains/{}/overrides/x", ""),
    ("PUT /v1/domains/{}/overrides/x", r#"{"match": {"user": "alice"}, "limit": "5/s"}"#),
    ("DELETE /v1/domains/{}/overrides/x", ""),
    ("POST /v1/counters:reset", r#"{"domain": "{}", "entries": {"user": "alice"}}"#),
    ("GET /v1/top?domain={}", ""),
    ("GET /v1/decisions?domain={}&for=1s", ""),
];

#[tokio::test]
async fn a_token_of_one_domain_is_not_told_which_others_there_are() {
    let rules = RulesDir::with("api.yaml", RULES);
    write_tokens(&rules.path().join("tokens"), &token_line("shop", "shop", "*@shop"));
    let file = rules.path().join("tokens");
    let env = [("TOLLGATE_API_TOKEN_FILE", file.to_str().expect("text")), ("TOLLGATE_API_AUTH", "all")];
    let tollgate = Tollgate::start_with(rules.path(), &env).await;
    for (what, body) in NAMED {
        let ask = async |domain: &str| {
            let (what, body) = (what.replace("{}", domain), body.replace("{}", domain));
            let answer = call(tollgate.http, &what, Some("shop"), &body).await;
            (answer.status, answer.body.replace(domain, "{}"))
        };
        let (loaded, unknown) = (ask("api").await, ask("elsewhere").await);
        assert_eq!(loaded.0, 403, "{what}");
        assert_eq!(loaded, unknown, "{what}");
        // Of its own it is told.
        assert_eq!(ask("shop").await.0, 404, "{what}");
    }
    // Nor which is meant where it names none.
    for (what, body) in [("POST /v1/check", CHECK), ("POST /v1/counters:reset", r#"{"entries": {"user": "alice"}}"#)] {
        let answer = call(tollgate.http, what, Some("shop"), body).await;
        assert_eq!((answer.status, answer.body.contains("api")), (403, false), "{what}: {answer:?}");
    }
}

#[tokio::test]
async fn tokens_are_replaced_while_running_and_a_bad_file_keeps_the_last_good_ones() {
    let rules = RulesDir::with("api.yaml", RULES);
    let tollgate = with_tokens(&rules, &[]).await;
    let file = rules.path().join("tokens");
    let status = async |token| call(tollgate.http, "GET /v1/audit", Some(token), "").await.status;
    assert_ne!(status("secret").await, 401);

    write_tokens(&file, "a-token-that-somebody-put-here-in-the-clear\n");
    let line = tollgate
        .process
        .line("that it can't be used", |line| line.contains("can't use the new API tokens").then(|| line.to_owned()))
        .await;
    assert!(line.contains("line 1") && line.contains(file.to_str().unwrap()), "{line}");
    assert_ne!(status("secret").await, 401, "the last good ones stay");

    write_tokens(&file, &token_line("ops", "rotated", "*"));
    eventually("the new token is known", || async { (status("rotated").await != 401).then_some(()) }).await;
    assert_eq!(status("secret").await, 401, "the old token is gone");
    let log = tollgate.process.log();
    for secret in ["rotated", "in-the-clear", "secret\""] {
        assert!(!log.contains(secret), "{secret} is in the log:\n{log}");
    }
}

#[tokio::test]
async fn grpc_asks_for_the_same_tokens() {
    let rules = RulesDir::with("api.yaml", RULES);
    let tollgate = with_tokens(&rules, &[("TOLLGATE_API_AUTH", "all")]).await;
    let mut client = TollgateClient::new(channel(tollgate.grpc));
    let with = |token: Option<&str>| {
        let mut request = Request::new(CheckRequest { user: Some("alice".into()), ..CheckRequest::default() });
        if let Some(token) = token {
            request.metadata_mut().insert("authorization", format!("bearer {token}").parse().unwrap());
        }
        request
    };
    assert_eq!(client.check(with(None)).await.expect_err("no token").code(), Code::Unauthenticated);
    assert_eq!(client.check(with(Some("wrong"))).await.expect_err("a wrong one").code(), Code::Unauthenticated);
    assert!(client.check(with(Some("secret"))).await.expect("a good one").into_inner().allowed);
    let listed = client.list_overrides(ListOverridesRequest::default()).await.expect_err("no token");
    assert_eq!(listed.code(), Code::Unauthenticated);
}

#[tokio::test]
async fn checks_can_be_closed_under_every_name() {
    let rules = RulesDir::with("api.yaml", RULES);
    let tollgate = with_tokens(&rules, &[("TOLLGATE_API_AUTH", "all")]).await;
    let envoys = r#"{"domain": "api", "descriptors": [{"entries": [{"key": "user", "value": "alice"}]}]}"#;
    for (what, body) in [("POST /v1/check", CHECK), ("POST /json", envoys)] {
        assert_eq!(call(tollgate.http, what, None, body).await.status, 401, "{what}");
        assert_eq!(call(tollgate.http, what, Some("secret"), body).await.status, 200, "{what}");
    }
    // Envoy itself has a certificate, not a token.
    assert!(tollgate.client().admits("api", &[("user", "alice")]).await);
}

#[test]
fn a_token_file_that_is_wrong_ends_a_start() {
    let rules = RulesDir::with("api.yaml", RULES);
    let file = rules.path().join("tokens");
    write_tokens(&file, &(token_line("ops", "secret", "*") + "ops:123:check\n"));
    let path = file.to_str().unwrap();
    let start = |env: &[(&str, &str)]| {
        let output = run_to_end(&["serve", "--rules", rules.path().to_str().unwrap()], env);
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let said = start(&[("TOLLGATE_API_TOKEN_FILE", path)]);
    assert!(said.contains(path) && said.contains("line 2"), "{said}");
    let said = start(&[("TOLLGATE_API_AUTH", "all")]);
    assert!(said.contains("TOLLGATE_API_TOKEN_FILE"), "{said}");
    let said = start(&[("TOLLGATE_API_AUTH", "some")]);
    assert!(said.contains("TOLLGATE_API_AUTH"), "{said}");
}

/// The status of each call that needs a token.
async fn codes(client: &TollgateClient<Channel>, token: Option<&str>) -> [Code; 8] {
    fn with<T>(message: T, token: Option<&str>) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(token) = token {
            let value = format!("Bearer {token}").parse().expect("a token is text");
            request.metadata_mut().insert("authorization", value);
        }
        request
    }
    fn code<T>(answer: Result<T, Status>) -> Code {
        answer.err().map_or(Code::Ok, |status| status.code())
    }
    let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = [(); 8].map(|()| client.clone());
    let (domain, id) = ("api".to_owned(), "x".to_owned());
    let entries = vec![Entry { key: "user".into(), value: "alice".into() }];
    let check = CheckRequest { domain: domain.clone(), user: Some("alice".into()), ..CheckRequest::default() };
    let spec = Some(OverrideSpec {
        r#match: entries.clone(),
        limit: vec![Limit { short: "5/s".into(), ..Limit::default() }],
        ..OverrideSpec::default()
    });
    let set = SetOverrideRequest { domain: domain.clone(), id: id.clone(), spec, ..SetOverrideRequest::default() };
    let get = GetOverrideRequest { domain: domain.clone(), id: id.clone() };
    let list = ListOverridesRequest { domain: domain.clone(), ..ListOverridesRequest::default() };
    let delete = DeleteOverrideRequest { domain: domain.clone(), id, ..DeleteOverrideRequest::default() };
    let reset = ResetCounterRequest { domain: domain.clone(), entries, ..ResetCounterRequest::default() };
    let audit = ListAuditRequest { domain: domain.clone(), ..ListAuditRequest::default() };
    let top = TopRequest { domain, ..TopRequest::default() };
    [
        code(a.explain(with(check, token)).await),
        code(b.set_override(with(set, token)).await),
        code(c.get_override(with(get, token)).await),
        code(d.list_overrides(with(list, token)).await),
        code(e.delete_override(with(delete, token)).await),
        code(f.reset_counter(with(reset, token)).await),
        code(g.list_audit(with(audit, token)).await),
        code(h.top(with(top, token)).await),
    ]
}

#[tokio::test]
async fn over_grpc_no_call_is_answered_without_a_token_that_is_known_and_may() {
    let rules = RulesDir::with("api.yaml", RULES);
    rules.write("shop.yaml", "domain: shop\n");
    let file = rules.path().join("tokens");
    let lines = token_line("ops", "secret", "*@api")
        + &token_line("ci", "check-only", "check")
        + &token_line("shop", "shop-only", "*@shop")
        + &token_line("reader", "reader", "explain,overrides.read,audit.read");
    write_tokens(&file, &lines);
    let env = [("TOLLGATE_API_TOKEN_FILE", file.to_str().expect("temporary paths are text"))];
    let tollgate = Tollgate::start_with(rules.path(), &env).await;
    let client = TollgateClient::new(channel(tollgate.grpc));
    for token in [None, Some(""), Some("secreT"), Some("secret and more")] {
        assert_eq!(codes(&client, token).await, [Code::Unauthenticated; 8], "{token:?}");
    }
    for token in ["check-only", "shop-only"] {
        assert_eq!(codes(&client, Some(token)).await, [Code::PermissionDenied; 8], "{token}");
    }
    assert_eq!(codes(&client, Some("secret")).await, [Code::Ok; 8], "in an order in which each can be done");
    let no = Code::PermissionDenied;
    assert_eq!(codes(&client, Some("reader")).await, [Code::Ok, no, Code::NotFound, Code::Ok, no, no, Code::Ok, no]);

    // Rotated: on the connection that is there already.
    write_tokens(&file, &token_line("ops", "rotated", "*"));
    eventually("the new token is known", || async {
        (codes(&client, Some("rotated")).await[0] == Code::Ok).then_some(())
    })
    .await;
    assert_eq!(codes(&client, Some("rotated")).await, [Code::Ok; 8]);
    assert_eq!(codes(&client, Some("secret")).await, [Code::Unauthenticated; 8], "the old token is gone");
}

#[tokio::test]
async fn at_its_most_talkative_the_log_has_no_token_and_no_password() {
    let redis = RedisServer::start_with(&["--requirepass", "hunter2"]);
    let rules = RulesDir::with("api.yaml", RULES);
    let url = format!("redis://:hunter2@{}", redis.address());
    let tollgate = with_tokens(&rules, &[("LOG_LEVEL", "trace"), ("REDIS_URL", &url)]).await;
    write_tokens(
        &rules.path().join("tokens"),
        &(token_line("ops", "secret", "*") + &token_line("ci", "opensesame", "*")),
    );
    let client = TollgateClient::new(channel(tollgate.grpc));
    eventually("a write with the new token", || async {
        (codes(&client, Some("opensesame")).await == [Code::Ok; 8]).then_some(())
    })
    .await;
    codes(&client, Some("wrong-over-grpc")).await;
    for token in ["opensesame", "wrong-over-http"] {
        for (what, body) in GUARDED {
            call(tollgate.http, what, Some(token), body).await;
        }
    }
    // A file that can't be read, and a token in the place of a digest.
    write_tokens(&rules.path().join("tokens"), "ops:in-the-clear:*\n");
    tollgate
        .process
        .line("that it can't be used", |line| line.contains("can't use the new API tokens").then_some(()))
        .await;
    let log = tollgate.process.log();
    assert!(log.contains("\"message\":\"audit\"") && log.contains("\"token\":\"ci\""), "names are told:\n{log}");
    for secret in ["opensesame", "wrong-over-grpc", "wrong-over-http", "in-the-clear", "hunter2"] {
        assert!(!log.contains(secret), "{secret} is in the log:\n{log}");
    }
}
