//! Resets of counters that are owed hits of an outage.

use serde_json::json;

use super::{RULES, check, reset};
use crate::{
    api::with_tokens,
    harness::{REDIS_CONNECTIONS, RulesDir},
    redis_server::RedisServer,
};

#[tokio::test]
async fn a_reset_forgets_what_the_counter_is_owed() {
    let mut redis = RedisServer::start();
    let rules = RulesDir::with("api.yaml", RULES);
    let tollgate = with_tokens(&rules, &[("REDIS_URL", &redis.address())]).await;
    tollgate.redis_connections_are(REDIS_CONNECTIONS).await;
    redis.kill();
    tollgate.redis_connections_are(0.0).await;
    for user in ["alice", "bob"] {
        for allowed in [true, true, false] {
            assert_eq!(check(&tollgate, user).await["allowed"], allowed, "counted here");
        }
    }
    assert_eq!(tollgate.metric("tollgate_owed_counters").await, 2.0);
    redis.restart();
    tollgate.redis_connections_are(REDIS_CONNECTIONS).await;
    reset(&tollgate, json!({"domain": "api", "entries": {"user": "alice"}})).await;
    let checked = check(&tollgate, "alice").await;
    assert_eq!((&checked["allowed"], &checked["remaining"]), (&json!(true), &json!(1)), "{checked}");
    assert_eq!(check(&tollgate, "bob").await["allowed"], false, "another's debt stays");
}
