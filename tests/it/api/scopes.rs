//! What each scope allows, through every route, over HTTP and gRPC: in its own domain, and nothing in another.

use serde_json::json;
use tollgate::front::api::{
    CheckRequest, DeleteOverrideRequest, Descriptor, Entry, GetOverrideRequest, Limit, ListAuditRequest,
    ListOverridesRequest, OverrideSpec, ResetCounterRequest, SetOverrideRequest, tollgate_client::TollgateClient,
};
use tonic::{Code, Request, Status, transport::Channel};

use super::{client::call, token_line, write_tokens};
use crate::harness::{RulesDir, Tollgate, channel};

const RULES: &str = "domain: NAME\n\
    descriptors:\n  - {key: user, rate_limit: {requests_per_unit: 3, unit: hour}}\n";

/// Every scope that a token may have, `@DOMAIN` added, with the routes that it opens.
const SCOPES: [(&str, &[Route]); 11] = [
    ("check", &[Route::Check]),
    ("explain", &[Route::Explain]),
    ("overrides.read", &[Route::List, Route::Get]),
    ("overrides.write", &[Route::Set, Route::List, Route::Get, Route::Delete]),
    ("counters.reset", &[Route::Reset]),
    ("hits.return", &[]),
    ("audit.read", &[Route::Audit]),
    ("insight.read", &[Route::Explain, Route::List, Route::Get]),
    ("limits.write", &[Route::Set, Route::List, Route::Get, Route::Delete]),
    ("rules.read", &[]),
    ("*", &ROUTES),
];

/// In an order in which each can be done.
const ROUTES: [Route; 8] =
    [Route::Check, Route::Explain, Route::Set, Route::Get, Route::List, Route::Delete, Route::Reset, Route::Audit];

#[derive(Clone, Copy, Debug, PartialEq)]
enum Route {
    Check,
    Explain,
    Set,
    Get,
    List,
    Delete,
    Reset,
    Audit,
}

impl Route {
    /// Method, path and body in a domain.
    fn http(self, domain: &str) -> (String, String) {
        let user = json!({"domain": domain, "user": "alice"}).to_string();
        let entries = json!({"domain": domain, "entries": {"user": "alice"}}).to_string();
        let spec = json!({"match": {"user": "alice"}, "limit": "5/h"}).to_string();
        let one = format!("/v1/domains/{domain}/overrides/x");
        match self {
            Route::Check => ("POST /v1/check".into(), user),
            Route::Explain => ("POST /v1/explain".into(), user),
            Route::Set => (format!("PUT {one}"), spec),
            Route::Get => (format!("GET {one}"), String::new()),
            Route::List => (format!("GET /v1/domains/{domain}/overrides"), String::new()),
            Route::Delete => (format!("DELETE {one}"), String::new()),
            Route::Reset => ("POST /v1/counters:reset".into(), entries),
            Route::Audit => (format!("GET /v1/audit?domain={domain}"), String::new()),
        }
    }

    async fn over_grpc(self, mut client: TollgateClient<Channel>, token: &str, domain: &str) -> Code {
        fn code<T>(answer: Result<T, Status>) -> Code {
            answer.err().map_or(Code::Ok, |status| status.code())
        }
        let (domain, id) = (domain.to_owned(), "x".to_owned());
        let entries = vec![Entry { key: "user".into(), value: "alice".into() }];
        let descriptor = Descriptor { entries: entries.clone(), hits: None };
        let check = CheckRequest { domain: domain.clone(), descriptors: vec![descriptor], ..CheckRequest::default() };
        let spec = Some(OverrideSpec {
            r#match: entries.clone(),
            limit: vec![Limit { short: "5/h".into(), ..Limit::default() }],
            ..OverrideSpec::default()
        });
        match self {
            Route::Check => code(client.check(with(check, token)).await),
            Route::Explain => code(client.explain(with(check, token)).await),
            Route::Set => {
                let set = SetOverrideRequest { domain, id, spec, ..SetOverrideRequest::default() };
                code(client.set_override(with(set, token)).await)
            }
            Route::Get => code(client.get_override(with(GetOverrideRequest { domain, id }, token)).await),
            Route::List => {
                let list = ListOverridesRequest { domain, ..ListOverridesRequest::default() };
                code(client.list_overrides(with(list, token)).await)
            }
            Route::Delete => {
                let delete = DeleteOverrideRequest { domain, id, ..DeleteOverrideRequest::default() };
                code(client.delete_override(with(delete, token)).await)
            }
            Route::Reset => {
                let reset = ResetCounterRequest { domain, entries, ..ResetCounterRequest::default() };
                code(client.reset_counter(with(reset, token)).await)
            }
            Route::Audit => {
                let audit = ListAuditRequest { domain, ..ListAuditRequest::default() };
                code(client.list_audit(with(audit, token)).await)
            }
        }
    }
}

fn with<T>(message: T, token: &str) -> Request<T> {
    let mut request = Request::new(message);
    let value = format!("Bearer {token}").parse().expect("a token is text");
    request.metadata_mut().insert("authorization", value);
    request
}

/// Two domains, and a token for each scope in `shop`, which is its name; `secret` may do everything.
async fn start() -> (RulesDir, Tollgate) {
    let rules = RulesDir::with("api.yaml", &RULES.replace("NAME", "api"));
    rules.write("shop.yaml", &RULES.replace("NAME", "shop"));
    let lines = SCOPES.map(|(scope, _)| token_line(&scope.replace('*', "all"), scope, &format!("{scope}@shop")));
    let file = rules.path().join("tokens");
    write_tokens(&file, &(token_line("ops", "secret", "*") + &lines.concat()));
    let env = [
        ("TOLLGATE_API_TOKEN_FILE", file.to_str().expect("text")),
        ("TOLLGATE_API_AUTH", "all"),
        ("TOLLGATE_DEFAULT_DOMAIN", "api"),
    ];
    let tollgate = Tollgate::start_with(rules.path(), &env).await;
    (rules, tollgate)
}

#[tokio::test]
async fn a_scope_of_one_domain_opens_its_routes_there_and_none_elsewhere() {
    let (_rules, tollgate) = start().await;
    let client = TollgateClient::new(channel(tollgate.grpc));
    for domain in ["api", "shop"] {
        let spec = json!({"match": {"user": "eve"}, "limit": "9/h", "reason": format!("of {domain} alone")});
        let set = format!("PUT /v1/domains/{domain}/overrides/eve");
        assert_eq!(call(tollgate.http, &set, Some("secret"), &spec.to_string()).await.status, 201);
    }
    for (scope, opened) in SCOPES {
        for route in ROUTES {
            let is_open = opened.contains(&route);
            for domain in ["shop", "api", "elsewhere"] {
                let (what, body) = route.http(domain);
                let answer = call(tollgate.http, &what, Some(scope), &body).await;
                let code = route.over_grpc(client.clone(), scope, domain).await;
                let may = is_open && domain == "shop";
                assert_eq!(answer.status != 403, may, "{scope}@shop {what}: {answer:?}");
                assert_eq!(code != Code::PermissionDenied, may, "{scope}@shop {route:?} in {domain}: {code:?}");
                assert!(![401, 500, 503].contains(&answer.status), "{answer:?}");
            }
        }
        // What names no domain means the default, which it may not see.
        for what in ["GET /v1/domains/-/overrides", "GET /v1/domains/-/overrides/x"] {
            let answer = call(tollgate.http, what, Some(scope), "").await;
            assert_eq!(answer.status, 403, "{scope}@shop {what}: {answer:?}");
            assert!(!answer.body.contains("api"), "nor is it told which: {answer:?}");
        }
        // Or all that it may see.
        for what in ["GET /v1/audit", "GET /v1/changes"] {
            let answer = call(tollgate.http, what, Some(scope), "").await;
            let may = opened.contains(&Route::Audit);
            assert_eq!(answer.status, if may { 200 } else { 403 }, "{scope}@shop {what}: {answer:?}");
            assert_eq!(answer.body.contains("of shop alone"), may, "{scope}@shop {what}: {answer:?}");
            assert!(!answer.body.contains("of api alone"), "{scope}@shop {what}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn nothing_of_another_domain_is_shown_or_touched_by_what_a_request_brings() {
    let (_rules, tollgate) = start().await;
    let ask = async |token: &str, what: &str, body: &str| call(tollgate.http, what, Some(token), body).await;
    let spec = json!({"match": {"user": "alice"}, "limit": "9/h", "reason": "of api alone"}).to_string();
    assert_eq!(ask("secret", "PUT /v1/domains/api/overrides/x", &spec).await.status, 201);
    for _ in 0..2 {
        let check = json!({"domain": "api", "user": "bob"}).to_string();
        assert_eq!(ask("secret", "POST /v1/check", &check).await.status, 200);
    }
    let audit = ask("secret", "GET /v1/audit?domain=api&page_size=1", "").await.json();
    let page = audit["next_page_token"].as_str().expect("a page").to_owned();

    // A rule, and a limit, of the other domain.
    let elsewhere = json!({"match": {"user": "alice"}, "limit": "1/h", "rule": "api/user"}).to_string();
    let answer = ask("*", "PUT /v1/domains/shop/overrides/x", &elsewhere).await;
    assert_eq!(answer.status, 400, "{answer:?}");
    let reset = json!({"domain": "shop", "entries": {"user": "bob"}, "limit_id": "api/user"}).to_string();
    assert_eq!(ask("*", "POST /v1/counters:reset", &reset).await.status, 404);
    // A page of the other's audit, and a list that begins there.
    let answer = ask("*", &format!("GET /v1/audit?domain=shop&page_token={page}"), "").await;
    assert!(answer.status == 200 && !answer.body.contains("of api alone"), "{answer:?}");
    let answer = ask("*", "GET /v1/domains/shop/overrides?key=user", "").await;
    assert!(answer.status == 200 && !answer.body.contains("of api alone"), "{answer:?}");
    // Negative hits, by either way to check.
    let back = json!({"domain": "api", "descriptors": [{"entries": {"user": "bob"}, "hits": -2}]}).to_string();
    assert_eq!(ask("*", "POST /v1/check", &back).await.status, 403);
    let envoys = json!({"domain": "api", "descriptors": [{"entries": [{"key": "user", "value": "bob"}],
        "hitsAddend": 2, "isNegativeHits": true}]});
    assert_eq!(ask("*", "POST /json", &envoys.to_string()).await.status, 403);
    let override_of_api = ask("secret", "GET /v1/domains/api/overrides/x", "").await.json();
    assert_eq!(override_of_api["limits"][0]["requests"], 9);
    let check = json!({"domain": "api", "user": "bob", "hits": 0}).to_string();
    assert_eq!(ask("secret", "POST /v1/check", &check).await.json()["remaining"], 1, "what was counted is counted");
}
