//! Start and end: what stops a start, what a signal does, and that nothing asked is lost on the way out.

use std::process::{Command, Output};

use tokio::net::TcpStream;
use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use super::PER_USER;
use crate::{
    harness::{
        Load, Process, REDIS_CONNECTIONS, RulesDir, Tollgate, channel, descriptor, eventually, post, request,
        run_to_end,
    },
    redis_server::RedisServer,
};

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn a_start_with_unreadable_rules_exits_1_and_names_every_problem() {
    let rules = RulesDir::with(
        "one.yaml",
        "domain: one\ndescriptors:\n  - key: a\n    rate_limit: {requests_per_unit: x, unit: hour}\n",
    );
    rules.write("two.yaml", "domain: two\ndescriptors:\n  - kee: a\n");
    rules.write("three.yaml", "descriptors: []\n");
    let output = run_to_end(&["serve"], &[("TOLLGATE_RULES", rules.path().to_str().unwrap()), ("LOG_FORMAT", "text")]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    for named in ["one.yaml", "two.yaml", "kee", "three.yaml"] {
        assert!(said(&output).contains(named), "no {named} in:\n{}", said(&output));
    }
}

#[test]
fn rules_that_are_not_there_stop_a_start() {
    let output = run_to_end(&["serve", "--rules", "/nowhere/rules"], &[]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("/nowhere/rules"), "{}", said(&output));
}

#[test]
fn every_wrong_value_is_named_in_one_message() {
    let output = run_to_end(
        &["serve", "--store-timeout", "soon"],
        &[("GRPC_PORT", "seventy"), ("LOG_FORMAT", "xml"), ("BACKEND_TYPE", "etcd"), ("TOLLGATE_ALGORITHM", "guess")],
    );
    assert!(!output.status.success());
    for wrong in ["soon", "seventy", "xml", "etcd", "guess"] {
        assert!(said(&output).contains(wrong), "no {wrong} in:\n{}", said(&output));
    }
}

#[test]
fn every_unknown_flag_is_named_in_one_message() {
    let output = run_to_end(&["serve", "--rulez", "a", "--nope"], &[("PORT", "eighty")]);
    assert!(!output.status.success());
    for wrong in ["--rulez", "--nope", "eighty"] {
        assert!(said(&output).contains(wrong), "no {wrong} in:\n{}", said(&output));
    }
}

#[tokio::test]
async fn health_is_serving_until_sigterm_and_then_says_so() {
    let rules = RulesDir::with("api.yaml", PER_USER);
    let mut tollgate = Tollgate::start(rules.path()).await;
    let mut health = HealthClient::new(channel(tollgate.grpc));
    let mut watches = Vec::new();
    for service in ["", "ratelimit"] {
        let ask = HealthCheckRequest { service: service.to_owned() };
        assert_eq!(
            health.check(ask.clone()).await.unwrap().into_inner().status(),
            ServingStatus::Serving,
            "{service:?}"
        );
        let mut watch = health.watch(ask).await.unwrap().into_inner();
        assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
        watches.push(watch);
    }
    let unknown = health.check(HealthCheckRequest { service: "nobody".to_owned() }).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);

    tollgate.process.signal("TERM");
    for mut watch in watches {
        let last = watch.message().await.expect("a watcher is told before the end").expect("a last status");
        assert_eq!(last.status(), ServingStatus::NotServing);
    }
    assert_eq!(tollgate.process.end().await.code(), Some(0));
}

#[tokio::test]
async fn phases_are_logged_in_order_as_they_begin_and_each_once() {
    let rules = RulesDir::with("api.yaml", PER_USER);
    let mut tollgate = Tollgate::start(rules.path()).await;
    tollgate.process.signal("TERM");
    assert_eq!(tollgate.process.end().await.code(), Some(0));
    let log = tollgate.process.log();
    let lines: Vec<serde_json::Value> = log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let phases: Vec<_> = lines.iter().filter_map(|line| line["phase"].as_str()).collect();
    assert_eq!(phases, ["settings", "rules", "store", "listeners", "ready", "drain", "deadline"], "{log}");

    let at = |what: &dyn Fn(&serde_json::Value) -> bool| {
        lines.iter().position(what).unwrap_or_else(|| panic!("a line is missing in:\n{log}"))
    };
    let began = |phase: &str| at(&|line| line["phase"] == phase);
    let said = |message: &str| at(&|line| line["message"] == message);
    assert!(began("rules") < said("rules are in force") && said("rules are in force") < began("store"), "{log}");
    assert!(began("listeners") < said("listening") && said("listening") < began("ready"), "{log}");
    assert!(began("ready") < said("stopping: received SIGTERM"), "{log}");
    assert!(began("deadline") < said("stopped"), "{log}");
    let store = &lines[at(&|line| line["store"] == "memory")];
    assert!(store["reason"].is_string(), "{store}");
    assert!(lines.iter().all(|line| line["version"].is_null() || line["rules"].is_null()), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_under_load_loses_no_request_that_was_begun_and_exits_0() {
    let rules = RulesDir::with("api.yaml", PER_USER);
    let mut tollgate = Tollgate::start(rules.path()).await;
    let client = tollgate.client();
    let load = Load::start(8, move || {
        let client = client.clone();
        async move { client.ask(request("api", vec![descriptor(&[("user", "alice")])])).await }
    });
    load.goes_on().await;
    tollgate.process.signal("TERM");
    assert_eq!(tollgate.process.end().await.code(), Some(0), "{}", tollgate.process.log());

    let answers = load.stop().await;
    assert!(answers.iter().any(Result::is_ok));
    for status in answers.iter().filter_map(|answer| answer.as_ref().err()) {
        // Whoever comes after the listener closed finds nobody; whoever was let in is answered.
        assert!(never_began(status), "lost: {status:?}");
    }
}

#[tokio::test]
async fn sigterm_leaves_it_to_redis_to_answer_what_came_over_http() {
    let rules = RulesDir::with("api.yaml", PER_USER);
    let json = r#"{"domain": "api", "descriptors": [{"entries": [{"key": "user", "value": "alice"}]}]}"#;
    for (path, body) in [("/json", json), ("/v1/check", r#"{"domain": "api", "user": "alice"}"#)] {
        let redis = RedisServer::start();
        let url = redis.address();
        let env = [("REDIS_URL", &*url), ("TOLLGATE_STORE_TIMEOUT", "20s"), ("TOLLGATE_ON_STORE_FAILURE", "closed")];
        let mut tollgate = Tollgate::start_with(rules.path(), &env).await;
        tollgate.redis_connections_are(REDIS_CONNECTIONS).await;
        redis.freeze();
        let at = tollgate.http;
        let waiting = tokio::spawn(post(at, path, body));
        eventually("it waits for Redis", || async {
            (tollgate.metric("tollgate_redis_batches_total").await == 1.0).then_some(())
        })
        .await;
        tollgate.process.signal("TERM");
        eventually("the listener is closed", || async { TcpStream::connect(at).await.err() }).await;
        redis.thaw();
        let answer = waiting.await.unwrap().expect("an answer");
        assert_eq!(answer.status, 200, "{path}: the policy would refuse: {answer:?}");
        assert_eq!(tollgate.process.end().await.code(), Some(0), "{}", tollgate.process.log());
    }
}

/// The client's own word that the request never reached a server: no connection could be made, or the one at hand said
/// GOAWAY. A GOAWAY without an error fails only streams above the last that the server took (RFC 9113, 6.8), and those
/// that were not yet sent; a stream that the server had begun and dropped would end as a broken pipe or a reset.
fn never_began(status: &tonic::Status) -> bool {
    let mut cause = std::error::Error::source(status);
    let mut told = status.to_string();
    while let Some(error) = cause {
        told += &error.to_string();
        cause = error.source();
    }
    ["tcp connect error", "Connection refused", "operation was canceled", "GoAway(b\"\", NO_ERROR, Remote)"]
        .iter()
        .any(|words| told.contains(words))
}

#[tokio::test]
async fn counts_go_on_over_a_restart_with_a_state_directory_that_one_process_holds() {
    let rules = RulesDir::with("api.yaml", PER_USER);
    let state = tempfile::tempdir().expect("a directory");
    let env = [("TOLLGATE_STATE_DIR", state.path().to_str().expect("UTF-8"))];
    let ask = |tollgate: &Tollgate| {
        let client = tollgate.client();
        async move { client.ask(request("api", vec![descriptor(&[("user", "alice")])])).await.expect("an answer") }
    };

    let mut first = Tollgate::start_with(rules.path(), &env).await;
    assert_eq!(ask(&first).await.statuses[0].limit_remaining, 2);
    let second = run_to_end(&["serve", "--rules", rules.path().to_str().expect("UTF-8")], &env);
    assert_eq!(second.status.code(), Some(1), "{}", said(&second));
    assert!(said(&second).contains("another process"), "{}", said(&second));
    first.process.signal("TERM");
    assert_eq!(first.process.end().await.code(), Some(0), "{}", first.process.log());

    let again = Tollgate::start_with(rules.path(), &env).await;
    assert_eq!(ask(&again).await.statuses[0].limit_remaining, 1);
}

/// Started where this is the soft and that the hard limit of open files.
async fn with_open_files(soft: u32, hard: u32) -> (RulesDir, Process) {
    let rules = RulesDir::with("api.yaml", PER_USER);
    let mut command = Command::new("sh");
    let script = format!("ulimit -Sn {soft} && ulimit -Hn {hard} && exec {}", env!("CARGO_BIN_EXE_tollgate"));
    command.env_clear().args(["-c", &script]).env("TOLLGATE_RULES", rules.path()).env("GRPC_PORT", "0");
    command.envs([("PORT", "0"), ("DEBUG_PORT", "0"), ("USE_PROMETHEUS", "false"), ("HOST", "127.0.0.1")]);
    let process = Process::spawn("tollgate", &mut command);
    process.line("its HTTP listener", |line| line.contains("listener=\"http\"").then_some(())).await;
    (rules, process)
}

#[tokio::test]
async fn the_limit_of_open_files_is_raised_as_far_as_may_be_and_too_low_a_one_is_said() {
    for (hard, is_said) in [(2_000, true), (20_000, false)] {
        let (_rules, process) = with_open_files(256, hard).await;
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", process.id())).expect("the process runs");
        let line = limits.lines().find(|line| line.starts_with("Max open files")).expect("the kernel says it");
        assert_eq!(line.split_whitespace().nth(3), Some(&*hard.to_string()), "{line}");
        let log = process.log();
        assert_eq!(log.contains("raise the hard limit"), is_said, "{log}");
        assert_eq!(log.contains("allowed=2000 wanted=13200"), is_said, "{log}");
    }
}
