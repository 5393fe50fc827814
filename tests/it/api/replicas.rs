//! Two replicas on one Redis, and a Redis that isn't there.

use serde_json::json;

use super::RULES;
use crate::{
    harness::{REDIS_CONNECTIONS, RulesDir, Tollgate, post},
    redis_server::RedisServer,
};

#[tokio::test]
async fn replicas_share_what_checks_count_own_limits_too() {
    let redis = RedisServer::start();
    let (rules, address) = (RulesDir::with("api.yaml", RULES), redis.address());
    let env = [("REDIS_URL", address.as_str())];
    let replicas = [Tollgate::start_with(rules.path(), &env).await, Tollgate::start_with(rules.path(), &env).await];
    for replica in &replicas {
        replica.redis_connections_are(REDIS_CONNECTIONS).await;
    }
    let check = async |replica: usize, body: &serde_json::Value| {
        post(replicas[replica].http, "/v1/check", body.to_string()).await.expect("an answer")
    };
    let own = json!({"user": "alice", "action": "upload", "limit": 3, "window_seconds": 3600});
    for (body, id) in [(json!({"user": "alice"}), "api/user"), (own, "api/(request)")] {
        for (replica, remaining) in [(0, 2), (1, 1), (0, 0)] {
            let answer = check(replica, &body).await.json();
            assert_eq!((&answer["limit_id"], &answer["remaining"]), (&json!(id), &json!(remaining)), "{answer}");
        }
        assert_eq!(check(1, &body).await.status, 429, "{body}");
    }
}

#[tokio::test]
async fn without_the_store_a_check_is_answered_by_policy_and_says_so() {
    let rules = RulesDir::with("api.yaml", RULES);
    for (policy, status, degraded) in [("open", 200, "open"), ("closed", 429, "closed"), ("local", 200, "local")] {
        let env = [("REDIS_URL", "127.0.0.1:1"), ("TOLLGATE_ON_STORE_FAILURE", policy)];
        let tollgate = Tollgate::start_with(rules.path(), &env).await;
        let answer = post(tollgate.http, "/v1/check", r#"{"user": "alice"}"#).await.expect("an answer");
        assert_eq!((answer.status, &answer.json()["degraded"]), (status, &json!(degraded)), "{policy}");
    }
    let env = [("REDIS_URL", "127.0.0.1:1"), ("TOLLGATE_ON_STORE_FAILURE", "error")];
    let tollgate = Tollgate::start_with(rules.path(), &env).await;
    let answer = post(tollgate.http, "/v1/check", r#"{"user": "alice"}"#).await.expect("an answer");
    assert_eq!((answer.status, answer.header("content-type")), (503, "application/problem+json"));
    assert!(!answer.body.contains("127.0.0.1"), "what went wrong in detail is for the log: {}", answer.body);
}
