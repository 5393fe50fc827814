//! What callers choose is bounded, over HTTP and gRPC alike: ids, names, words, limits, pages, bodies.

use serde_json::{Value, json};
use tollgate::front::api::{
    Entry, Limit, ListAuditRequest, ListOverridesRequest, OverrideSpec, SetOverrideRequest,
    tollgate_client::TollgateClient,
};
use tonic::{Code, Request};

use super::{RULES, client::call, with_tokens};
use crate::harness::{RulesDir, Tollgate, channel, post};

#[tokio::test]
async fn ids_names_words_limits_and_pages_within_their_bounds_are_taken_and_longer_ones_refused() {
    let rules = RulesDir::with("api.yaml", RULES);
    let tollgate = with_tokens(&rules, &[]).await;
    let put = async |id: &str, spec: Value| {
        let what = format!("PUT /v1/domains/api/overrides/{id}?dry_run=true");
        call(tollgate.http, &what, Some("secret"), &spec.to_string()).await
    };
    let spec = |user: usize, reason: usize, limits: usize| {
        let limits: Vec<Value> =
            (0..limits).map(|nth| json!({"name": format!("n{nth}"), "requests": 5, "window": "1h"})).collect();
        json!({"match": {"user": "u".repeat(user)}, "limit": limits, "reason": "r".repeat(reason)})
    };
    let most = put(&"x".repeat(128), spec(4_096, 1_024, 32)).await;
    assert_eq!(most.status, 200, "{most:?}");
    for (id, spec, place) in [
        ("x".repeat(129), spec(1, 1, 1), "id"),
        ("a".into(), spec(4_097, 1, 1), "match.user"),
        ("a".into(), spec(0, 1, 1), "match.user"),
        ("a".into(), spec(1, 1_025, 1), "reason"),
        ("a".into(), spec(1, 1, 33), "limit"),
        ("a".into(), spec(1, 1, 0), "limit"),
        ("%2e".into(), spec(1, 1, 1), "id"),
        ("%2e%2E".into(), spec(1, 1, 1), "id"),
    ] {
        let refused = put(&id, spec).await;
        assert_eq!((refused.status, &refused.json()["errors"][0]["place"]), (400, &json!(place)), "{refused:?}");
    }
    let pages = ["GET /v1/domains/api/overrides?", "GET /v1/audit?"];
    for page in pages {
        let get = async |query: &str| call(tollgate.http, &format!("{page}{query}"), Some("secret"), "").await;
        assert_eq!(get("page_size=1000").await.status, 200, "{page}");
        let refused = get("page_size=1001").await;
        assert_eq!((refused.status, refused.body.contains("at most 1000")), (400, true), "{refused:?}");
        assert_eq!(get(&format!("page_token={}", "ab".repeat(600))).await.status, 400, "{page}");
    }
    let long = call(tollgate.http, &format!("{}key={}", pages[0], "k".repeat(4_097)), Some("secret"), "").await;
    assert_eq!((long.status, &long.json()["errors"][0]["place"]), (400, &json!("key")), "{long:?}");
    let body = format!("{{\"match\": {{}}{}}}", " ".repeat(256 << 10));
    let too_long = call(tollgate.http, "PUT /v1/domains/api/overrides/a", Some("secret"), &body).await;
    assert_eq!(too_long.status, 413);
    let bounds = "a check or an explanation has at most 4 MiB, every other call at most 256 KiB";
    assert!(too_long.body.contains(bounds), "{too_long:?}");
    let listed = call(tollgate.http, "GET /v1/domains/api/overrides", Some("secret"), "").await.json();
    assert_eq!(listed, json!({"overrides": []}), "nothing half-applied");
}

#[tokio::test]
async fn over_grpc_the_same_bounds_hold() {
    let rules = RulesDir::with("api.yaml", RULES);
    let tollgate = with_tokens(&rules, &[]).await;
    let client = TollgateClient::new(channel(tollgate.grpc));
    fn with<T>(message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("authorization", "Bearer secret".parse().expect("text"));
        request
    }
    let set = async |id: usize, user: usize| {
        let spec = OverrideSpec {
            r#match: vec![Entry { key: "user".into(), value: "u".repeat(user) }],
            limit: vec![Limit { short: "5/h".into(), ..Limit::default() }],
            ..OverrideSpec::default()
        };
        let (domain, id) = ("api".to_owned(), "x".repeat(id));
        let request = SetOverrideRequest { domain, id, spec: Some(spec), dry_run: true, ..Default::default() };
        client.clone().set_override(with(request)).await.map(drop).map_err(|status| status.code())
    };
    assert_eq!(set(128, 4_096).await, Ok(()));
    assert_eq!(set(129, 1).await, Err(Code::InvalidArgument));
    assert_eq!(set(1, 4_097).await, Err(Code::InvalidArgument));
    let too_large = set(1, 5 << 20).await;
    assert!(matches!(too_large, Err(Code::OutOfRange | Code::ResourceExhausted)), "{too_large:?}");
    for (page_size, expected) in [(1_000, None), (1_001, Some(Code::InvalidArgument))] {
        let listed =
            client.clone().list_overrides(with(ListOverridesRequest { page_size, ..Default::default() })).await;
        assert_eq!(listed.err().map(|status| status.code()), expected);
        let audit = client.clone().list_audit(with(ListAuditRequest { page_size, ..Default::default() })).await;
        assert_eq!(audit.err().map(|status| status.code()), expected);
    }
}

#[tokio::test]
async fn what_a_field_takes_is_said_in_words_of_json() {
    let rules = RulesDir::with("api.yaml", crate::serve::PER_USER);
    let tollgate = Tollgate::start(rules.path()).await;
    let u32 = "expected a whole number from 0 to 4294967295, not ";
    let cases = [
        (r#"{"user":"a","hits":"5"}"#, format!("{u32}string \"5\"")),
        (r#"{"user":"a","hits":-1.5}"#, format!("{u32}floating point `-1.5`")),
        (r#"{"user":"a","hits":4294967296}"#, format!("{u32}integer `4294967296`")),
        (r#"{"user":"a","domain":5}"#, "integer `5`, expected a string".to_owned()),
        (r#""x""#, "expected an object, not string \"x\"".to_owned()),
        (r#"{"descriptors":{}}"#, "expected a list, not an object".to_owned()),
    ];
    for (body, expected) in cases {
        let answer = post(tollgate.http, "/v1/check", body).await.expect("an answer");
        assert_eq!(answer.status, 400, "{body}: {}", answer.body);
        let said = answer.json()["errors"][0]["what"].as_str().unwrap_or_default().to_owned();
        assert!(said.contains(&expected), "{body}: {}", answer.body);
        for rust in ["u32", "i64", "u64", "struct", "sequence"] {
            assert!(!said.contains(rust), "{body}: {said}");
        }
    }
}

#[tokio::test]
async fn a_user_with_characters_that_yaml_refuses_has_an_override_of_their_own() {
    let rules = RulesDir::with(
        "api.yaml",
        "domain: api\ndescriptors:\n- {key: user, rate_limit: {requests_per_unit: 2, unit: hour}}\n",
    );
    let tollgate = with_tokens(&rules, &[]).await;
    // DEL, a C1 control, a byte order mark, a noncharacter, a character of four bytes.
    for (nth, user) in
        ["a\u{7f}", "a\u{80}\u{9f}", "\u{feff}a", "a\u{fffe}", "😀\u{85}\u{2028}"].into_iter().enumerate()
    {
        let spec = json!({"match": {"user": user}, "limit": "7/h"}).to_string();
        let put = format!("PUT /v1/domains/api/overrides/strange-{nth}");
        let answer = call(tollgate.http, &put, Some("secret"), &spec).await;
        assert_eq!(answer.status, 201, "{user:?}: {answer:?}");
        let check = json!({"domain": "api", "user": user}).to_string();
        let limit = call(tollgate.http, "POST /v1/check", None, &check).await.json()["limit"].clone();
        assert_eq!(limit, 7, "{user:?}");
    }
}
