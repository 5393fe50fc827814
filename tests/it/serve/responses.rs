//! What answers carry beside the verdict: off unless asked for, and told truly through gRPC and JSON.

use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::Code;
use serde_json::json;

use crate::harness::{RulesDir, Tollgate, descriptor, post, request};

const RULES: &str = "
domain: api
descriptors:
  - {key: user, metadata: {team: pay, tier: {name: free}}, rate_limit: {requests_per_unit: 1, unit: hour}}
  - {key: path, metadata: {team: web, tier: {rank: 2}}, rate_limit: {requests_per_unit: 9, unit: day}}
";

#[tokio::test]
async fn answers_carry_no_headers_and_no_metadata_unless_asked_for() {
    let rules = RulesDir::with("api.yaml", RULES);
    let tollgate = Tollgate::start(rules.path()).await;
    let answer = tollgate.client().ask(request("api", vec![descriptor(&[("user", "a")])])).await.expect("a decision");
    assert_eq!(answer.response_headers_to_add, []);
    assert_eq!(answer.dynamic_metadata, None);
}

#[tokio::test]
async fn a_refused_client_is_told_in_headers_of_any_name_when_to_come_again() {
    let rules = RulesDir::with("api.yaml", RULES);
    let env = [
        ("LIMIT_RESPONSE_HEADERS_ENABLED", "true"),
        ("LIMIT_REMAINING_HEADER", "X-Left"),
        ("TOLLGATE_RETRY_AFTER_HEADER", "true"),
    ];
    let tollgate = Tollgate::start_with(rules.path(), &env).await;
    let ask = async || {
        let both = vec![descriptor(&[("user", "a")]), descriptor(&[("path", "/")])];
        let answer = tollgate.client().ask(request("api", both)).await.expect("a decision");
        let headers: Vec<_> = answer.response_headers_to_add.iter().map(|h| (h.key.clone(), h.value.clone())).collect();
        (answer, headers)
    };
    let (_, admitted) = ask().await;
    let names: Vec<&str> = admitted.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["RateLimit-Limit", "X-Left", "RateLimit-Reset"]);

    let (answer, refused) = ask().await;
    assert_eq!(answer.overall_code(), Code::OverLimit);
    assert_eq!(refused[..2], [("RateLimit-Limit", "1"), ("X-Left", "0")].map(|(n, v)| (n.to_owned(), v.to_owned())));
    let reset = answer.statuses[0].duration_until_reset.as_ref().expect("refused for a time").seconds.to_string();
    assert!(reset != "0", "there is a wait");
    assert_eq!(refused[2..], [("RateLimit-Reset".to_owned(), reset.clone()), ("Retry-After".to_owned(), reset)]);
}

#[tokio::test]
async fn dynamic_metadata_says_which_limit_denied_and_merges_that_of_rules_for_one_answer_only() {
    let rules = RulesDir::with("api.yaml", RULES);
    let tollgate = Tollgate::start_with(rules.path(), &[("RESPONSE_DYNAMIC_METADATA", "true")]).await;
    let ask = async || {
        let body = json!({"domain": "api", "hitsAddend": 1, "descriptors": [
            {"entries": [{"key": "user", "value": "a"}]}, {"entries": [{"key": "path", "value": "/"}]},
        ]});
        post(tollgate.http, "/json", body.to_string()).await.expect("an answer").json()["dynamicMetadata"].clone()
    };
    let expected = json!({
        "domain": "api",
        "descriptors": [{"entries": ["user=a"]}, {"entries": ["path=/"]}],
        "hitsAddend": 1.0,
        "metadata": {"team": "pay", "tier": {"name": "free", "rank": 2.0}},
        "tollgate": {"limit_id": "api/user", "rules_version": 1.0},
    });
    assert_eq!(ask().await, expected);

    // The reference writes what it merges into its rules, so that this answer would carry the refused rule's name.
    let refused = ask().await;
    assert_eq!(refused["metadata"], json!({"team": "web", "tier": {"rank": 2.0}}));
    assert_eq!(refused["tollgate"], json!({"limit_id": "api/user", "denied_by": "api/user", "rules_version": 1.0}));
}
