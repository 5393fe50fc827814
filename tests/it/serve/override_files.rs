//! Overrides in files, through the running service: who gets which limit, and what a change of them does under load.

use std::fmt::Write as _;

use crate::harness::{Load, Rls, RulesDir, Tollgate, descriptor, eventually, get, request, run_to_end};

const RULES: &str = "domain: api
tiers: {gold: {requests: 500, window: 1d}}
descriptors:
  - key: user
    rate_limit: 3/d
    overrides:
      - {match: {user: alice}, limit: {tier: gold}, expires: 2099-01-01, reason: contract 42, owner: sales}
      - {match: {user: gone}, limit: 500/d, expires: 2020-01-01}
    overrides_from: [users.csv]
overrides:
  - {match: {user: health-probe}, limit: unlimited}
";

/// Many rows, each with the version as its limit.
fn rows(count: usize, version: u32) -> String {
    let mut csv = "match.user,limit\n".to_owned();
    for number in 0..count {
        let _ = writeln!(csv, "user-{number},{version}/d");
    }
    csv
}

async fn limit_of(client: &Rls, user: &str) -> Option<u32> {
    client.limit_of("api", &[("user", user)]).await
}

#[tokio::test]
async fn each_user_has_the_limit_of_his_override_and_operators_see_them() {
    let rules = RulesDir::with("users.csv", &rows(10, 70));
    rules.write("api.yaml", RULES);
    let tollgate = Tollgate::start_with(rules.path(), &[("RESPONSE_DYNAMIC_METADATA", "true")]).await;
    let client = tollgate.client();
    for (user, limit) in
        [("alice", Some(500)), ("gone", Some(3)), ("user-7", Some(70)), ("bob", Some(3)), ("health-probe", None)]
    {
        assert_eq!(limit_of(&client, user).await, limit, "{user}");
    }
    let answer = client.ask(request("api", vec![descriptor(&[("user", "alice")])])).await.expect("an answer");
    let metadata = format!("{:?}", answer.dynamic_metadata.expect("it is asked for"));
    assert!(metadata.contains("override") && metadata.contains("user=alice"), "{metadata}");
    assert_eq!(tollgate.metric("tollgate_override_file_rows{domain=\"api\"}").await, 13.0);
    assert_eq!(tollgate.metric("tollgate_override_file_rows_expired{domain=\"api\"}").await, 1.0);
    let shown = get(tollgate.admin, "/rules", &[]).await.expect("it is served").json();
    let overrides = &shown["domains"][0]["overrides"];
    assert_eq!((&overrides["rows"], &overrides["expired"]), (&13.into(), &1.into()));
    assert_eq!(overrides["expired_rows"][0]["match"], "user=gone");
    assert_eq!(shown["domains"][0]["tiers"], 1);
    let checked = run_to_end(&["check", rules.path().to_str().expect("UTF-8")], &[]);
    let said = String::from_utf8_lossy(&checked.stdout);
    assert!(said.ends_with("ok: 1 file, 1 domain, 1 rule, 1 tier, 13 overrides, 1 warning\n"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_file_is_read_again_under_load_and_no_request_fails() {
    const ROWS: usize = 20_000;
    let rules = RulesDir::with("users.csv", &rows(ROWS, 1_000_000));
    rules.write("api.yaml", RULES);
    let tollgate = Tollgate::start(rules.path()).await;
    let client = tollgate.client();
    let last = format!("user-{}", ROWS - 1);
    let ask = {
        let (client, last) = (client.clone(), last.clone());
        move || {
            let (client, last) = (client.clone(), last.clone());
            async move {
                let answer =
                    client.ask(request("api", vec![descriptor(&[("user", "user-0")]), descriptor(&[("user", &last)])]));
                answer.await.expect("no request fails")
            }
        }
    };
    let load = Load::start(4, ask);
    for version in 1_000_001..1_000_003 {
        load.goes_on().await;
        rules.write("users.csv", &rows(ROWS, version));
        eventually("the new file is in force", || async {
            (limit_of(&client, &last).await == Some(version)).then_some(())
        })
        .await;
    }
    rules.write("users.csv", &(rows(ROWS, 7) + "one-more,seven\n"));
    eventually("the bad row is told", || async {
        let shown = get(tollgate.admin, "/rules", &[]).await.ok()?.body;
        shown.contains("`seven` is no limit").then_some(())
    })
    .await;
    assert_eq!(limit_of(&client, &last).await, Some(1_000_002), "the last good rows stay");
    load.goes_on().await;
    for answer in load.stop().await {
        let [first, last] = &answer.statuses[..] else { panic!("two descriptors were asked about") };
        let requests =
            |status: &envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::DescriptorStatus| {
                status.current_limit.as_ref().expect("each has a limit").requests_per_unit
            };
        assert_eq!(requests(first), requests(last), "one request saw two files");
    }
}

#[tokio::test]
async fn a_start_that_finds_a_broken_file_goes_on_with_the_last_good_one() {
    let rules = RulesDir::with("users.csv", &rows(10, 70));
    rules.write("api.yaml", RULES);
    let state = tempfile::tempdir().expect("a temporary directory");
    let env = [("TOLLGATE_STATE_DIR", state.path().to_str().expect("UTF-8"))];
    let mut first = Tollgate::start_with(rules.path(), &env).await;
    let kept = state.path().join("rules.json");
    eventually("the rules are kept", || async { kept.exists().then_some(()) }).await;
    first.process.signal("TERM");
    first.process.end().await;

    rules.write("users.csv", "match.user,limit\nuser-7,seventy\n");
    let second = Tollgate::start_with(rules.path(), &env).await;
    assert_eq!(limit_of(&second.client(), "user-7").await, Some(70));
    assert_eq!(second.metric("tollgate_rules_last_reload_successful").await, 0.0);
}
