//! The decision log of a real process: its lines, its samples, and files that can't be written.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use serde_json::Value;

use crate::harness::{RulesDir, Tollgate, eventually, run_to_end};

const RULES: &str = "
domain: api
descriptors:
  - {key: user, rate_limit: {requests: 2, window: 1h}}
";

async fn with_log(rules: &RulesDir, file: &Path, env: &[(&str, &str)]) -> Tollgate {
    let log = ("TOLLGATE_DECISION_LOG", file.to_str().expect("temporary paths are text"));
    Tollgate::start_with(rules.path(), &[&[log], env].concat()).await
}

async fn ask(tollgate: &Tollgate, user: &str, times: usize) {
    let client = tollgate.client();
    for _ in 0..times {
        client.admits("api", &[("user", user)]).await;
    }
}

fn lines(file: &Path) -> Vec<Value> {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

#[tokio::test]
async fn every_decision_is_a_line_that_says_what_it_is() {
    let rules = RulesDir::with("api.yaml", RULES);
    let file = rules.path().join("decisions.ndjson");
    let tollgate = with_log(&rules, &file, &[("TOLLGATE_REPLICA_NAME", "pod-1")]).await;
    ask(&tollgate, "alice", 3).await;
    let read = eventually("all are written", || async { Some(lines(&file)).filter(|lines| lines.len() == 3) }).await;
    let line = &read[2];
    assert_eq!((&line["v"], &line["sample"], &line["replica"]), (&1.into(), &"all".into(), &"pod-1".into()), "{line}");
    assert_eq!((&line["code"], &line["denied_by"]), (&"OVER_LIMIT".into(), &"api/user".into()), "{line}");
    assert_eq!(fs::metadata(&file).expect("there").permissions().mode() & 0o777, 0o600);
    assert_eq!(tollgate.metric("tollgate_decision_log_lines_total").await, 3.0);
}

#[tokio::test]
async fn what_was_decided_before_the_end_is_written() {
    let rules = RulesDir::with("api.yaml", RULES);
    let file = rules.path().join("decisions.ndjson");
    let mut tollgate = with_log(&rules, &file, &[("TOLLGATE_DRAIN_DELAY", "0s")]).await;
    ask(&tollgate, "alice", 50).await;
    tollgate.process.signal("TERM");
    assert!(tollgate.process.end().await.success());
    assert_eq!(lines(&file).len(), 50);
}

#[tokio::test]
async fn denials_alone_are_logged_once_for_a_counter() {
    let rules = RulesDir::with("api.yaml", RULES);
    let file = rules.path().join("decisions.ndjson");
    let tollgate = with_log(&rules, &file, &[("TOLLGATE_DECISION_LOG_SAMPLE", "denied")]).await;
    ask(&tollgate, "alice", 10).await;
    ask(&tollgate, "bob", 1).await;
    ask(&tollgate, "carol", 3).await;
    let read = eventually("both clients are there", || async {
        Some(lines(&file)).filter(|lines| lines.iter().filter(|line| line["sample"] == "denied_first").count() == 2)
    })
    .await;
    assert!(read.iter().all(|line| line["code"] == "OVER_LIMIT"), "{read:?}");
}

#[tokio::test]
async fn standard_output_has_the_lines_and_nothing_else() {
    let rules = RulesDir::with("api.yaml", RULES);
    let tollgate = with_log(&rules, Path::new("-"), &[]).await;
    ask(&tollgate, "alice", 1).await;
    let line = tollgate.process.line("a decision", |line| line.starts_with("{\"v\":1").then(|| line.to_owned())).await;
    assert!(line.contains("\"value\":\"alice\""), "{line}");
}

#[tokio::test]
async fn a_disk_that_is_full_costs_lines_and_no_decision() {
    let rules = RulesDir::with("api.yaml", RULES);
    let tollgate = with_log(&rules, Path::new("/dev/full"), &[]).await;
    assert!(tollgate.client().admits("api", &[("user", "alice")]).await);
    eventually("what is lost is counted", || async {
        let lost = tollgate.metric("tollgate_decision_log_lines_lost_total{reason=\"unwritable\"}").await;
        (lost == 1.0).then_some(())
    })
    .await;
    assert!(tollgate.process.log().contains("can't write the decision log"), "{}", tollgate.process.log());
}

#[test]
fn a_log_that_can_not_be_opened_ends_the_start_with_its_place() {
    let rules = RulesDir::with("api.yaml", RULES);
    let rules = rules.path().to_str().expect("text");
    for (env, says) in [
        (
            &[("TOLLGATE_DECISION_LOG", "/no/such/directory/log")][..],
            "TOLLGATE_DECISION_LOG: /no/such/directory/log: No such file",
        ),
        (
            &[("TOLLGATE_DECISION_LOG", "x"), ("TOLLGATE_DECISION_LOG_SAMPLE", "half")],
            "expected all, a share such as 1%",
        ),
        (&[("TOLLGATE_DECISION_LOG", "x"), ("TOLLGATE_DECISION_LOG_MAX_BYTES", "12")], "at least 64KiB"),
    ] {
        let ended = run_to_end(&["--rules", rules], env);
        let said = String::from_utf8_lossy(&ended.stderr);
        assert!(!ended.status.success() && said.contains(says), "{env:?}: {said}");
    }
}
