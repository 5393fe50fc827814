//! Redis behind the `redis_proxy` of a real Envoy, which speaks RESP2 only, hears no channels and answers TIME by its own
//! clock; and a proxy over several Redis, which must not be used.

use serde_json::json;

use crate::{
    api::{RULES, client::call, with_tokens},
    harness::{Envoy, REDIS_CONNECTIONS, RulesDir, Tollgate, descriptor, eventually, get, request},
    redis_server::RedisServer,
};

async fn behind(envoy: &Envoy, env: &[(&str, &str)]) -> (RulesDir, Tollgate) {
    let rules = RulesDir::with("api.yaml", RULES);
    let address = envoy.ingress.to_string();
    let tollgate = with_tokens(&rules, &[env, &[("REDIS_URL", &*address)]].concat()).await;
    (rules, tollgate)
}

/// How many of so many requests of alice's are let in.
async fn admitted(tollgates: &[&Tollgate], times: usize) -> usize {
    let mut admitted = 0;
    for nth in 0..times {
        let ask = request("api", vec![descriptor(&[("user", "alice")])]);
        let answer = tollgates[nth % tollgates.len()].client().ask(ask).await.expect("a decision");
        admitted += usize::from(answer.overall_code == 1);
    }
    admitted
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_behind_envoys_redis_proxy_counts_for_all_replicas() {
    let redis = RedisServer::start();
    let envoy = Envoy::before_redis(&[redis.port()]).await;
    // No request may be decided by another way than Redis.
    let env = [("TOLLGATE_STORE_TIMEOUT", "5s"), ("TOLLGATE_ON_STORE_FAILURE", "closed")];
    let (_rules, here) = behind(&envoy, &env).await;
    let (_rules, there) = behind(&envoy, &env).await;
    for tollgate in [&here, &there] {
        tollgate.redis_connections_are(REDIS_CONNECTIONS).await;
    }
    assert_eq!(admitted(&[&here, &there], 8).await, 3, "of both replicas together");
    assert!(redis.cli(&["keys", "tg1:*"]).contains("alice"), "it is Redis that counts");

    // Nobody is told of a change; it is found all the same, and ends when Redis' clock says so.
    let change = json!({"match": {"user": "alice"}, "limit": "5/hour", "expires": "2060-01-01T00:00:00Z"}).to_string();
    let put = "PUT /v1/domains/api/overrides/x";
    eventually("an override", || async {
        (call(here.http, put, Some("secret"), &change).await.status < 300).then_some(())
    })
    .await;
    eventually("the other replica finds it", || async {
        (there.metric("tollgate_run_time_overrides{domain=\"api\"}").await == 1.0).then_some(())
    })
    .await;
    assert_eq!(admitted(&[&there], 4).await, 2);
    let reset = call(here.http, "POST /v1/counters:reset", Some("secret"), r#"{"entries":{"user":"alice"}}"#).await;
    assert_eq!(reset.status, 200, "{}", reset.body);
    assert_eq!(admitted(&[&here, &there], 8).await, 5);
    for tollgate in [&here, &there] {
        eventually("both are counted", || async { (tollgate.metric("tollgate_replicas").await == 2.0).then_some(()) })
            .await;
        let refused = tollgate.metric("tollgate_redis_refused_total").await;
        assert_eq!(refused, 0.0, "{}", tollgate.process.log());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_over_several_redis_is_refused_with_the_reason() {
    let servers = [RedisServer::start(), RedisServer::start()];
    let envoy = Envoy::before_redis(&servers.each_ref().map(RedisServer::port)).await;
    let (_rules, tollgate) = behind(&envoy, &[]).await;
    let said = |line: &str| line.contains("can't connect to Redis").then(|| line.to_owned());
    let line = tollgate.process.line("why it has no connection to Redis", said).await;
    assert!(line.contains("several Redis servers"), "{line}");
    let ready = eventually("a note", || async {
        let ready = get(tollgate.http, "/readyz", &[]).await.expect("probes are answered").json();
        ready["note"].is_string().then_some(ready)
    })
    .await;
    assert_eq!(ready["store_answers"], false);
    assert!(ready["note"].as_str().is_some_and(|note| note.contains("several Redis servers")), "{ready}");
    assert_eq!(tollgate.metric("tollgate_redis_connections").await, 0.0);
    // Nor are overrides kept there.
    let said = |line: &str| line.contains("can't reach Redis for overrides and resets").then(|| line.to_owned());
    let line = tollgate.process.line("why overrides can't be read", said).await;
    assert!(line.contains("several Redis servers"), "{line}");
    let change = json!({"match": {"user": "alice"}, "limit": "5/hour"}).to_string();
    let refused = call(tollgate.http, "PUT /v1/domains/api/overrides/x", Some("secret"), &change).await;
    assert_eq!(refused.status, 503, "{}", refused.body);
}
