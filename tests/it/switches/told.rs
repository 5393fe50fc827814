//! What is told of switches: by the answer that makes them, by `/rules`, as a patch for the rule files, among the changes,
//! and while Redis is away.

use std::fs;

use serde_json::{Value, json};

use super::{RULES, WHY, fleet, is_refused, limits};
use crate::{
    api::with_tokens,
    asking::Ran,
    harness::{RulesDir, Tollgate, eventually, get},
    redis_server::RedisServer,
};

const NAMED: &str = "domain: api\n\
    descriptors:\n  \
    - key: user\n    rate_limit:\n      \
    - {name: hourly, requests: 5, window: 1h}\n      \
    - {name: daily, requests: 50, window: 1d}\n  \
    - key: tenant\n    rate_limit: {requests: 9, window: 1m}\n  \
    - key: vault\n    switchable: false\n    rate_limit: {requests: 1, window: 1h}\n";

fn done(tollgate: &Tollgate, args: &[&str]) -> String {
    let ran = limits(tollgate, &[args, &WHY[..]].concat());
    assert_eq!(ran.code, 0, "{args:?}: {ran:?}");
    ran.out
}

fn looked(tollgate: &Tollgate, args: &[&str]) -> Ran {
    Ran::with(&[args, &["--admin", &tollgate.admin.to_string()]].concat(), &[])
}

#[tokio::test]
async fn a_limit_that_is_switched_by_itself_stays_as_it_is_and_the_answer_says_so() {
    let rules = RulesDir::with("api.yaml", NAMED);
    let tollgate = with_tokens(&rules, &[]).await;
    done(&tollgate, &["shadow", "api/user#hourly"]);
    let of_rule = done(&tollgate, &["off", "api/user"]);
    assert!(
        of_rule.contains("  api/user#hourly: 5 in 3600 s, stays: api/user#hourly is switched by itself\n"),
        "{of_rule}"
    );
    assert!(of_rule.contains("  api/user#daily: 50 in 86400 s → off\n"), "{of_rule}");
    let of_all = done(&tollgate, &["scale", "--domain", "api", "--all", "2x"]);
    for line in [
        "  api/user#hourly: 5 in 3600 s, stays: api/user#hourly is switched by itself",
        "  api/user#daily: 50 in 86400 s, stays: api/user is switched by itself",
        "  api/tenant: 9 in 60 s → 18 in 60 s",
        "  api/vault: 1 in 3600 s, stays: its rule says switchable: false",
    ] {
        assert!(of_all.contains(line), "no {line}: {of_all}");
    }
    // The same switch again replaces itself, and is no other's.
    let again = done(&tollgate, &["off", "api/user#hourly"]);
    assert!(again.contains("replaces api/user#hourly: shadow") && again.contains("5 in 3600 s → off"), "{again}");
}

/// The patch with the lines that are to be put into the rule files, by the limits that they are for.
fn patch(tollgate: &Tollgate) -> Vec<(String, String)> {
    let text = looked(tollgate, &["limits", "list", "--patch"]).out;
    let lines: Vec<&str> = text.lines().collect();
    let of = |pair: &[&str]| {
        let (place, id) = pair[0].strip_prefix("# ").and_then(|head| head.split_once(": ")).expect("where it goes");
        assert!(place.contains("api.yaml:"), "{text}");
        (id.to_owned(), pair[1].to_owned())
    };
    lines.chunks(2).map(of).collect()
}

#[tokio::test]
async fn the_patch_is_yaml_that_makes_switches_permanent() {
    let rules = RulesDir::with("api.yaml", NAMED);
    let tollgate = with_tokens(&rules, &[]).await;
    for args in [
        &["scale", "api/user#hourly", "3x"][..],
        &["enforce", "api/user#daily", "10%"],
        &["shadow", "api/tenant"],
        &["shadow", "--domain", "api", "--all"],
    ] {
        done(&tollgate, args);
    }
    let lines = patch(&tollgate);
    let ids: Vec<&str> = lines.iter().map(|(id, _)| &**id).collect();
    assert_eq!(ids, ["api/tenant", "api/user#daily", "api/user#hourly"], "each once, and not what is protected");
    let [tenant, daily, hourly] = [0, 1, 2].map(|nth| lines[nth].1.clone());
    let written = NAMED
        .replace("{name: hourly, requests: 5, window: 1h}", hourly.trim())
        .replace("{name: daily, requests: 50, window: 1d}", daily.trim())
        .replace("    rate_limit: {requests: 9, window: 1m}", &tenant);
    for part in ["requests: 15", "enforce: 10%", "enforce: false"] {
        assert!(written.contains(part), "no {part}: {written}");
    }
    // Its limits are then those that the switches made.
    let folder = tempfile::tempdir().expect("a directory");
    let file = folder.path().join("api.yaml");
    fs::write(&file, &written).expect("the directory is ours");
    let patched = Tollgate::start(folder.path()).await;
    let shown = get(patched.admin, "/rules", &[]).await.expect("an answer").json();
    let numbers = |limit: &Value| json!([limit["id"], limit["requests"], limit["enforced"], limit["enforced_share"]]);
    let limits: Vec<Value> = shown["domains"][0]["limits"].as_array().expect("limits").iter().map(numbers).collect();
    let expected = [
        json!(["api/user#hourly", 15, true, null]),
        json!(["api/user#daily", 50, true, "10%"]),
        json!(["api/tenant", 9, false, null]),
        json!(["api/vault", 1, true, null]),
    ];
    assert_eq!(limits, expected, "{written}");

    done(&tollgate, &["off", "api/tenant"]);
    done(&tollgate, &["off", "api/user#daily"]);
    let lines = patch(&tollgate);
    assert_eq!(lines[0].1, "    rate_limit: unlimited");
    assert_eq!(lines[1].1, "    # take `daily` out of its rate_limit, which is `unlimited` where nothing is left");
}

#[tokio::test]
async fn the_admin_listeners_rules_say_what_is_switched() {
    let rules = RulesDir::with("api.yaml", NAMED);
    let tollgate = with_tokens(&rules, &[]).await;
    let shown = async || get(tollgate.admin, "/rules", &[]).await.expect("an answer").json()["domains"][0].clone();
    assert_eq!(shown().await["switches"], json!([]));
    done(&tollgate, &["shadow", "api/tenant"]);
    let of = shown().await;
    let switch = &of["switches"][0];
    assert_eq!(
        [&switch["limit_id"], &switch["mode"], &switch["by"], &switch["reason"]],
        ["api/tenant", "shadow", "ops", "ticket 42"],
        "{of}"
    );
    assert_eq!(of["limits"][2]["enforced"], true, "as the file has it: {of}");
}

#[tokio::test]
async fn changes_name_the_domain_of_each() {
    let rules = RulesDir::with("api.yaml", NAMED);
    let tollgate = with_tokens(&rules, &[]).await;
    done(&tollgate, &["shadow", "--domain", "api", "--all"]);
    done(&tollgate, &["off", "api/tenant"]);
    let at = tollgate.http.to_string();
    for args in [
        &["overrides", "set", "--match", "user=alice", "--limit", "5/h", "--reason", "ticket 7"][..],
        &["reset", "--entry", "user=alice", "--reason", "ticket 8"],
    ] {
        assert_eq!(Ran::of(&[args, &["--addr", &at]].concat()).code, 0, "{args:?}");
    }
    let told = looked(&tollgate, &["changes"]).out;
    for words in [
        "limit.switch all of api: shadow until ",
        "limit.switch api/tenant: off until ",
        "override.set api user:alice: ",
        "counter.reset api (user=alice), by ops: ticket 8",
    ] {
        assert!(told.contains(words), "no {words}: {told}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_redis_is_away_changes_tell_the_reloads_and_one_replica_is_switched_before_a_request_missed_it() {
    let (rules, redis) = (RulesDir::with("api.yaml", RULES), RedisServer::start());
    let replicas = fleet(&rules, &redis, &["a"]).await;
    let tollgate = &replicas[0];
    eventually("the limit refuses", || async { is_refused(tollgate).await.then_some(()) }).await;
    assert_eq!(limits(tollgate, &[&["shadow", "api/user"], &WHY[..]].concat()).code, 0);
    rules.write("api.yaml", &RULES.replace("requests_per_unit: 2,", "requests_per_unit: 5,"));
    let reload = "rules.reload api/user: 2 an hour → 5 an hour, counts go on";
    let told = eventually("the reload", || async {
        Some(looked(tollgate, &["changes"]).out).filter(|told| told.contains(reload))
    })
    .await;
    assert!(told.contains("limit.switch api/user: shadow until"), "{told}");

    redis.freeze();
    let told = looked(tollgate, &["changes"]);
    assert!(told.code == 0 && told.out.starts_with("this replica only: Redis can't be reached\n"), "{told:?}");
    assert!(told.out.contains(reload) && !told.out.contains("limit.switch"), "{told:?}");
    assert_eq!(tollgate.metric("tollgate_redis_breakers_open").await, 0.0, "nobody asked it for a decision");
    let switched = limits(tollgate, &[&["off", "api/user", "--this-replica"], &WHY[..]].concat());
    redis.thaw();
    assert_eq!(switched.code, 0, "{switched:?}");
    assert_eq!(tollgate.client().limit_of("api", super::ALICE).await, None);
}
