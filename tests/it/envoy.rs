//! Tollgate as its users meet it: a real Envoy, configured by `examples/envoy`, before a real app. Only what the client
//! sees and what reaches the app is looked at.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use crate::harness::{Answer, App, Envoy, Load, OnFailure, REDIS_CONNECTIONS, RulesDir, Tollgate, eventually, get};
use crate::redis_server::RedisServer;

/// The example's rules, with hours for minutes: however slow the machine, no hit expires during a test.
fn example_rules() -> RulesDir {
    let text = include_str!("../../examples/envoy/rules/api.yaml");
    assert_eq!(text.matches("unit: minute").count(), 2, "the tests below count on the example's two limits");
    RulesDir::with("api.yaml", &text.replace("unit: minute", "unit: hour"))
}

/// Of the example's rules.
const USER_LIMIT: usize = 20;
const CHECKOUT_LIMIT: usize = 5;

fn statuses(answers: &[Answer]) -> Vec<u16> {
    answers.iter().map(|answer| answer.status).collect()
}

async fn ask_times(envoy: &Envoy, times: usize, user: &str, path: &str) -> Vec<Answer> {
    let mut answers = Vec::new();
    for _ in 0..times {
        answers.push(envoy.get(user, path).await);
    }
    answers
}

#[tokio::test]
async fn each_user_has_a_limit_of_their_own_and_nothing_refused_reaches_the_app() {
    let rules = example_rules();
    let (app, tollgate) = (App::start().await, Tollgate::start(rules.path()).await);
    let envoy = Envoy::start(app.address, &[tollgate.grpc], OnFailure::Deny).await;

    for user in ["alice", "bob"] {
        let answers = ask_times(&envoy, USER_LIMIT + 2, user, "/").await;
        let expected = [vec![200; USER_LIMIT], vec![429; 2]].concat();
        assert_eq!(statuses(&answers), expected, "{user}");
    }
    assert_eq!(app.reached(), 2 * USER_LIMIT);
}

#[tokio::test]
async fn checkout_is_limited_apart_and_a_refused_request_charges_no_limit() {
    let rules = example_rules();
    let (app, tollgate) = (App::start().await, Tollgate::start(rules.path()).await);
    let envoy = Envoy::start(app.address, &[tollgate.grpc], OnFailure::Deny).await;

    let checkouts = [
        ask_times(&envoy, CHECKOUT_LIMIT - 1, "alice", "/checkout").await,
        // A query string must not make another endpoint of it.
        ask_times(&envoy, 3, "alice", "/checkout?item=1").await,
    ]
    .concat();
    assert_eq!(statuses(&checkouts), [vec![200; CHECKOUT_LIMIT], vec![429; 2]].concat());

    // The two that were refused had to pass the user's limit too, and must not have been charged to it.
    let elsewhere = ask_times(&envoy, USER_LIMIT - CHECKOUT_LIMIT + 1, "alice", "/cart").await;
    assert_eq!(statuses(&elsewhere), [vec![200; USER_LIMIT - CHECKOUT_LIMIT], vec![429]].concat());

    assert_eq!(envoy.get("bob", "/checkout").await.status, 200, "another user's checkout has its own count");
}

#[tokio::test]
async fn the_access_log_says_which_limit_refused() {
    let (rules, app) = (example_rules(), App::start().await);
    let tollgate = Tollgate::start_with(rules.path(), &[("RESPONSE_DYNAMIC_METADATA", "true")]).await;
    let envoy = Envoy::start(app.address, &[tollgate.grpc], OnFailure::Deny).await;
    ask_times(&envoy, CHECKOUT_LIMIT + 1, "alice", "/checkout").await;
    let line = |code: u16| {
        move |line: &str| {
            let line: serde_json::Value = serde_json::from_str(line).ok()?;
            (line["code"] == code && line["path"] == "/checkout").then_some(line)
        }
    };
    let refused = envoy.log_line("a refused request in the access log", line(429)).await;
    assert_eq!((&refused["denied_by"], &refused["user"]), (&"api/user/endpoint=/checkout".into(), &"alice".into()));
    let admitted = envoy.log_line("an admitted one", line(200)).await;
    assert!(admitted["denied_by"].is_null(), "{admitted}");
}

#[tokio::test]
async fn headers_say_the_limit_and_what_remains_and_a_refusal_says_when_to_come_back() {
    let rules = example_rules();
    let (app, tollgate) = (App::start().await, Tollgate::start(rules.path()).await);
    let envoy = Envoy::start(app.address, &[tollgate.grpc], OnFailure::Deny).await;

    let answers = ask_times(&envoy, USER_LIMIT, "alice", "/").await;
    let remaining: Vec<usize> =
        answers.iter().map(|answer| answer.header("x-ratelimit-remaining").parse().unwrap()).collect();
    assert_eq!(remaining, (0..USER_LIMIT).rev().collect::<Vec<_>>());
    assert_eq!(answers[0].header("x-ratelimit-limit"), "20, 20;w=3600");
    assert_eq!(answers[0].find_header("retry-after"), None);

    let refused = envoy.get("alice", "/").await;
    assert_eq!((refused.status, refused.header("x-ratelimit-remaining")), (429, "0"));
    let [reset, retry_after] =
        ["x-ratelimit-reset", "retry-after"].map(|name| refused.header(name).parse::<u64>().unwrap());
    assert_eq!(reset, retry_after);
    // Just now the first hit was counted, so it leaves the window in an hour, or one of 32 sub-windows later.
    assert!((3_600 - 60..=3_600 + 3_600 / 32 + 1).contains(&retry_after), "{retry_after}");
}

#[tokio::test]
async fn a_client_that_waits_as_retry_after_says_is_admitted() {
    let rules = RulesDir::with(
        "api.yaml",
        "domain: api\ndescriptors:\n  - key: user\n    rate_limit: {requests: 2, window: 2s}\n",
    );
    let (app, tollgate) = (App::start().await, Tollgate::start(rules.path()).await);
    let envoy = Envoy::start(app.address, &[tollgate.grpc], OnFailure::Deny).await;

    // A pause of the machine may let a hit expire in between: refused is who comes a third time within two seconds.
    let refused = eventually("a refusal", || async {
        let answer = envoy.get("alice", "/").await;
        (answer.status == 429).then_some(answer)
    })
    .await;
    let seconds = refused.header("retry-after").parse().unwrap();
    assert!((1..=3).contains(&seconds), "{seconds}");
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    assert_eq!(envoy.get("alice", "/").await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_rule_takes_effect_without_a_lost_request() {
    let limited_to = |requests: u32| {
        format!(
            "domain: api\ndescriptors:\n  - key: user\n    rate_limit: {{requests_per_unit: {requests}, unit: day}}\n"
        )
    };
    let rules = RulesDir::with("api.yaml", &limited_to(1_000_000));
    let (app, tollgate) = (App::start().await, Tollgate::start(rules.path()).await);
    let envoy = Envoy::start(app.address, &[tollgate.grpc], OnFailure::Deny).await;
    let limit_is = |requests: u32| {
        let envoy = &envoy;
        eventually("the new limit is in force", move || async move {
            let answer = envoy.get("watcher", "/").await;
            answer.header("x-ratelimit-limit").starts_with(&format!("{requests},")).then_some(())
        })
    };

    let ingress = envoy.ingress;
    let load = Load::start(4, move || async move { get(ingress, "/", &[("x-user-id", "alice")]).await });
    for requests in [2_000_000, 3_000_000, 1] {
        load.goes_on().await;
        rules.write("api.yaml", &limited_to(requests));
        limit_is(requests).await;
    }
    load.goes_on().await;
    // The counter goes on under a changed number: what was counted under millions is far above one.
    assert_eq!(envoy.get("alice", "/").await.status, 429);

    let answers = load.stop().await;
    let lost: Vec<_> = answers
        .iter()
        .filter(|answer| !answer.as_ref().is_ok_and(|answer| answer.status == 200 || answer.status == 429))
        .collect();
    assert!(lost.is_empty(), "{} of {} requests were lost: {:?}", lost.len(), answers.len(), lost.first());
}

#[tokio::test]
async fn while_tollgate_is_dead_envoy_does_as_configured_and_after_its_restart_limits_hold_again() {
    let rules = example_rules();
    // A loopback address that no other test uses: nobody else can take the port while Tollgate is away.
    const HOST: &str = "127.0.81.1";
    let app = App::start().await;
    let mut tollgate = Tollgate::start_with(rules.path(), &[("GRPC_HOST", HOST)]).await;
    let port = tollgate.grpc.port().to_string();
    let open = Envoy::start(app.address, &[tollgate.grpc], OnFailure::Pass).await;
    let closed = Envoy::start(app.address, &[tollgate.grpc], OnFailure::Deny).await;

    let answers = ask_times(&open, USER_LIMIT + 1, "alice", "/").await;
    assert_eq!(answers.last().unwrap().status, 429);

    tollgate.process.kill();
    let unlimited = open.get("alice", "/").await;
    assert_eq!((unlimited.status, unlimited.find_header("x-ratelimit-limit")), (200, None), "failure_mode_deny: false");
    assert_eq!(closed.get("alice", "/").await.status, 500, "failure_mode_deny: true");

    let _restarted = Tollgate::start_with(rules.path(), &[("GRPC_HOST", HOST), ("GRPC_PORT", &port)]).await;
    for envoy in [&open, &closed] {
        eventually("Envoy asks again", || async {
            envoy.get("somebody", "/").await.find_header("x-ratelimit-limit").map(|_| ())
        })
        .await;
    }
    // The memory store forgot what it had counted; from here on the limit is whole.
    let answers = ask_times(&open, USER_LIMIT + 1, "alice", "/").await;
    assert_eq!(statuses(&answers), [vec![200; USER_LIMIT], vec![429]].concat());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_replicas_on_one_redis_admit_exactly_the_limit() {
    const LIMIT: usize = 100;
    let rules = RulesDir::with(
        "api.yaml",
        &format!(
            "domain: api\ndescriptors:\n  - key: user\n    rate_limit: {{requests_per_unit: {LIMIT}, unit: hour}}\n"
        ),
    );
    let redis = RedisServer::start();
    let url = redis.address();
    let env = [("REDIS_SOCKET_TYPE", "tcp"), ("REDIS_URL", url.as_str())];
    let replicas = [Tollgate::start_with(rules.path(), &env).await, Tollgate::start_with(rules.path(), &env).await];
    let app = App::start().await;
    let both: Vec<SocketAddr> = replicas.iter().map(|replica| replica.grpc).collect();
    let envoy = Arc::new(Envoy::start(app.address, &both, OnFailure::Deny).await);
    for replica in &replicas {
        replica.redis_connections_are(REDIS_CONNECTIONS).await;
    }

    let clients: Vec<_> = (0..10)
        .map(|_| {
            let envoy = envoy.clone();
            tokio::spawn(async move { statuses(&ask_times(&envoy, 2 * LIMIT / 10, "alice", "/").await) })
        })
        .collect();
    let mut all = Vec::new();
    for client in clients {
        all.extend(client.await.expect("a client ends"));
    }
    assert_eq!(all.iter().filter(|&&status| status == 200).count(), LIMIT);
    assert_eq!(all.iter().filter(|&&status| status == 429).count(), LIMIT);
    assert_eq!(app.reached(), LIMIT);
    for replica in &replicas {
        let decided = replica.metric("tollgate_decision_duration_seconds_count").await;
        assert!(decided > 0.0, "Envoy asked one replica only");
    }
}

/// How a token budget works: Envoy looks before a request (hits 0), and reports what it cost when it is done.
#[tokio::test]
async fn a_cost_that_envoy_reports_after_the_fact_counts_though_it_is_over_the_limit() {
    let rules = RulesDir::with(
        "api.yaml",
        "domain: api\ndescriptors:\n  - key: user\n    rate_limit: {requests_per_unit: 100, unit: hour}\n",
    );
    let (app, tollgate) = (App::start().await, Tollgate::start(rules.path()).await);
    let user = "actions: [{request_headers: {header_name: x-user-id, descriptor_key: user}}]";
    let look = format!("- {{{user}, hits_addend: {{number: 0}}}}");
    let report = format!("- {{{user}, hits_addend: {{number: 5000}}, apply_on_stream_done: true}}");
    let envoy = Envoy::start_limiting(app.address, &[tollgate.grpc], &format!("{look}\n{report}\n")).await;

    assert_eq!(envoy.get("alice", "/").await.status, 200);
    eventually("the report of the first request", || async {
        let refused = r#"tollgate_decisions_total{domain="api",limit="api/user",result="over_limit"} 1"#;
        tollgate.metrics().await.contains(refused).then_some(())
    })
    .await;
    assert_eq!(envoy.get("alice", "/").await.status, 429);
    assert_eq!(envoy.get("bob", "/").await.status, 200);
}
