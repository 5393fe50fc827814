//! `deploy/prometheus/alerts.yaml`: Prometheus' own tool takes it and runs its tests, every alert reads metrics that
//! there are, is seen to fire and to stay silent, and has an entry in the runbook.

use std::{collections::BTreeSet, path::Path, process::Command};

use yaml_serde::Value;

use crate::harness::{RulesDir, Tollgate};

fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/prometheus")
}

fn read(file: &str) -> Value {
    let text = std::fs::read_to_string(folder().join(file)).expect("the file is there");
    yaml_serde::from_str(&text).expect("YAML")
}

fn alerts() -> Vec<Value> {
    read("alerts.yaml")["groups"][0]["rules"].as_sequence().expect("a list of rules").clone()
}

fn names() -> BTreeSet<String> {
    alerts().iter().map(|alert| alert["alert"].as_str().expect("every rule is an alert").to_owned()).collect()
}

fn assert_promtool(args: &[&str]) {
    let output = Command::new("promtool").args(args).current_dir(folder()).output();
    let output = output.expect("promtool is installed: tests/run.sh does it");
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("SUCCESS"), "promtool {args:?}:\n{said}");
}

#[test]
fn promtool_takes_the_alerts_and_their_tests_pass() {
    assert_promtool(&["check", "rules", "alerts.yaml"]);
    assert_promtool(&["test", "rules", "alerts.test.yaml"]);
}

#[test]
fn every_alert_is_seen_to_fire_and_to_stay_silent() {
    let (mut fires, mut silent) = (BTreeSet::new(), BTreeSet::new());
    for test in read("alerts.test.yaml")["tests"].as_sequence().expect("a list of tests") {
        for case in test["alert_rule_test"].as_sequence().expect("a list of expectations") {
            let name = case["alertname"].as_str().expect("a name").to_owned();
            let expected = if case["exp_alerts"].is_null() { &mut silent } else { &mut fires };
            expected.insert(name);
        }
    }
    assert_eq!(fires, names());
    assert_eq!(silent, names());
}

#[test]
fn alerts_read_only_metrics_that_there_are() {
    // Which is held to be what the binary serves.
    let served = crate::docs::documented_metrics();
    for alert in alerts() {
        let expression = alert["expr"].as_str().expect("an expression");
        let words = expression.split(|character: char| !character.is_ascii_alphanumeric() && character != '_');
        let read: Vec<&str> = words.filter(|word| word.starts_with("tollgate_")).collect();
        assert!(!read.is_empty(), "{expression}");
        for metric in read {
            let family = ["_bucket", "_count"].iter().find_map(|part| metric.strip_suffix(part)).unwrap_or(metric);
            assert!(served.contains(family), "{metric} in {:?}", alert["alert"]);
        }
    }
}

/// A series that begins with its first event has no rate then. Those of limits would be too many to begin with zeroes.
#[tokio::test]
async fn counters_that_alerts_watch_are_served_before_their_first_event_but_for_those_of_each_limit() {
    let rules = RulesDir::with("api.yaml", "domain: api\ndescriptors: [{key: user, rate_limit: 5/h}]\n");
    let in_memory = Tollgate::start(rules.path()).await;
    let with_redis = Tollgate::start_with(rules.path(), &[("REDIS_URL", "127.0.0.1:1")]).await;
    let page = in_memory.metrics().await + &with_redis.metrics().await;
    let served: BTreeSet<&str> = page.lines().filter_map(|line| line.split(['{', ' ']).next()).collect();
    let mut watched = BTreeSet::new();
    for alert in alerts() {
        let expression = alert["expr"].as_str().expect("an expression");
        for function in ["rate(", "increase("] {
            watched.extend(
                expression.split(function).skip(1).filter_map(|of| of.split(['[', '{']).next()).map(str::to_owned),
            );
        }
    }
    assert!(watched.len() > 8, "{watched:?}");
    let late: Vec<&String> = watched.iter().filter(|metric| !served.contains(metric.as_str())).collect();
    assert_eq!(late, ["tollgate_decisions_total", "tollgate_degraded_decisions_total"]);
}

#[test]
fn every_alert_has_an_entry_in_the_runbook_and_names_it() {
    let page = include_str!("../../docs/src/operating/runbook.md");
    let section = page.split_once("\n## The alerts\n").expect("the section").1;
    let entries: BTreeSet<String> =
        section.lines().filter_map(|line| line.strip_prefix("## ")).map(str::to_owned).collect();
    assert_eq!(entries, names());
    // Alerts of releases before name the page that the entries stood on: its anchors lead on.
    let old = include_str!("../../docs/operating.md");
    for alert in alerts() {
        let name = alert["alert"].as_str().expect("a name");
        let anchor = name.to_lowercase();
        assert!(old.contains(&format!("<a id=\"{anchor}\"></a>[{name}](src/operating/runbook.md#{anchor})")), "{name}");
        let place = format!("docs/src/operating/runbook.md#{anchor}");
        assert_eq!(alert["annotations"]["runbook"].as_str(), Some(place.as_str()));
        assert!(
            ["page", "ticket", "info"].contains(&alert["labels"]["severity"].as_str().unwrap_or_default()),
            "{name}"
        );
    }
}
