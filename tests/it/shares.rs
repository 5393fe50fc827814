//! A limit that denies a share of clients, from outside: the same clients over gRPC and HTTP, in memory and in Redis, by the
//! rules, by overrides and by switches.

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::{
    api::{client::call, with_tokens},
    asking::Ran,
    harness::{RulesDir, Tollgate, eventually, post},
    redis_server::RedisServer,
};

/// Whoever may be denied is denied at once.
const RULES: &str = "domain: api\n\
    descriptors:\n  \
    - key: user\n    rate_limit: {name: new, requests: 0, window: 1h, enforce: SHARE}\n  \
    - {key: global, value: all, rate_limit: {requests: 5, window: 1h}}\n";

fn rules(share: &str) -> String {
    RULES.replace("SHARE", share)
}

const CLIENTS: usize = 300;

fn client(number: usize) -> String {
    format!("client-{number}")
}

/// As docs/src/reference/limits.md tells to compute it.
fn part(limit_id: &str, user: &str) -> u32 {
    let hash = Sha256::digest(format!("{limit_id}\nuser={user}"));
    u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]]) % 10_000
}

fn inside(parts: u32) -> Vec<String> {
    (0..CLIENTS).map(client).filter(|user| part("api/user#new", user) < parts).collect()
}

async fn denied_by_grpc(tollgate: &Tollgate) -> Vec<String> {
    let rls = tollgate.client();
    let mut denied = Vec::new();
    for user in (0..CLIENTS).map(client) {
        if !rls.admits("api", &[("user", &user)]).await {
            denied.push(user);
        }
    }
    denied
}

async fn denied_by_http(tollgate: &Tollgate) -> Vec<String> {
    let mut denied = Vec::new();
    for user in (0..CLIENTS).map(client) {
        let check = post(tollgate.http, "/v1/check", json!({"domain": "api", "user": user}).to_string()).await;
        let entries = json!([{"key": "user", "value": user}]);
        let envoys = json!({"domain": "api", "descriptors": [{"entries": entries}]}).to_string();
        let envoys = post(tollgate.http, "/json", envoys).await.expect("an answer");
        let is_denied = check.expect("an answer").json()["allowed"] == false;
        assert_eq!(envoys.status == 429, is_denied, "{user}: {envoys:?}");
        if is_denied {
            denied.push(user);
        }
    }
    denied
}

#[tokio::test]
async fn the_same_clients_are_denied_on_every_path_and_a_larger_share_only_adds_some() {
    let redis = RedisServer::start();
    let mut before: Vec<String> = Vec::new();
    for (share, parts) in [("1%", 100), ("10%", 1_000), ("50%", 5_000)] {
        let rules = RulesDir::with("api.yaml", &rules(share));
        let memory = Tollgate::start(rules.path()).await;
        let in_redis = Tollgate::start_with(rules.path(), &[("REDIS_URL", &redis.address())]).await;
        let expected = inside(parts);
        assert_eq!(denied_by_grpc(&memory).await, expected, "{share}");
        assert_eq!(denied_by_http(&memory).await, expected, "{share}");
        assert_eq!(denied_by_grpc(&in_redis).await, expected, "{share}");
        assert_eq!(denied_by_http(&in_redis).await, expected, "{share}");
        assert!(before.iter().all(|user| expected.contains(user)), "{share}");
        before = expected;
    }
    assert!(!before.is_empty());
}

fn explained(tollgate: &Tollgate, user: &str) -> (Value, String) {
    let (admin, entry) = (tollgate.admin.to_string(), format!("user={user}"));
    let explain = ["explain", "--domain", "api", "--entry", &entry, "--admin", &admin];
    let json = Ran::with(&[&explain[..], &["--json"]].concat(), &[]).json();
    (json["descriptors"][0]["counters"][0].clone(), Ran::with(&explain, &[]).out)
}

#[tokio::test]
async fn explain_tells_the_part_of_a_client_and_top_counts_who_is_outside_as_would_be() {
    let rules = RulesDir::with("api.yaml", &rules("10%"));
    let tollgate = Tollgate::start(rules.path()).await;
    let within = &inside(1_000)[0];
    let outside = (0..CLIENTS).map(client).find(|user| part("api/user#new", user) >= 1_000).expect("nine of ten");
    for (user, role, word) in [(within, "enforced", "inside"), (&outside, "shadow", "outside")] {
        let part = part("api/user#new", user);
        let (counter, text) = explained(&tollgate, user);
        assert_eq!((&counter["part"], &counter["role"]), (&part.into(), &role.into()), "{counter}");
        assert_eq!(counter["limit"]["enforce_share"], "10%", "{counter}");
        let line = format!("denies 10% of clients: this one is in part {part} of 10000, {word} the first 1000\n");
        assert!(text.contains(&line), "{text}");
        assert_eq!(tollgate.client().admits("api", &[("user", user)]).await, role == "shadow");
    }
    for (by, user) in [("denied", within), ("shadow", &outside)] {
        let top = || Ran::with(&["top", "--by", by, "--json", "--admin", &tollgate.admin.to_string()], &[]).json();
        let first = eventually("it is counted", || async {
            let first = top()["entries"][0].clone();
            first.is_object().then_some(first)
        })
        .await;
        assert_eq!((&first["descriptor"], &first[by]), (&format!("user={user}").into(), &1.into()), "{first}");
    }
    let served = crate::harness::get(tollgate.admin, "/rules", &[]).await.expect("an answer").json();
    let limit = &served["domains"][0]["limits"][0];
    assert_eq!((&limit["enforced"], &limit["enforced_share"]), (&true.into(), &"10%".into()), "{served}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollout_by_switches_denies_the_same_share_on_every_replica() {
    let (rules, redis) = (RulesDir::with("api.yaml", &rules("false")), RedisServer::start());
    let url = redis.address();
    let mut replicas = Vec::new();
    for name in ["a", "b"] {
        replicas.push(with_tokens(&rules, &[("REDIS_URL", &url), ("TOLLGATE_REPLICA_NAME", name)]).await);
    }
    let limits = |args: &[&str]| Ran::of(&[&["limits"], args, &["--addr", &replicas[0].http.to_string()]].concat());
    let why = ["--for", "1d", "--reason", "rollout"];
    eventually("both are there", || async {
        let seen = Ran::with(&["status", "--json", "--admin", &replicas[0].admin.to_string()], &[]).json();
        (seen["replicas"].as_array().map_or(0, Vec::len) == 2).then_some(())
    })
    .await;
    for (share, parts) in [("10%", 1_000), ("25%", 2_500)] {
        let ran = limits(&[&["enforce", "api/user#new", share], &why[..]].concat());
        assert!(ran.code == 0 && ran.out.contains("in force on 2 of 2 replicas"), "{ran:?}");
        let line = format!("api/user#new: 0 in 3600 s, denies nobody → 0 in 3600 s, denies {share} of clients");
        assert!(
            ran.out.contains(&line) && ran.out.contains(&format!("api/user#new: enforce {share}, ends")),
            "{ran:?}"
        );
        for replica in &replicas {
            assert_eq!(denied_by_grpc(replica).await, inside(parts), "{share}");
        }
    }
    let listed = limits(&["list", "--json"]).json();
    assert_eq!((&listed["switches"][0]["mode"], &listed["switches"][0]["share"]), (&"enforce".into(), &"25%".into()));
    let patch = limits(&["list", "--patch"]).out;
    assert!(
        patch.contains("api.yaml:3: api/user#new\n    {name: new, requests: 0, window: 3600s, enforce: 25%}"),
        "{patch}"
    );
    assert!(limits(&["list"]).out.starts_with("api/user#new: enforce 25%, ends "));
    let changes = Ran::with(&["changes", "--admin", &replicas[1].admin.to_string()], &[]).out;
    assert!(changes.contains("→ enforce 25% until"), "{changes}");
    let metrics = replicas[1].metrics().await;
    let series = r#"tollgate_limit_switch_ends_seconds{domain="api",limit="api/user#new",mode="enforce"}"#;
    assert!(metrics.contains(series), "{metrics}");
    let (counter, text) = explained(&replicas[1], &inside(2_500)[0]);
    assert_eq!(
        (&counter["role"], &counter["limit"]["enforce_share"]),
        (&"enforced".into(), &"25%".into()),
        "{counter}"
    );
    assert!(text.contains("switched  api/user#new: enforce 25%") && text.contains("inside the first 2500"), "{text}");
    assert_eq!(limits(&["restore", "api/user#new", "--reason", "done"]).code, 0);
    assert!(denied_by_grpc(&replicas[1]).await.is_empty());
}

#[tokio::test]
async fn a_switch_that_would_be_all_or_nothing_is_refused_with_the_way_out() {
    let rules = RulesDir::with("api.yaml", &rules("false"));
    let tollgate = with_tokens(&rules, &[]).await;
    let limits = |args: &[&str]| Ran::of(&[&["limits"], args, &["--addr", &tollgate.http.to_string()]].concat());
    let why = ["--for", "1d", "--reason", "rollout"];
    for (args, code, says) in [
        (&["enforce", "api/global=all", "10%"][..], 1, "`api/global=all` would be all or nothing"),
        (&["enforce", "--domain", "api", "--all", "10%"], 1, "`api/global=all` would be all or nothing"),
        (&["enforce", "api/(request)", "10%"], 1, "no rule says which entry tells clients apart"),
        (&["enforce", "api/user", "10"], 2, "'10' is no share of clients: a share is written as 10%"),
        (&["enforce", "api/user", "101%"], 2, "a share is at most 100%"),
        (&["enforce", "api/user"], 2, "SHARE"),
    ] {
        let ran = limits(&[args, &why[..]].concat());
        assert!(ran.code == code && ran.err.contains(says), "{args:?}: {ran:?}");
    }
    assert_eq!(limits(&[&["enforce", "api/global=all", "100%"], &why[..]].concat()).code, 0);
    let put = async |body: Value| {
        call(tollgate.http, "PUT /v1/domains/api/switches", Some("secret"), &body.to_string()).await
    };
    let body = json!({"limit_id": "user", "mode": "enforce", "share": "12.5%", "for": "1h", "reason": "rollout"});
    let answer = put(body.clone()).await;
    assert_eq!((answer.status, &answer.json()["limits"][0]["after"]["enforce_share"]), (200, &"12.5%".into()));
    let mut wrong = body;
    wrong["factor"] = 2.into();
    let answer = put(wrong).await;
    assert!(answer.status == 400 && answer.body.contains("`enforce` takes no factor"), "{answer:?}");
}

#[tokio::test]
async fn overrides_at_run_time_take_a_share_by_the_api_the_flags_and_the_columns_of_a_file() {
    let rules = RulesDir::with("api.yaml", &rules("false"));
    let tollgate = with_tokens(&rules, &[]).await;
    let address = tollgate.http.to_string();
    let overrides = |args: &[&str]| Ran::of(&[&["overrides"], args, &["--domain", "api", "--addr", &address]].concat());
    let set = |user: &str, more: &[&str]| {
        let matched = format!("user={user}");
        overrides(&[&["set", "--match", &matched, "--limit", "0/m"][..], more].concat())
    };
    let is_denied = async |user: &str| !tollgate.client().admits("api", &[("user", user)]).await;
    for user in (0..40).map(client) {
        let ran = set(&user, &["--enforce", "50%"]);
        assert!(ran.code == 0 && ran.out.contains("denies 50% of clients"), "{ran:?}");
        assert_eq!(is_denied(&user).await, part("api/user#new", &user) < 5_000, "{user}");
    }
    assert_eq!(set("x", &["--enforce", "true"]).code, 0);
    assert!(is_denied("x").await);
    let wrong = set("x", &["--enforce", "half"]);
    assert!(wrong.code == 2 && wrong.err.contains("must be true, false or a share such as 10%"), "{wrong:?}");

    let spec = |limit: Value| json!({"match": {"user": "y"}, "limit": limit}).to_string();
    let put =
        async |limit: Value| call(tollgate.http, "PUT /v1/domains/api/overrides/y", Some("secret"), &spec(limit)).await;
    let limit = json!({"requests": 7, "window": "1m", "enforce": "0.5%"});
    let saved = put(limit.clone()).await.json();
    assert_eq!((&saved["spec"]["limit"], &saved["limits"][0]["enforce_share"]), (&limit, &"0.5%".into()), "{saved}");
    for (limit, says) in [
        (json!({"requests": 7, "window": "1m", "enforce": "half"}), "a share is written as 10% or 0.5%"),
        (json!({"requests": 7, "window": "1m", "enforce": 10}), "true or false"),
        (json!({"requests": 7, "window": "1m", "enforce": true, "enforce_share": "1%"}), "send one of them"),
    ] {
        let answer = put(limit).await;
        assert!(answer.status == 400 && answer.body.contains(says), "{answer:?}");
    }
    let global = json!({"match": {"global": "all"}, "limit": limit}).to_string();
    let answer = call(tollgate.http, "PUT /v1/domains/api/overrides/g", Some("secret"), &global).await;
    assert!(answer.status == 400 && answer.body.contains("all or nothing"), "{answer:?}");

    let directory = tempfile::tempdir().expect("a directory");
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).expect("the directory is ours");
        path.to_str().expect("text").to_owned()
    };
    let csv = "match.user,requests_per_unit,unit,enforce\nc,5,hour,10%\nd,5,hour,false\n";
    assert_eq!(overrides(&["import", &file("a.csv", csv)]).out, "2 written\n");
    overrides(&["delete", "y"]);
    for user in (0..40).map(client).chain(["x".to_owned()]) {
        overrides(&["delete", &format!("user:{user}")]);
    }
    let exported = overrides(&["export"]).out;
    assert!(
        exported.contains(",tier,enforce,expires") && exported.contains(",10%,") && exported.contains(",false,"),
        "{exported}"
    );
    let lines = overrides(&["export", "--ndjson"]).out;
    assert!(lines.contains(r#""enforce":"10%""#) && lines.contains(r#""enforce":false"#), "{lines}");
    for (name, text) in [("b.csv", &exported), ("b.ndjson", &lines)] {
        assert_eq!(overrides(&["import", &file(name, text)]).out, "2 written\n");
    }
    assert_eq!(overrides(&["export"]).out, exported);
}
