//! `deploy/prometheus/alerts.yaml`: Prometheus' own tool takes it and runs its tests, every alert reads metrics that
//! there are, is seen to fire and to stay silent, and leads to its entry in the runbook, whose address is one line.

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

/// Address of the runbook as the file has it, in the rule that its users edit.
const RUNBOOK: &str = "docs/src/operating/runbook.md";

fn alerts() -> Vec<Value> {
    let all = read("alerts.yaml");
    let (runbook, alerts) = all["groups"][0]["rules"].as_sequence().and_then(|all| all.split_first()).expect("rules");
    // First of all, so that every alert of the same evaluation finds it.
    assert_eq!(runbook["record"], "tollgate:runbook");
    alerts.to_vec()
}

fn names() -> BTreeSet<String> {
    alerts().iter().map(|alert| alert["alert"].as_str().expect("every rule is an alert").to_owned()).collect()
}

fn assert_promtool(folder: &Path, args: &[&str]) {
    let output = Command::new("promtool").args(args).current_dir(folder).output();
    let output = output.expect("promtool is installed: tests/run.sh does it");
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("SUCCESS"), "promtool {args:?}:\n{said}");
}

#[test]
fn promtool_takes_the_alerts_and_their_tests_pass() {
    assert_promtool(&folder(), &["check", "rules", "alerts.yaml"]);
    assert_promtool(&folder(), &["test", "rules", "alerts.test.yaml"]);
}

#[test]
fn one_line_says_where_the_runbook_is_to_which_every_alert_leads() {
    let text = std::fs::read_to_string(folder().join("alerts.yaml")).expect("the file is there");
    let line = format!("labels: {{url: {RUNBOOK}}}}}");
    assert_eq!(text.matches(&line).count(), 1, "one line has it");
    // The runbook shows the line as one writes it.
    let shown = include_str!("../../docs/src/operating/runbook.md");
    let rule = r#"- {record: "tollgate:runbook", expr: vector(1), labels: {url: "#;
    assert!(text.contains(rule) && shown.contains(rule));
    // As the file comes, it is where the runbook is in the repository.
    assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join(RUNBOOK).is_file());
    // What promtool's tests expect of each alert's link is then the same of another address.
    let (elsewhere, edited) =
        ("https://wiki.example/runbook.html?of=tollgate", tempfile::tempdir().expect("a temporary directory"));
    let write = |file: &str, text: &str| std::fs::write(edited.path().join(file), text).expect("it can be written");
    let cases = std::fs::read_to_string(folder().join("alerts.test.yaml")).expect("the file is there");
    assert!(cases.matches(&format!("runbook_url: {RUNBOOK}#")).count() >= names().len());
    write("alerts.yaml", &text.replace(&line, &format!("labels: {{url: \"{elsewhere}\"}}}}")));
    let [here, there] = [RUNBOOK, elsewhere].map(|address| format!("runbook_url: {address}"));
    write("alerts.test.yaml", &cases.replace(&here, &there));
    assert_promtool(edited.path(), &["test", "rules", "alerts.test.yaml"]);
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
        // The section of the name was found above: renderers make its anchor of it in lower case.
        let link = format!(
            r#"{{{{ with query "tollgate:runbook" }}}}{{{{ . | first | label "url" }}}}#{anchor}{{{{ end }}}}"#
        );
        assert_eq!(alert["annotations"]["runbook_url"].as_str(), Some(link.as_str()));
        assert!(
            ["page", "ticket", "info"].contains(&alert["labels"]["severity"].as_str().unwrap_or_default()),
            "{name}"
        );
    }
}
