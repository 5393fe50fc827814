//! Rules change on disk while the service runs: never a lost request, never half a change, never a lost limit.

use envoy_types::pb::envoy::service::ratelimit::v3::RateLimitResponse;
use tokio::time::{Duration, Instant};
use tonic::Status;

use crate::harness::{Load, PATIENCE, Rls, RulesDir, Tollgate, descriptor, eventually, get, request};

/// Rules of domain `api` in which both limits carry the version.
fn both_limits(version: u32) -> String {
    let limit = 1_000_000 + version;
    format!(
        "domain: api\ndescriptors:\n  - key: a\n    rate_limit: {{requests_per_unit: {limit}, unit: day}}\n  \
         - key: b\n    rate_limit: {{requests_per_unit: {limit}, unit: day}}\n"
    )
}

fn one_limit(domain: &str, requests: u32) -> String {
    format!(
        "domain: {domain}\ndescriptors:\n  - key: user\n    rate_limit: {{requests_per_unit: {requests}, unit: day}}\n"
    )
}

async fn limit_becomes(client: &Rls, domain: &str, requests: u32) {
    eventually("the changed limit is in force", || async {
        (client.limit_of(domain, &[("user", "watcher")]).await == Some(requests)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_load_no_request_fails_or_sees_two_versions() {
    let rules = RulesDir::with("api.yaml", &both_limits(0));
    let tollgate = Tollgate::start(rules.path()).await;
    let client = tollgate.client();
    let ask = move || {
        let client = client.clone();
        async move { client.ask(request("api", vec![descriptor(&[("a", "1")]), descriptor(&[("b", "1")])])).await }
    };
    let load = Load::start(6, ask.clone());
    for version in 1..=3 {
        load.goes_on().await;
        rules.write("api.yaml", &both_limits(version));
        eventually("the version is in force", || async {
            (versions(&ask().await)[0] == 1_000_000 + version).then_some(())
        })
        .await;
    }
    load.goes_on().await;
    let answers = load.stop().await;
    let mut seen = Vec::new();
    for answer in &answers {
        let versions = versions(answer);
        assert_eq!(versions[0], versions[1], "one request saw two versions");
        seen.push(versions[0]);
    }
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen, [1_000_000, 1_000_001, 1_000_002, 1_000_003], "the load went on under every version");
}

fn versions(answer: &Result<RateLimitResponse, Status>) -> Vec<u32> {
    let answer = answer.as_ref().expect("no request fails");
    answer.statuses.iter().map(|status| status.current_limit.as_ref().expect("both match").requests_per_unit).collect()
}

#[tokio::test]
async fn a_bad_file_keeps_its_domains_last_good_rules_and_the_others_go_on() {
    let rules = RulesDir::with("good.yaml", &one_limit("good", 10));
    rules.write("bad.yaml", &one_limit("bad", 10));
    let tollgate = Tollgate::start(rules.path()).await;
    let client = tollgate.client();
    assert_eq!(tollgate.metric("tollgate_rules_last_reload_successful").await, 1.0);

    rules.write("bad.yaml", &one_limit("bad", 20).replace("requests_per_unit", "requests_per_unti"));
    rules.write("good.yaml", &one_limit("good", 20));
    limit_becomes(&client, "good", 20).await;
    eventually("the failure is counted", || async {
        (tollgate.metric("tollgate_rules_last_reload_successful").await == 0.0).then_some(())
    })
    .await;
    assert_eq!(client.limit_of("bad", &[("user", "alice")]).await, Some(10), "the last good rules stay");
    let shown = get(tollgate.admin, "/rules", &[]).await.unwrap().body;
    assert!(shown.contains("bad.yaml") && shown.contains("requests_per_unti"), "/rules hides the problem:\n{shown}");

    rules.write("bad.yaml", &one_limit("bad", 30));
    limit_becomes(&client, "bad", 30).await;
    eventually("the success is told", || async {
        (tollgate.metric("tollgate_rules_last_reload_successful").await == 1.0).then_some(())
    })
    .await;
    let shown = get(tollgate.admin, "/rules", &[]).await.unwrap().body;
    assert!(!shown.contains("requests_per_unti"), "/rules shows a problem that is gone:\n{shown}");
}

#[tokio::test]
async fn a_swapped_config_map_takes_effect_each_time() {
    let rules = RulesDir::with("README.txt", "not a rule file\n");
    rules.mount_config_map("v1", &[("api.yaml", &one_limit("api", 10))]);
    let tollgate = Tollgate::start(rules.path()).await;
    let client = tollgate.client();
    assert_eq!(client.limit_of("api", &[("user", "watcher")]).await, Some(10));
    // Twice: a watch on the file itself sees the first swap and nothing after it.
    for (version, requests) in [("v2", 20), ("v3", 30)] {
        rules.mount_config_map(version, &[("api.yaml", &one_limit("api", requests))]);
        limit_becomes(&client, "api", requests).await;
    }
}

#[tokio::test]
async fn sighup_reloads_what_no_watch_can_see() {
    // The folder holds a link to a file elsewhere: a change there is no event in the folder.
    let elsewhere = RulesDir::with("real.yaml", &one_limit("api", 10));
    let rules = RulesDir::with("README.txt", "not a rule file\n");
    let real = elsewhere.path().join("real.yaml");
    std::os::unix::fs::symlink(&real, rules.path().join("api.yaml")).unwrap();
    let tollgate = Tollgate::start(rules.path()).await;

    std::fs::write(&real, one_limit("api", 20)).unwrap();
    tollgate.process.signal("HUP");
    let client = tollgate.client();
    limit_becomes(&client, "api", 20).await;
}

#[tokio::test]
async fn a_swapped_runtime_root_takes_effect_as_in_the_reference() {
    let releases = RulesDir::with("README.txt", "releases stand side by side; `current` points at one\n");
    let release = |name: &str, requests: u32| {
        let folder = releases.path().join(name).join("ratelimit/config");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("api.yaml"), one_limit("api", requests)).unwrap();
        let next = releases.path().join("next");
        std::os::unix::fs::symlink(name, &next).unwrap();
        std::fs::rename(next, releases.path().join("current")).unwrap();
    };
    release("one", 10);
    let root = releases.path().join("current");
    let env = [("TOLLGATE_RULES", ""), ("RUNTIME_ROOT", root.to_str().unwrap()), ("RUNTIME_SUBDIRECTORY", "ratelimit")];
    let tollgate = Tollgate::start_with(releases.path(), &env).await;
    let client = tollgate.client();
    assert_eq!(client.limit_of("api", &[("user", "watcher")]).await, Some(10));
    let asking = client.clone();
    let load = Load::start(4, move || {
        let client = asking.clone();
        async move { client.ask(request("api", vec![descriptor(&[("user", "loader")])])).await }
    });
    for (name, requests) in [("two", 20), ("three", 30)] {
        load.goes_on().await;
        release(name, requests);
        limit_becomes(&client, "api", requests).await;
    }
    load.goes_on().await;
    for answer in load.stop().await {
        let answer = answer.expect("a swap loses no request");
        assert!(answer.statuses[0].current_limit.is_some(), "a swap left a moment without rules: {answer:?}");
    }
}

#[tokio::test]
async fn a_start_that_finds_a_broken_domain_goes_on_with_the_last_good_rules_of_the_state_directory() {
    let rules = RulesDir::with("api.yaml", super::PER_USER);
    let state = tempfile::tempdir().expect("a directory");
    let env = [("TOLLGATE_STATE_DIR", state.path().to_str().expect("UTF-8"))];
    let mut first = Tollgate::start_with(rules.path(), &env).await;
    crate::harness::eventually("the kept rules", || async { state.path().join("rules.json").exists().then_some(()) })
        .await;
    first.process.signal("TERM");
    assert_eq!(first.process.end().await.code(), Some(0), "{}", first.process.log());

    rules.write("api.yaml", "domain: api\ndescriptors:\n  - key: user\n    rate_limit: {requests_per_unit: 3}\n");
    let again = Tollgate::start_with(rules.path(), &env).await;
    let answer = again.client().ask(request("api", vec![descriptor(&[("user", "alice")])])).await.expect("an answer");
    assert_eq!(answer.statuses[0].current_limit.as_ref().map(|limit| limit.requests_per_unit), Some(3));
    assert_eq!(again.metric("tollgate_rules_last_reload_successful").await, 0.0);
}

#[tokio::test]
async fn a_forced_start_answers_with_an_error_until_a_whole_good_set_is_there() {
    let place = RulesDir::with("README.txt", "the rules will stand in a folder beside this file\n");
    let config = place.path().join("config");
    let env = [("TOLLGATE_RULES", config.to_str().unwrap()), ("FORCE_START_WITHOUT_INITIAL_CONFIG", "true")];
    let tollgate = Tollgate::start_with(place.path(), &env).await;
    let client = tollgate.client();
    let ask = || client.ask(request("api", vec![descriptor(&[("user", "watcher")])]));
    let refused = async || {
        let error = ask().await.expect_err("there are no rules");
        assert_eq!(error.message(), "no rate limit configuration loaded");
    };
    refused().await;

    std::fs::create_dir(&config).unwrap();
    std::fs::write(config.join("broken.yaml"), "domain: broken\ndescriptors:\n  - kee: a\n").unwrap();
    std::fs::write(config.join("api.yaml"), one_limit("api", 10)).unwrap();
    tollgate.process.line("the problem", |line| line.contains("kee").then_some(())).await;
    refused().await;

    std::fs::write(config.join("broken.yaml"), one_limit("mended", 10)).unwrap();
    eventually("the rules are in force", || async { ask().await.ok() }).await;
    assert_eq!(client.limit_of("api", &[("user", "watcher")]).await, Some(10));
}

#[tokio::test]
async fn a_watched_directory_below_the_runtime_root_is_read_without_swaps() {
    let root = RulesDir::with("README.txt", "the second layout: nothing is a link\n");
    let config = root.path().join("ratelimit/rules/nested");
    std::fs::create_dir_all(&config).unwrap();
    std::fs::write(config.join("api.yaml"), one_limit("api", 10)).unwrap();
    std::fs::write(config.join(".hidden.yaml"), one_limit("api", 99)).unwrap();
    let env = [
        ("TOLLGATE_RULES", ""),
        ("RUNTIME_ROOT", root.path().to_str().unwrap()),
        ("RUNTIME_SUBDIRECTORY", "ratelimit"),
        ("RUNTIME_APPDIRECTORY", "rules"),
        ("RUNTIME_WATCH_ROOT", "false"),
        ("RUNTIME_IGNOREDOTFILES", "true"),
        ("MERGE_DOMAIN_CONFIG", "true"),
    ];
    let tollgate = Tollgate::start_with(root.path(), &env).await;
    let client = tollgate.client();
    limit_becomes(&client, "api", 10).await;
    let other = "domain: api\ndescriptors:\n  - key: path\n    rate_limit: {requests_per_unit: 5, unit: day}\n";
    std::fs::write(config.join("other.yaml"), other).unwrap();
    eventually("the merged file is in force", || async {
        (client.limit_of("api", &[("path", "/")]).await == Some(5)).then_some(())
    })
    .await;
    assert_eq!(client.limit_of("api", &[("user", "watcher")]).await, Some(10), "the first file stays");
}

/// A hundred thousand rules, as a gateway with very many tenants has them.
fn many_rules(requests: u32) -> String {
    let rule = |number: u32| format!("- {{key: user, value: u{number}, rate_limit: {requests}/day}}\n");
    "domain: many\ndescriptors:\n".to_owned() + &(0..100_000).map(rule).collect::<String>()
}

/// How long a probe waits for its answer.
async fn probe(tollgate: &Tollgate) -> Duration {
    let asked = Instant::now();
    assert_eq!(get(tollgate.http, "/livez", &[]).await.expect("the probe is answered").status, 200);
    asked.elapsed()
}

/// Publishing gives each rule its numbers and its overrides, which the thread that accepts connections and answers probes
/// must not do. On a busy machine any probe may be late, but not in each of several reloads, and not later than those of
/// another process that reloads nothing.
#[tokio::test]
async fn no_probe_waits_while_a_hundred_thousand_rules_come_into_force() {
    let rules = RulesDir::with("many.yaml", &many_rules(1));
    let idle_rules = RulesDir::with("api.yaml", &one_limit("api", 1));
    let (tollgate, idle) = (Tollgate::start(rules.path()).await, Tollgate::start(idle_rules.path()).await);
    let client = tollgate.client();
    let mut worst = Vec::new();
    for requests in 2..10 {
        rules.write("many.yaml", &many_rules(requests));
        tollgate.process.signal("HUP");
        let (mut latest, mut latest_idle) = (Duration::ZERO, Duration::ZERO);
        let began = Instant::now();
        while client.limit_of("many", &[("user", "u99999")]).await != Some(requests) {
            latest = latest.max(probe(&tollgate).await);
            latest_idle = latest_idle.max(probe(&idle).await);
            assert!(began.elapsed() < PATIENCE, "the rules don't come into force");
        }
        if latest < Duration::from_millis(50).max(latest_idle) {
            return;
        }
        worst.push((latest, latest_idle));
    }
    panic!("the latest probe of each reload, and of an idle process: {worst:?}");
}

#[tokio::test]
async fn series_of_limits_and_domains_that_a_reload_removed_leave_the_page_and_the_others_go_on() {
    let rules = RulesDir::with("api.yaml", &both_limits(0));
    rules.write("gone.yaml", &one_limit("gone", 5));
    let tollgate = Tollgate::start(rules.path()).await;
    let client = tollgate.client();
    for _ in 0..3 {
        client
            .ask(request("api", vec![descriptor(&[("a", "1")]), descriptor(&[("b", "1")])]))
            .await
            .expect("an answer");
    }
    client.ask(request("gone", vec![descriptor(&[("user", "x")])])).await.expect("an answer");
    let of_gone = |page: &str| {
        let is_gone = |line: &&str| line.contains("limit=\"api/b\"") || line.contains("\"gone");
        page.lines().filter(is_gone).map(str::to_owned).collect::<Vec<_>>()
    };
    let expected = [
        "tollgate_decisions_total{domain=\"api\",limit=\"api/b\",result=\"ok\"} 3",
        "tollgate_decisions_total{domain=\"gone\",limit=\"gone/user\",result=\"ok\"} 1",
        "tollgate_limit_requests{limit=\"api/b\"} 1000000",
        "tollgate_limit_requests{limit=\"gone/user\"} 5",
        "tollgate_override_file_rows{domain=\"gone\"} 0",
        "tollgate_override_file_rows_expired{domain=\"gone\"} 0",
    ];
    let page = tollgate.metrics().await;
    let shown = of_gone(&page);
    for line in expected {
        assert!(shown.iter().any(|shown| shown == line), "{line} in\n{page}");
    }

    // A limit and a domain go; the one that stays has another number.
    std::fs::remove_file(rules.path().join("gone.yaml")).expect("the file is ours");
    rules.write("api.yaml", "domain: api\ndescriptors: [{key: a, rate_limit: {requests_per_unit: 7, unit: day}}]\n");
    let stays = "tollgate_decisions_total{domain=\"api\",limit=\"api/a\",result=\"ok\"}";
    let page = eventually("both reloads are in force", || async {
        let page = tollgate.metrics().await;
        (of_gone(&page).is_empty() && page.contains("{limit=\"api/a\"} 7\n")).then_some(page)
    })
    .await;
    assert!(page.contains(&format!("{stays} 3\n")), "{page}");
    assert_eq!(page.matches("\ntollgate_rules_info{").count(), 1, "{page}");

    // What comes back begins afresh.
    rules.write("api.yaml", &both_limits(1));
    eventually("the limit is back", || async { client.limit_of("api", &[("b", "1")]).await }).await;
    let again = "tollgate_decisions_total{domain=\"api\",limit=\"api/b\",result=\"ok\"}";
    assert_eq!(tollgate.metric(again).await, 1.0);
    assert_eq!(tollgate.metric(stays).await, 3.0);
}
