//! Switches as an on-call engineer uses them: three replicas and one Redis, by the command line, and what becomes of them
//! when replicas restart, freeze or stand alone.

mod told;

use std::{path::Path, time::Duration};

use serde_json::Value;

use crate::{
    api::{token_line, with_tokens, write_tokens},
    asking::Ran,
    harness::{RulesDir, Tollgate, eventually},
    redis_server::RedisServer,
};

const RULES: &str = "domain: api\n\
    descriptors:\n  \
    - key: user\n    rate_limit: {requests_per_unit: 2, unit: hour}\n  \
    - key: vault\n    switchable: false\n    rate_limit: {requests_per_unit: 1, unit: hour}\n  \
    - key: log\n    rate_limit: {requests: 6000, window: 1h, algorithm: sliding_log}\n";

const ALICE: &[(&str, &str)] = &[("user", "alice")];

/// Replicas on one Redis, with the token `secret`.
pub(crate) async fn fleet(rules: &RulesDir, redis: &RedisServer, names: &[&str]) -> Vec<Tollgate> {
    let url = redis.address();
    let mut replicas = Vec::new();
    for name in names {
        let env = [("REDIS_URL", &*url), ("TOLLGATE_REPLICA_NAME", *name), ("TOLLGATE_FLEET", "shop")];
        replicas.push(with_tokens(rules, &env).await);
    }
    let all = names.len();
    eventually("each replica sees all", || async {
        let views = replicas.iter().map(|replica| status(replica)["replicas"].as_array().map_or(0, Vec::len));
        views.into_iter().all(|seen| seen == all).then_some(())
    })
    .await;
    replicas
}

pub(crate) fn status(replica: &Tollgate) -> Value {
    Ran::with(&["status", "--json", "--admin", &replica.admin.to_string()], &[]).json()
}

/// A command to the API of a replica, with a token.
fn limits(replica: &Tollgate, args: &[&str]) -> Ran {
    Ran::of(&[&["limits"], args, &["--addr", &replica.http.to_string()]].concat())
}

const WHY: [&str; 4] = ["--for", "1h", "--reason", "ticket 42"];

async fn is_refused(replica: &Tollgate) -> bool {
    !replica.client().admits("api", ALICE).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_is_put_into_shadow_on_every_replica_at_once_and_restored() {
    let (rules, redis) = (RulesDir::with("api.yaml", RULES), RedisServer::start());
    let replicas = fleet(&rules, &redis, &["a", "b", "c"]).await;
    for replica in &replicas {
        eventually("the limit refuses", || async { is_refused(replica).await.then_some(()) }).await;
    }

    for replica in &replicas {
        eventually("every replica's list names her, with the refusals of all", || async {
            let listed = Ran::with(&["top", "--json", "--admin", &replica.admin.to_string()], &[]).json();
            let (top, denied) = (&listed["entries"][0], listed["entries"][0]["denied"].as_u64()?);
            (top["descriptor"] == "user=alice" && denied >= 3 && listed["partial"].is_null()).then_some(())
        })
        .await;
    }

    let dry = limits(&replicas[0], &[&["shadow", "api/user", "--dry-run"], &WHY[..]].concat());
    assert_eq!((dry.code, is_refused(&replicas[0]).await), (0, true), "{dry:?}");
    assert!(dry.out.contains("api/user: 2 in 3600 s → 2 in 3600 s, denies nobody"), "{dry:?}");

    let began = tollgate::clock::instant();
    let switched = limits(&replicas[0], &[&["shadow", "api/user"], &WHY[..]].concat());
    assert_eq!(switched.code, 0, "{switched:?}");
    assert!(switched.out.contains("in force on 3 of 3 replicas"), "{switched:?}");
    for replica in &replicas {
        assert!(!is_refused(replica).await, "it was confirmed");
    }
    // Of that the command's own start takes most.
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());

    for replica in &replicas {
        let seen = status(replica);
        assert_eq!(seen["fleet"], "shop");
        assert_eq!(seen["switches"][0]["limit_id"], "api/user", "{seen}");
        let listed = Ran::with(&["limits", "list", "--admin", &replica.admin.to_string()], &[]);
        assert!(
            listed.out.starts_with("api/user: shadow, ends ") && listed.out.contains("by ops: ticket 42"),
            "{listed:?}"
        );
        let changes = Ran::with(&["changes", "--since", "1h", "--admin", &replica.admin.to_string()], &[]);
        assert!(changes.out.contains("limit.switch api/user: shadow until"), "{changes:?}");
    }
    let scaled = limits(&replicas[1], &[&["scale", "api/user", "100x"], &WHY[..]].concat());
    assert!(scaled.out.contains("replaces api/user: shadow") && scaled.code == 0, "{scaled:?}");
    assert_eq!(replicas[2].client().limit_of("api", ALICE).await, Some(200));

    let restored = limits(&replicas[2], &["restore", "api/user", "--reason", "ticket 42 is closed"]);
    assert_eq!(restored.code, 0, "{restored:?}");
    for replica in &replicas {
        assert!(is_refused(replica).await);
    }
    let again = limits(&replicas[2], &["restore", "api/user", "--reason", "twice"]);
    assert!(again.code == 1 && again.err.contains("isn't switched"), "{again:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_switch_ends_by_itself_and_a_whole_domain_can_be_switched_but_for_what_is_protected() {
    let (rules, redis) = (RulesDir::with("api.yaml", RULES), RedisServer::start());
    let replicas = fleet(&rules, &redis, &["a", "b"]).await;
    let vault: &[(&str, &str)] = &[("vault", "x")];
    for replica in &replicas {
        eventually("the limit refuses", || async { is_refused(replica).await.then_some(()) }).await;
    }
    let all = limits(&replicas[0], &["shadow", "--domain", "api", "--all", "--for", "3s", "--reason", "incident 7"]);
    assert_eq!(all.code, 0, "{all:?}");
    assert!(all.out.contains("api/vault: 1 in 3600 s, stays: its rule says switchable: false"), "{all:?}");
    assert!(!is_refused(&replicas[1]).await);
    assert!(replicas[1].client().admits("api", vault).await && !replicas[0].client().admits("api", vault).await);
    for replica in &replicas {
        eventually("the switch ends", || async { is_refused(replica).await.then_some(()) }).await;
    }
    let listed = Ran::with(&["limits", "list", "--admin", &replicas[0].admin.to_string()], &[]);
    assert_eq!(listed.out, "nothing is switched\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_does_not_confirm_is_named_and_takes_the_switch_when_it_comes_back() {
    let (rules, redis) = (RulesDir::with("api.yaml", RULES), RedisServer::start());
    let replicas = fleet(&rules, &redis, &["a", "frozen"]).await;
    replicas[1].process.signal("STOP");
    let switched = limits(&replicas[0], &[&["off", "api/user"], &WHY[..]].concat());
    replicas[1].process.signal("CONT");
    assert_eq!(switched.code, 3, "{switched:?}");
    assert!(switched.out.contains("in force on 1 of 2 replicas; not confirmed by frozen"), "{switched:?}");
    eventually("the other takes it", || async {
        (replicas[1].client().limit_of("api", ALICE).await.is_none()).then_some(())
    })
    .await;
    // A replica that comes later has it from its start, and so has one that comes back to a Redis that lost everything.
    let late = fleet(&rules, &redis, &[]).await;
    drop(late);
    let url = redis.address();
    let late = with_tokens(&rules, &[("REDIS_URL", &*url), ("TOLLGATE_REPLICA_NAME", "late")]).await;
    eventually("it is read", || async { late.client().limit_of("api", ALICE).await.is_none().then_some(()) }).await;
    redis.cli(&["FLUSHALL"]);
    eventually("it is written back", || async {
        redis.cli(&["HGET", "tg1:overrides:{api}", "!api/user"]).contains("\"off\"").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn right_after_a_switch_status_still_shows_the_rates() {
    let (rules, redis) = (RulesDir::with("api.yaml", RULES), RedisServer::start());
    let replicas = fleet(&rules, &redis, &["a"]).await;
    let client = replicas[0].client();
    let load = tokio::spawn(async move {
        loop {
            client.admits("api", ALICE).await;
        }
    });
    let requests = || status(&replicas[0])["replicas"][0]["requests"].as_f64().expect("a number");
    eventually("requests are seen", || async { (requests() > 0.0).then_some(()) }).await;
    for mode in ["shadow", "off", "shadow", "off"] {
        let switched = limits(&replicas[0], &[&[mode, "api/user"], &WHY[..]].concat());
        let seen = requests();
        assert!(switched.code == 0 && seen > 0.0, "{seen} requests a second: {switched:?}");
    }
    load.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_redis_is_away_one_replica_can_be_switched_alone() {
    let (rules, redis) = (RulesDir::with("api.yaml", RULES), RedisServer::start());
    let replicas = fleet(&rules, &redis, &["a"]).await;
    // Before that Redis is away.
    replicas[0].redis_connections_are(crate::harness::REDIS_CONNECTIONS).await;
    let alone = [&["off", "api/user", "--this-replica"], &WHY[..]].concat();
    let refused = limits(&replicas[0], &alone);
    assert!(refused.code == 1 && refused.err.contains("every replica can be switched"), "{refused:?}");
    redis.freeze();
    eventually("Redis is missed", || async {
        is_refused(&replicas[0]).await;
        (replicas[0].metric("tollgate_redis_breakers_open").await > 0.0).then_some(())
    })
    .await;
    let all = limits(&replicas[0], &[&["off", "api/user"], &WHY[..]].concat());
    assert!(all.code == 1 && all.err.contains("until it can, --this-replica"), "{all:?}");
    let long = limits(&replicas[0], &["off", "api/user", "--this-replica", "--for", "2h", "--reason", "outage"]);
    assert!(long.code == 1 && long.err.contains("an hour on one replica"), "{long:?}");
    let switched = limits(&replicas[0], &alone);
    assert_eq!(switched.code, 0, "{switched:?}");
    assert_eq!(replicas[0].client().limit_of("api", ALICE).await, None);
    let seen = Ran::with(&["status", "--admin", &replicas[0].admin.to_string()], &[]);
    redis.thaw();
    assert_eq!(seen.code, 3, "{seen:?}");
    assert!(seen.out.contains("on this replica alone"), "{seen:?}");
}

#[tokio::test]
async fn what_can_not_be_meant_is_refused_with_the_way_out() {
    let rules = RulesDir::with("api.yaml", RULES);
    let tollgate = with_tokens(&rules, &[]).await;
    for (args, says) in [
        (&["shadow", "api/usr"][..], "did you mean `api/user`?"),
        (&["off", "api/vault"], "switchable: false"),
        (&["scale", "api/log", "2x"], "sliding_log"),
        (&["scale", "api/user", "0x"], "from 0.001 to 1000"),
    ] {
        let refused = limits(&tollgate, &[args, &WHY[..]].concat());
        assert!(refused.code == 1 && refused.err.contains(says), "{args:?}: {refused:?}");
    }
    for (args, says) in [
        (&["shadow", "api/user", "--reason", "x"][..], "--for"),
        (&["shadow", "api/user", "--for", "1h"], "--reason"),
        (&["scale", "api/user", "lots", "--for", "1h", "--reason", "x"], "write it as 3x"),
        (&["shadow", "--for", "1h", "--reason", "x"], "LIMIT"),
    ] {
        let refused = limits(&tollgate, args);
        assert!(refused.code == 2 && refused.err.contains(says), "{args:?}: {refused:?}");
    }
    let blank = limits(&tollgate, &["shadow", "api/user", "--for", "1h", "--reason", " "]);
    assert!(blank.code == 1 && blank.err.contains("there is no reason"), "{blank:?}");
    let long = limits(&tollgate, &["shadow", "api/user", "--for", "31d", "--reason", "x"]);
    assert!(long.code == 1 && long.err.contains("30 days at most"), "{long:?}");
}

#[tokio::test]
async fn a_token_of_one_domain_switches_and_sees_that_domain_alone() {
    let rules = RulesDir::with("api.yaml", RULES);
    rules.write("web.yaml", "domain: web\ndescriptors:\n  - {key: user, rate_limit: 1/h}\n");
    let tollgate = with_tokens(&rules, &[]).await;
    let file: &Path = &rules.path().join("tokens");
    let of_web = token_line("web", "of-web", "limits.write@web,insight.read@web");
    write_tokens(file, &(token_line("ops", "secret", "*") + &of_web));
    let http = tollgate.http.to_string();
    let with = |args: &[&str]| Ran::with(&[args, &["--addr", &http]].concat(), &[("TOLLGATE_TOKEN", "of-web")]);
    eventually("the token is known", || async {
        (with(&["limits", "list", "--domain", "web"]).code == 0).then_some(())
    })
    .await;
    assert_eq!(with(&[&["limits", "shadow", "web/user"], &WHY[..]].concat()).code, 0);
    let other = with(&[&["limits", "shadow", "api/user"], &WHY[..]].concat());
    assert!(other.code == 1 && other.err.contains("lacks the scope limits.write"), "{other:?}");
    assert_eq!(limits(&tollgate, &[&["shadow", "api/user"], &WHY[..]].concat()).code, 0);
    let seen = with(&["status", "--domain", "web", "--json"]).json();
    assert_eq!(seen["switches"].as_array().map(Vec::len), Some(1), "{seen}");
    let unnamed = with(&["status", "--json"]).json();
    assert_eq!(
        (&unnamed["switches"], &unnamed["replicas"]),
        (&seen["switches"], &seen["replicas"]),
        "of its domain alone"
    );
}

#[tokio::test]
async fn the_memory_store_keeps_switches_over_a_restart_and_a_reload_tells_what_it_changes() {
    let (rules, state) = (RulesDir::with("api.yaml", RULES), tempfile::tempdir().expect("a directory"));
    let env = [("TOLLGATE_STATE_DIR", state.path().to_str().expect("text"))];
    let mut tollgate = with_tokens(&rules, &env).await;
    assert_eq!(limits(&tollgate, &[&["off", "api/user"], &WHY[..]].concat()).code, 0);
    tollgate.process.signal("TERM");
    tollgate.process.end().await;
    let tollgate = with_tokens(&rules, &env).await;
    assert_eq!(tollgate.client().limit_of("api", ALICE).await, None);
    rules.write("api.yaml", &RULES.replace("requests_per_unit: 2,", "requests_per_unit: 5,"));
    let line = "a limit that is switched was changed: api/user: 2 → 5 an hour, counts go on";
    tollgate.process.line("the reload", |text| text.contains(line).then_some(())).await;
    eventually("it is told", || async {
        let changes = Ran::with(&["changes", "--admin", &tollgate.admin.to_string()], &[]);
        changes.out.contains("rules.reload api/user: 2 an hour → 5 an hour, counts go on").then_some(())
    })
    .await;
    let patch = Ran::with(&["limits", "list", "--patch", "--admin", &tollgate.admin.to_string()], &[]);
    assert!(patch.out.contains("api.yaml:3: api/user"), "{patch:?}");
}
