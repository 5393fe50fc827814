//! `tollgate explain` and the admin listener's `/explain`: that they tell what a decision does, and change nothing.

mod held;
mod limits;

use crate::harness::{RulesDir, Tollgate, get, run_to_end};

const RULES: &str = "
domain: api
descriptors:
  - key: user
    rate_limit: {requests: 3, window: 1h}
    overrides:
      - {match: {user: alice}, limit: 1/h, reason: too many, owner: ops, expires: 2100-01-01}
      - {match: {user: root}, limit: unlimited}
    descriptors:
      - key: endpoint
        value: /login
        rate_limit:
          - {name: now, requests: 5, window: 1s, algorithm: token_bucket, burst: 5}
          - {name: trial, requests: 1, window: 1h, enforce: false}
  - {key: free}
overrides:
  - {match: {user: alice}, limit: 9/h}
";

/// What the command prints, and its exit code.
fn explain(args: &[&str]) -> (String, Option<i32>) {
    let output = run_to_end(&[&["explain"], args].concat(), &[]);
    let said = if output.status.success() { output.stdout } else { output.stderr };
    (String::from_utf8(said).expect("text"), output.status.code())
}

#[tokio::test]
async fn an_explanation_tells_what_is_decided_next_and_counts_nothing() {
    let rules = RulesDir::with("api.yaml", RULES);
    let tollgate = Tollgate::start(rules.path()).await;
    let client = tollgate.client();
    let path = "/explain?entry=user=alice";
    let counter = |answer: &serde_json::Value| answer["descriptors"][0]["counters"][0].clone();
    for (used, admits) in [(0, true), (1, false)] {
        for _ in 0..3 {
            let answer = get(tollgate.admin, path, &[]).await.expect("an answer").json();
            let counter = counter(&answer);
            assert_eq!((&counter["admits"], &counter["remaining"]), (&admits.into(), &(1 - used).into()), "{answer:#}");
            assert_eq!(answer["answer"]["allowed"], admits, "{answer:#}");
        }
        assert_eq!(client.admits("api", &[("user", "alice")]).await, admits);
    }
    let answer = get(tollgate.admin, path, &[]).await.expect("an answer").json();
    let descriptor = &answer["descriptors"][0];
    assert_eq!(descriptor["override"]["match"], serde_json::json!({"user": "alice"}));
    assert_eq!(descriptor["override"]["expires"], "2100-01-01T00:00:00Z");
    assert!(
        descriptor["verdict"].as_str().unwrap().starts_with("refused by api/user: 0 left, passes again in"),
        "{answer:#}"
    );
    assert_eq!(descriptor["passed_over"][0]["why"], "another belongs to the rule, this one to the domain");
    assert_eq!(answer["answer"]["retry_after_seconds"], counter(&answer)["reset_seconds"]);
    assert!(counter(&answer)["key"].as_str().unwrap().ends_with(":api:user=alice"), "{answer:#}");
}

#[tokio::test]
async fn the_command_asks_the_admin_listener() {
    let rules = RulesDir::with("api.yaml", RULES);
    let tollgate = Tollgate::start(rules.path()).await;
    let admin = tollgate.admin.to_string();
    let (said, code) = explain(&["--admin", &admin, "--entry", "user=bob", "--entry", "endpoint=/login"]);
    assert_eq!(code, Some(0), "{said}");
    let place = format!("({}:10)", rules.path().join("api.yaml").display());
    for line in [
        "(user=bob)(endpoint=/login)",
        "  entry     user=bob: the rule for any user",
        "  entry     endpoint=/login: a rule for this very value",
        &format!("  rule      api/user/endpoint=/login {place}"),
        "  limit     api/user/endpoint=/login#now: 5 in 1s, token_bucket, burst 5; 5 left, empty in 0s",
        "  limit     api/user/endpoint=/login#trial: 1 in 1h, sliding_window, not enforced; 1 left, empty in 0s",
        "  refused   hits are free",
        "  on error  local, where the store fails",
        "  so        passes: 1 of api/user/endpoint=/login#trial left",
        "this request would be admitted",
    ] {
        assert!(said.lines().any(|said| said == line), "no line is {line}:\n{said}");
    }
    // With = and % and & in values.
    let (json, code) = explain(&["--admin", &admin, "--descriptor", "free=a%&b=c d", "--json"]);
    assert_eq!(code, Some(0), "{json}");
    let answer: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(answer["descriptors"][0]["entries"], serde_json::json!({"free": "a%&b=c d"}));
    assert_eq!(answer["descriptors"][0]["verdict"], "passes: its rule has no limit");
}

#[test]
fn rules_alone_are_explained_without_a_service() {
    let rules = RulesDir::with("api.yaml", RULES);
    let path = rules.path().to_str().expect("text");
    let (said, code) = explain(&["--rules", path, "--entry", "user=root"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("override  user=root (") && said.contains("so        passes: unlimited by an override"),
        "{said}"
    );
    let (said, _) = explain(&["--rules", path, "--entry", "user=alice"]);
    assert!(said.contains("limit     api/user: 1 in 1h, sliding_window\n"), "{said}");
    assert!(!said.contains(" left") && !said.contains("would be"), "nobody counts here: {said}");
    let (said, _) = explain(&["--rules", path, "--entry", "usr=alice"]);
    assert!(said.contains("passes: (usr=alice) meets no rule: no rule at the first level has the key usr"), "{said}");
}

#[tokio::test]
async fn what_is_wrong_with_the_question_is_said() {
    let rules = RulesDir::with("api.yaml", RULES);
    let tollgate = Tollgate::start(rules.path()).await;
    for (query, said) in [
        ("", "nothing is asked about"),
        ("?entry=user", "'user' is no key=value"),
        ("?entry=user=a&hits=x", "'x' is no whole number"),
        ("?entry=user=a&limit=3", "there is no such parameter"),
    ] {
        let answer = get(tollgate.admin, &format!("/explain{query}"), &[]).await.expect("an answer");
        assert_eq!(answer.status, 400, "{answer:?}");
        assert!(answer.body.contains(said), "{answer:?}");
    }
    let (said, code) = explain(&["--admin", "127.0.0.1:1", "--entry", "user=a"]);
    assert_eq!(code, Some(1));
    assert!(said.contains("no connection to 127.0.0.1:1, the admin listener of a service on this machine"), "{said}");
}

#[test]
fn each_shell_gets_its_completions() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = run_to_end(&["completions", shell], &[]);
        let script = String::from_utf8(output.stdout).expect("text");
        assert!(output.status.success() && script.contains("explain") && script.contains("token-file"), "{shell}");
    }
}
