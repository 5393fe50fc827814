//! Clients that retry while they are refused, and what their retries cost them.

use serde_json::json;

use crate::harness::{App, Envoy, RulesDir, Tollgate, eventually, get, post, run_to_end};

const USER: &str = "actions: [{request_headers: {header_name: x-user-id, descriptor_key: user}}]";

/// What `tollgate test` says of these cases for these rules.
fn tested(rules: &str, cases: &str) -> (String, Option<i32>) {
    let dir = RulesDir::with("rules.yaml", rules);
    dir.write("cases.test.yaml", cases);
    let output = run_to_end(&["test", dir.path().to_str().expect("a plain path")], &[]);
    (String::from_utf8(output.stdout).expect("text"), output.status.code())
}

/// The hits that alice's counter holds.
async fn held(tollgate: &Tollgate) -> f64 {
    let explained = get(tollgate.admin, "/explain?domain=api&entry=user=alice", &[]).await.expect("it answers").json();
    explained["descriptors"][0]["counters"][0]["holds"]["hits"].as_f64().expect("the counter can be read")
}

/// Asked eight times a second for half a minute, as a client without a back-off does.
#[test]
fn a_client_that_retries_gets_its_whole_limit_though_its_requests_carry_a_cost() {
    let rules = "domain: api\ndescriptors:\n  - key: user\n    rate_limit: {requests: 10, window: 5s}\n";
    let case = |name: &str, hits: &str| {
        format!(
            "  - name: {name}\n    requests:\n      - descriptor: {{entries: {{user: {name}}}{hits}}}\n        \
             times: 240\n        every: 125ms\n        expect: {{admitted: 60}}\n"
        )
    };
    let (said, code) = tested(rules, &format!("cases:\n{}{}", case("without", ""), case("with", ", hits: 1")));
    assert_eq!(code, Some(0), "{said}");
}

/// What Envoy Gateway makes of `cost.request`: a cost of the descriptor's own, asked before the request.
#[tokio::test]
async fn refused_requests_with_a_cost_of_their_own_take_nothing_from_what_envoy_admits_next() {
    let rules = RulesDir::with(
        "api.yaml",
        "domain: api\ndescriptors:\n  - key: user\n    rate_limit: {requests_per_unit: 6, unit: hour}\n",
    );
    let (app, tollgate) = (App::start().await, Tollgate::start(rules.path()).await);
    let before = format!("- {{{USER}, hits_addend: {{format: '%REQ(x-cost)%'}}}}\n");
    let envoy = Envoy::start_limiting(app.address, &[tollgate.grpc], &before).await;
    let mut statuses = Vec::new();
    for cost in ["2", "3", "2", "2", "3", "1", "1"] {
        let headers = [("x-user-id", "alice"), ("x-cost", cost)];
        statuses.push(get(envoy.ingress, "/", &headers).await.expect("Envoy answers").status);
    }
    assert_eq!(statuses, [200, 200, 429, 429, 429, 200, 429], "one was left for the request that costs one");
    assert_eq!(held(&tollgate).await, 6.0);
}

/// A look of 0 before each request tells that the cost comes afterwards, when it can't be refused any more.
#[tokio::test]
async fn a_budget_that_envoy_looks_at_first_is_charged_what_was_spent_beyond_it() {
    let rules = RulesDir::with(
        "api.yaml",
        "domain: api\ndescriptors:\n  - key: user\n    rate_limit: {requests_per_unit: 100, unit: hour}\n",
    );
    for look in ["hits_addend: {number: 0}", "{}"] {
        let (app, tollgate) = (App::start().await, Tollgate::start(rules.path()).await);
        let look = if look == "{}" { format!("- {{{USER}}}\n") } else { format!("- {{{USER}, {look}}}\n") };
        let report = format!("- {{{USER}, hits_addend: {{number: 5000}}, apply_on_stream_done: true}}\n");
        let envoy = Envoy::start_limiting(app.address, &[tollgate.grpc], &format!("{look}{report}")).await;
        assert_eq!(envoy.get("alice", "/").await.status, 200, "{look}");
        eventually("the report of the first request", || async { (held(&tollgate).await >= 5_000.0).then_some(()) })
            .await;
        assert_eq!(envoy.get("alice", "/").await.status, 429, "{look}");
        assert_eq!(envoy.get("bob", "/").await.status, 200, "{look}");
    }
}

/// With these limits of a budget of 100, two requests that spend 60 each, and then one that is refused.
async fn spent_by_two_and_a_refused_one(rate_limits: &str) -> f64 {
    let rules = RulesDir::with(
        "api.yaml",
        "domain: api\ndescriptors:\n  - key: user\n    rate_limit: {requests_per_unit: 100, unit: hour}\n",
    );
    let (app, tollgate) = (App::start().await, Tollgate::start(rules.path()).await);
    let envoy = Envoy::start_limiting(app.address, &[tollgate.grpc], rate_limits).await;
    for (nth, expected) in [200, 200, 429].into_iter().enumerate() {
        assert_eq!(envoy.get("alice", "/").await.status, expected);
        // Each is looked at and reported.
        let decided = 2.0 * (nth + 1) as f64;
        eventually("the report", || async {
            (tollgate.metric("tollgate_decision_duration_seconds_count").await >= decided).then_some(())
        })
        .await;
    }
    held(&tollgate).await
}

#[tokio::test]
async fn a_refused_request_is_not_charged_what_it_never_spent_where_envoy_reports_by_the_examples_expression() {
    let example = std::fs::read_to_string("examples/envoy/budget.yaml").expect("the example is there");
    let (_, rate_limits) = example.split_once("\nrate_limits:\n").expect("what the filter is given");
    assert_eq!(spent_by_two_and_a_refused_one(rate_limits).await, 120.0);

    let by_number = regex::Regex::new(r#"\{format: ".*"\}"#).expect("plain").replace(rate_limits, "{number: 60}");
    assert_ne!(by_number, rate_limits);
    assert_eq!(spent_by_two_and_a_refused_one(&by_number).await, 180.0, "why the example has an expression");
}

/// `tollgate call` is for people, and says nothing of how Envoy asks; nor does a check, or an explanation.
#[tokio::test]
async fn whoever_looks_with_tollgates_own_tools_makes_no_budget_of_a_limit() {
    let rules = RulesDir::with("api.yaml", "domain: api\ndescriptors: [{key: user, rate_limit: 2/h}]\n");
    let tollgate = Tollgate::start(rules.path()).await;
    let addr = tollgate.grpc.to_string();
    let run = |args: &[&str]| assert!(run_to_end(args, &[]).status.success(), "{args:?}");
    run(&["call", "--addr", &addr, "--domain", "api", "--descriptor", "user=a"]);
    run(&["bench", "--addr", &addr, "--domain", "api", "--descriptor", "user=b", "--seconds", "0.1", "--warmup", "0"]);
    run(&["explain", "--admin", &tollgate.admin.to_string(), "--entry", "user=c", "--hits", "0"]);
    for (path, body) in [
        ("/v1/check", r#"{"user": "d", "hits": 0}"#),
        ("/json", r#"{"domain": "api", "descriptors": [{"entries": [{"key": "user", "value": "e"}]}]}"#),
    ] {
        assert_eq!(post(tollgate.http, path, body).await.expect("it answers").status, 200, "{path}");
    }
    let limit = async || {
        let rules = get(tollgate.admin, "/rules", &[]).await.expect("it answers").json();
        rules["domains"][0]["limits"][0].clone()
    };
    let seen = limit().await;
    assert_eq!((&seen["count_denied"], &seen["budget"]), (&json!("auto"), &json!(false)));
    assert!(tollgate.client().admits("api", &[("user", "f")]).await);
    let seen = limit().await;
    assert_eq!(seen["budget"], true);
    let since = seen["budget_since"].as_str().expect("a time").to_owned();
    let explained = get(tollgate.admin, "/explain?entry=user=g", &[]).await.expect("it answers").json();
    let counter = &explained["descriptors"][0]["counters"][0];
    assert_eq!((&counter["refused_hits"], &counter["budget"]), (&json!("auto"), &json!(true)));
    assert_eq!(counter["budget_since"], since.as_str());
    let said = run_to_end(&["explain", "--admin", &tollgate.admin.to_string(), "--entry", "user=g"], &[]).stdout;
    let said = String::from_utf8(said).expect("text");
    assert!(
        said.contains(&format!("  refused   hits are free, but those that Envoy reports: a budget since {since}\n")),
        "{said}"
    );

    // What was learned outlasts a reload.
    rules.write("api.yaml", "domain: api\ndescriptors: [{key: user, rate_limit: 3/h}]\n");
    eventually("the new rules", || async { (limit().await["requests"] == 3).then_some(()) }).await;
    assert_eq!(limit().await["budget_since"], since.as_str());
}

#[tokio::test]
async fn a_check_that_is_refused_is_charged_only_where_the_rule_says_true() {
    let rule =
        |when: &str| format!("  - {{key: {when}, rate_limit: {{requests: 10, window: 1h, count_denied: {when}}}}}\n");
    let rules = ["auto", "reported", "\"true\"", "\"false\""]
        .map(rule)
        .concat()
        .replace("count_denied: \"true\"", "count_denied: true");
    let rules = rules.replace("count_denied: \"false\"", "count_denied: false");
    let rules = RulesDir::with("api.yaml", &format!("domain: api\ndescriptors:\n{rules}"));
    let tollgate = Tollgate::start(rules.path()).await;
    // Even while it is a budget to Envoy.
    assert!(tollgate.client().admits("api", &[("auto", "envoy")]).await);
    for (key, status) in [("auto", 200), ("reported", 200), ("true", 429), ("false", 200)] {
        let check = async |hits: u32| {
            let body = json!({"descriptors": [{"entries": {key: "a"}, "hits": hits}]}).to_string();
            post(tollgate.http, "/v1/check", body).await.expect("it answers").status
        };
        assert_eq!(check(11).await, 429, "{key}");
        assert_eq!(check(10).await, status, "{key}");
    }
}
