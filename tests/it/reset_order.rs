//! A reset over several places: its entry is written before any counter elsewhere begins afresh, so that whatever fails
//! in between is known, and asking again is safe.

use serde_json::{Value, json};

use crate::{
    api::{client::call, with_tokens},
    harness::{RulesDir, Tollgate, eventually},
    redis_server::{RedisCluster, RedisServer},
};

const AUDIT: &str = "tg1:overrides:{api}:audit";

const RULES: &str = "domain: api\ndescriptors:\n  - key: user\n    rate_limit:\n      \
    - {name: burst, requests_per_unit: 5, unit: second}\n      - {name: hourly, requests_per_unit: 50, unit: hour}\n";

async fn reset(tollgate: &Tollgate, is_dry: bool) -> (u16, Value) {
    let body = json!({"entries": {"user": "alice"}, "dry_run": is_dry}).to_string();
    let answer = call(tollgate.http, "POST /v1/counters:reset", Some("secret"), &body).await;
    (answer.status, answer.json())
}

/// Waits for the connections, and tells the keys of the counters: of the second, and of the hour.
async fn keys(tollgate: &Tollgate) -> [String; 2] {
    eventually("connections that reset", || async { (reset(tollgate, false).await.0 == 200).then_some(()) }).await;
    let told = reset(tollgate, true).await.1;
    [0, 1].map(|nth| told["counters"][nth]["key"].as_str().unwrap_or_else(|| panic!("{told}")).to_owned())
}

/// Plays a reset of alice's counters that can't be written down, then one that can't do more than that, then one that
/// can do all. What stands in the counters doesn't matter to a reset; by themselves they would leave within seconds.
/// `entry` asks the Redis of the entry, `counter` that of the counter of a second.
async fn play(
    tollgate: &Tollgate,
    second: &str,
    entry: impl Fn(&[&str]) -> String,
    counter: impl Fn(&[&str]) -> String,
) {
    counter(&["SET", second, "counted"]);
    let entries = || entry(&["XLEN", AUDIT]).parse::<u32>().expect("a number");
    let counts = || counter(&["EXISTS", second]) == "1";
    let before = entries();

    entry(&["ACL", "SETUSER", "default", "-xadd"]);
    assert_eq!(reset(tollgate, false).await.0, 503);
    assert!(counts() && entries() == before, "not written down, so it didn't happen");

    entry(&["ACL", "SETUSER", "default", "+xadd"]);
    counter(&["ACL", "SETUSER", "default", "-del"]);
    assert_eq!(reset(tollgate, false).await.0, 503);
    assert!(counts() && entries() == before + 1, "what could not be done is known");

    counter(&["ACL", "SETUSER", "default", "+del"]);
    assert_eq!(reset(tollgate, false).await.0, 200);
    assert!(!counts() && entries() == before + 2, "asking again is safe");
}

#[tokio::test]
async fn with_two_redis_a_reset_is_written_down_before_the_second_hears_of_it() {
    let (main, per_second) = (RedisServer::start(), RedisServer::start());
    let rules = RulesDir::with("api.yaml", RULES);
    let urls = [main.address(), per_second.address()];
    let env = [("REDIS_URL", &*urls[0]), ("REDIS_PERSECOND", "true"), ("REDIS_PERSECOND_URL", &*urls[1])];
    let tollgate = with_tokens(&rules, &env).await;
    let [second, hour] = keys(&tollgate).await;
    main.cli(&["SET", &hour, "counted"]);
    play(&tollgate, &second, |command| main.cli(command), |command| per_second.cli(command)).await;
    assert_eq!(main.cli(&["EXISTS", &hour]), "0", "in one step with the entry");
}

#[tokio::test]
async fn in_a_cluster_a_reset_is_written_down_before_any_slot_hears_of_it() {
    let cluster = RedisCluster::start();
    let rules = RulesDir::with("api.yaml", RULES);
    let seed = cluster.nodes[0].address();
    let tollgate = with_tokens(&rules, &[("REDIS_URL", &*seed), ("REDIS_TYPE", "cluster")]).await;
    let [second, _] = keys(&tollgate).await;
    // A right is taken on every node; a key is asked for where it is.
    let ask = |command: &[&str]| match command[0] {
        "ACL" => cluster.nodes.iter().map(|node| node.cli(command)).collect(),
        _ => cluster.nodes[0].cli(&[&["-c"], command].concat()),
    };
    play(&tollgate, &second, ask, ask).await;
}
