//! What replicas admit in their own memories while Redis is away: each its share, and Redis is told of it afterwards.

use envoy_types::pb::envoy::service::ratelimit::v3::{RateLimitResponse, rate_limit_response::Code as Verdict};

use crate::{
    harness::{REDIS_CONNECTIONS, RulesDir, Tollgate, descriptor, eventually, request},
    redis_server::{RedisServer, free_port},
};

const LIMIT: u32 = 10;

fn rules() -> RulesDir {
    let rule = |key: &str, algorithm: &str| {
        format!(
            "  - key: {key}\n    rate_limit: {{requests_per_unit: {LIMIT}, unit: day, algorithm: {algorithm}, burst: {LIMIT}}}\n"
        )
    };
    let mut text = String::from("domain: api\ndescriptors:\n");
    for window in ["sliding_window", "fixed_window", "sliding_log"] {
        text += &rule(window, window).replace(&format!(", burst: {LIMIT}"), "");
    }
    text += &rule("token_bucket", "token_bucket");
    RulesDir::with("api.yaml", &text)
}

const KEYS: [&str; 4] = ["sliding_window", "fixed_window", "sliding_log", "token_bucket"];

async fn hit(tollgate: &Tollgate, key: &str) -> RateLimitResponse {
    tollgate.client().ask(request("api", vec![descriptor(&[(key, "alice")])])).await.expect("a decision")
}

/// How many of many hits are admitted.
async fn admitted(tollgate: &Tollgate, key: &str) -> u32 {
    let mut admitted = 0;
    for _ in 0..2 * LIMIT {
        admitted += u32::from(hit(tollgate, key).await.overall_code() == Verdict::Ok);
    }
    admitted
}

async fn owed(tollgate: &Tollgate, outcome: &str) -> f64 {
    tollgate.metric(&format!("tollgate_owed_hits_total{{outcome=\"{outcome}\"}}")).await
}

#[tokio::test]
async fn local_hits_of_an_outage_are_charged_by_the_first_decision_after_it() {
    let mut redis = RedisServer::start();
    let rules = rules();
    let tollgate = Tollgate::start_with(rules.path(), &[("REDIS_URL", &redis.address())]).await;
    tollgate.redis_connections_are(REDIS_CONNECTIONS).await;
    redis.kill();
    tollgate.redis_connections_are(0.0).await;
    for key in KEYS {
        for _ in 0..3 {
            assert_eq!(hit(&tollgate, key).await.overall_code(), Verdict::Ok, "{key}");
        }
    }
    assert_eq!(tollgate.metric("tollgate_owed_counters").await, KEYS.len() as f64);

    // It comes back empty, so that all it knows is what it is told.
    redis.restart();
    tollgate.redis_connections_are(REDIS_CONNECTIONS).await;
    for key in KEYS {
        assert_eq!(hit(&tollgate, key).await.statuses[0].limit_remaining, LIMIT - 4, "{key}");
        assert_eq!(hit(&tollgate, key).await.statuses[0].limit_remaining, LIMIT - 5, "{key}: once");
    }
    assert_eq!(owed(&tollgate, "charged").await, 3.0 * KEYS.len() as f64);
    for outcome in ["expired", "dropped", "lost"] {
        assert_eq!(owed(&tollgate, outcome).await, 0.0, "{outcome}");
    }
    assert_eq!(tollgate.metric("tollgate_owed_counters").await, 0.0);
}

#[tokio::test]
async fn replicas_give_out_one_limit_together_and_owe_it() {
    let mut redis = RedisServer::start();
    let rules = rules();
    let url = redis.address();
    let env = [("REDIS_URL", url.as_str())];
    let replicas = [Tollgate::start_with(rules.path(), &env).await, Tollgate::start_with(rules.path(), &env).await];
    for replica in &replicas {
        replica.redis_connections_are(REDIS_CONNECTIONS).await;
        eventually("both are seen", || async { (replica.metric("tollgate_replicas").await == 2.0).then_some(()) })
            .await;
    }
    redis.kill();
    for replica in &replicas {
        replica.redis_connections_are(0.0).await;
        assert_eq!(admitted(replica, "sliding_window").await, LIMIT / 2);
    }
    redis.restart();
    for replica in &replicas {
        replica.redis_connections_are(REDIS_CONNECTIONS).await;
    }
    // The first is told of one half and admits on; the second's half is over the limit then, and counted all the same.
    assert_eq!(admitted(&replicas[0], "sliding_window").await, LIMIT / 2);
    assert_eq!(admitted(&replicas[1], "sliding_window").await, 0);
    for replica in &replicas {
        assert_eq!(owed(replica, "charged").await, f64::from(LIMIT / 2));
    }
}

#[tokio::test]
async fn expected_replicas_are_believed_and_an_unknown_number_is_said_once() {
    let rules = rules();
    let nowhere = format!("127.0.0.1:{}", free_port());
    let fleet = [("REDIS_URL", nowhere.as_str()), ("TOLLGATE_EXPECTED_REPLICAS", "5")];
    assert_eq!(admitted(&Tollgate::start_with(rules.path(), &fleet).await, "fixed_window").await, LIMIT / 5);
    let alone = Tollgate::start_with(rules.path(), &fleet[..1]).await;
    assert_eq!(admitted(&alone, "fixed_window").await, LIMIT);
    assert_eq!(alone.process.log().matches("the number of replicas is unknown (none was seen in Redis)").count(), 1);
}

#[tokio::test]
async fn replica_that_is_stopped_is_counted_no_more() {
    let redis = RedisServer::start();
    let rules = rules();
    let url = redis.address();
    let mut stopped = Tollgate::start_with(rules.path(), &[("REDIS_URL", &url)]).await;
    let living = || redis.cli(&["ZCARD", "tg1:{0}:replicas"]);
    eventually("it is seen", || async { (living() == "1").then_some(()) }).await;
    stopped.process.signal("TERM");
    stopped.process.end().await;
    assert_eq!(living(), "0");
}
