//! Rule files that were passed over, so that nothing was limited and nothing showed it.

use std::process::{Command, Output};

use crate::harness::{RulesDir, Tollgate, eventually};

const RULES: &str = "domain: api\ndescriptors:\n  - {key: user, rate_limit: 2/day}\n";

fn run(args: &[&str]) -> (i32, String) {
    let output: Output = Command::new(env!("CARGO_BIN_EXE_tollgate")).args(args).env_clear().output().expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.code().expect("no signal"), text)
}

/// Names that people give to the only key of a ConfigMap.
const NAMES: [&str; 3] = ["config", "rules.json", "config.YAML"];

#[tokio::test]
async fn a_config_map_whose_only_key_has_no_ending_limits_as_with_envoyproxy_ratelimit() {
    for name in NAMES {
        let root = RulesDir::with(&format!("ratelimit/config/{name}"), RULES);
        for watch_root in ["true", "false"] {
            let env = [
                ("TOLLGATE_RULES", ""),
                ("RUNTIME_ROOT", root.path().to_str().expect("temporary paths are text")),
                ("RUNTIME_SUBDIRECTORY", "ratelimit"),
                ("RUNTIME_WATCH_ROOT", watch_root),
                ("RUNTIME_IGNOREDOTFILES", "true"),
            ];
            let tollgate = Tollgate::start_with(root.path(), &env).await;
            let client = tollgate.client();
            for expected in [true, true, false] {
                assert_eq!(client.admits("api", &[("user", name)]).await, expected, "{name}");
            }
            assert_eq!(tollgate.metric("tollgate_rules_domains").await, 1.0, "{name}");
        }
    }
}

#[tokio::test]
async fn a_file_that_is_no_rule_file_by_its_name_is_named_in_a_warning_and_no_domain_is_seen_in_a_gauge() {
    for name in NAMES {
        let rules = RulesDir::with(name, RULES);
        let tollgate = Tollgate::start(rules.path()).await;
        let log = tollgate.process.log();
        let is_warned = |line: &str| line.contains("WARN") && line.contains(&format!("/{name}: it isn't read"));
        assert!(log.lines().any(is_warned), "no WARN names {name}:\n{log}");
        assert_eq!(tollgate.metric("tollgate_rules_domains").await, 0.0);
        // One that comes later, too.
        rules.write("more", RULES);
        let is_told = |line: &str| line.contains("/more: it isn't read").then_some(());
        tollgate.process.line("a WARN that names what came", is_told).await;
        rules.write("api.yaml", RULES);
        eventually("there are rules", || async {
            (tollgate.metric("tollgate_rules_domains").await == 1.0).then_some(())
        })
        .await;
    }
}

#[test]
fn a_check_that_read_nothing_fails_and_says_what_it_passed_over() {
    let empty = RulesDir::empty();
    let path = |rules: &RulesDir| rules.path().to_str().expect("temporary paths are text").to_owned();
    let mut directories = vec![(empty, None)];
    directories.extend(NAMES.map(|name| (RulesDir::with(name, RULES), Some(name))));
    for (rules, name) in &directories {
        let tools: [&[&str]; 4] = [
            &["check", &path(rules)],
            &["check", "--format", "github", &path(rules)],
            &["check", "--format", "json", &path(rules)],
            &["explain", "--rules", &path(rules), "--entry", "user=alice"],
        ];
        for tool in tools {
            let (code, text) = run(tool);
            assert_eq!(code, 1, "{tool:?}:\n{text}");
            assert!(text.contains("no rules were read from it"), "{tool:?}:\n{text}");
            assert!(name.is_none_or(|name| text.contains(name)), "{tool:?} doesn't name {name:?}:\n{text}");
        }
        let (code, text) = run(&["check", "--any-name", &path(rules)]);
        assert_eq!(code, i32::from(name.is_none()), "{text}");
    }
    // With rules beside it a file that isn't read is a warning.
    let rules = RulesDir::with("rules.json", RULES);
    rules.write("api.yaml", RULES);
    let (code, text) = run(&["check", &path(&rules)]);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("rules.json") && text.contains("1 warning"), "{text}");
    // And so is an empty directory beside another.
    let empty = RulesDir::empty();
    let (code, text) = run(&["check", &path(&rules), &path(&empty)]);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains(&path(&empty)) && text.contains("2 warnings"), "{text}");
}

#[test]
fn the_references_check_reads_every_file_and_fails_where_there_is_none() {
    let bin = tempfile::tempdir().expect("a temporary directory");
    let tool = bin.path().join("ratelimit_config_check");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_tollgate"), &tool).expect("the name is free");
    let check = |rules: &RulesDir| {
        let output = Command::new(&tool).arg("-config_dir").arg(rules.path()).env_clear().output().expect("it runs");
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    for name in NAMES {
        assert_eq!(check(&RulesDir::with(name, RULES)).0, Some(0), "{name}");
        let (code, text) = check(&RulesDir::with(name, "domain: [\n"));
        assert_eq!(code, Some(1), "{name} is read:\n{text}");
    }
    let (code, text) = check(&RulesDir::empty());
    assert_eq!(code, Some(1), "{text}");
    assert!(!text.contains("all rate limit configs ok"), "{text}");
}

#[test]
fn test_cases_of_a_directory_without_rules_fail() {
    let cases = "domain: api\ncases:\n  - {name: x, requests: [{descriptor: user=a, expect: ok}]}\n";
    let rules = RulesDir::with("api.test.yaml", cases);
    rules.write("rules.json", RULES);
    let (code, text) = run(&["test", rules.path().to_str().expect("temporary paths are text")]);
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("no rules were read") && text.contains("rules.json"), "{text}");
    // Cases that nobody plays are named.
    rules.write("api.yaml", RULES);
    rules.write("more.test.YAML", cases);
    let (code, text) = run(&["test", rules.path().to_str().expect("temporary paths are text")]);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("more.test.YAML"), "{text}");
}

#[test]
fn files_that_hold_nothing_are_errors() {
    for (name, text) in [("empty.yaml", ""), ("comments.yaml", "# domain: api\n"), ("blank.yml", "\n---\n\n")] {
        let rules = RulesDir::with(name, text);
        let (code, text) = run(&["check", rules.path().to_str().expect("temporary paths are text")]);
        assert_eq!(code, 1, "{name}:\n{text}");
        assert!(text.contains("the file is empty"), "{name}:\n{text}");
    }
}

#[test]
fn a_directory_of_overrides_is_refused() {
    for name in ["overrides", "overrides.csv"] {
        let rules = RulesDir::with("api.yaml", &format!("{RULES}overrides_from: [{name}]\n"));
        rules.write(&format!("{name}/all.csv"), "user,limit\nalice,5/day\n");
        let (code, text) = run(&["check", rules.path().to_str().expect("temporary paths are text")]);
        assert_eq!(code, 1, "{name}:\n{text}");
        assert!(text.contains(name), "{name}:\n{text}");
    }
}
