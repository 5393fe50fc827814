//! Redis dies, comes back, or was never there: each limit's own policy answers meanwhile, and probes stay calm.

use envoy_types::pb::envoy::service::ratelimit::v3::{RateLimitResponse, rate_limit_response::Code as Verdict};
use tonic::{Code, Status};

use crate::{
    harness::{REDIS_CONNECTIONS, RulesDir, Tollgate, descriptor, eventually, get, request},
    redis_server::{RedisServer, free_port},
};

const LIMIT: usize = 2;

/// A key for each policy, with the same limit.
fn rules() -> RulesDir {
    let mut text = String::from("domain: api\ndescriptors:\n");
    for policy in ["open", "closed", "error", "local"] {
        text += &format!(
            "  - key: {policy}\n    on_store_failure: {policy}\n    \
             rate_limit: {{requests_per_unit: {LIMIT}, unit: hour}}\n"
        );
    }
    RulesDir::with("api.yaml", &text)
}

async fn ask(tollgate: &Tollgate, policy: &str, value: &str) -> Result<RateLimitResponse, Status> {
    tollgate.client().ask(request("api", vec![descriptor(&[(policy, value)])])).await
}

/// Waits until Redis is there for every thread, or for none.
async fn store_answers(tollgate: &Tollgate, answers: bool) {
    // A start waits ten seconds at most for the overrides in Redis, and then goes on without.
    eventually("the start is over", || async {
        let ready = get(tollgate.http, "/readyz", &[]).await.ok()?;
        (ready.json()["overrides_read"] == true).then_some(())
    })
    .await;
    tollgate.redis_connections_are(if answers { REDIS_CONNECTIONS } else { 0.0 }).await;
    let ready = get(tollgate.http, "/readyz", &[]).await.expect("probes are always answered");
    assert_eq!(ready.status, 200, "an outage of Redis must not take replicas out: {ready:?}");
    assert_eq!(ready.json()["store_answers"], answers);
}

/// A Redis that is connected and says nothing: what is admitted then is counted by itself, for it may be too much.
#[tokio::test]
async fn what_is_admitted_because_redis_is_late_is_counted_as_such() {
    let redis = RedisServer::start();
    let rules = rules();
    let env = [("REDIS_URL", &*redis.address())];
    let tollgate = Tollgate::start_with(rules.path(), &env).await;
    store_answers(&tollgate, true).await;
    ask(&tollgate, "local", "a").await.expect("decided");
    assert_eq!(tollgate.metric("tollgate_overdue_admissions_total").await, 0.0);
    redis.freeze();
    for policy in ["local", "open", "closed"] {
        ask(&tollgate, policy, "b").await.expect("a policy answers");
    }
    redis.thaw();
    assert_eq!(tollgate.metric("tollgate_overdue_admissions_total").await, 2.0, "closed admits nothing");
}

async fn assert_policies_answer(tollgate: &Tollgate) {
    for _ in 0..3 * LIMIT {
        let open = ask(tollgate, "open", "a").await.expect("open admits");
        // A limit would show a remaining 0 in Envoy's headers, which isn't true.
        assert_eq!((open.overall_code(), &open.statuses[0].current_limit), (Verdict::Ok, &None));
        let closed = ask(tollgate, "closed", "a").await.expect("closed answers");
        assert_eq!(closed.overall_code(), Verdict::OverLimit);
        let error = ask(tollgate, "error", "a").await.expect_err("error leaves it to Envoy");
        assert_eq!(error.code(), Code::Unavailable);
    }
    for admitted in [true, true, false] {
        let local = ask(tollgate, "local", "fresh").await.expect("local answers");
        assert_eq!(local.overall_code() == Verdict::Ok, admitted, "local goes on limiting");
    }
    for path in ["/livez", "/healthcheck"] {
        assert_eq!(get(tollgate.http, path, &[]).await.unwrap().status, 200, "{path}");
    }
    for policy in ["open", "closed", "error", "local"] {
        let series =
            format!("tollgate_degraded_decisions_total{{policy=\"{policy}\",domain=\"api\",limit=\"api/{policy}\"}}");
        let counted = tollgate.metric(&series).await;
        assert!(counted >= LIMIT as f64, "{counted} degraded decisions by {policy}");
    }
}

#[tokio::test]
async fn while_redis_is_dead_each_limit_follows_its_policy_and_then_redis_counts_again() {
    let mut redis = RedisServer::start();
    let rules = rules();
    let tollgate = Tollgate::start_with(rules.path(), &[("REDIS_URL", &redis.address())]).await;
    store_answers(&tollgate, true).await;
    for policy in ["open", "closed", "error", "local"] {
        assert_eq!(ask(&tollgate, policy, "a").await.unwrap().overall_code(), Verdict::Ok, "{policy}");
    }

    redis.kill();
    store_answers(&tollgate, false).await;
    assert_policies_answer(&tollgate).await;

    redis.restart();
    store_answers(&tollgate, true).await;
    eventually("Redis decides again", || async {
        let closed = ask(&tollgate, "closed", "b").await.expect("closed answers");
        closed.statuses[0].current_limit.as_ref().filter(|_| closed.overall_code() == Verdict::Ok).map(|_| ())
    })
    .await;
}

#[tokio::test]
async fn a_redis_that_is_absent_at_start_does_not_stop_the_service() {
    let rules = rules();
    let address = format!("127.0.0.1:{}", free_port());
    let tollgate = Tollgate::start_with(rules.path(), &[("REDIS_URL", &address)]).await;
    store_answers(&tollgate, false).await;
    assert_policies_answer(&tollgate).await;
}

#[tokio::test]
async fn counts_in_redis_survive_a_restart_of_the_service() {
    let redis = RedisServer::start();
    let rules = rules();
    let url = redis.address();
    let env = [("REDIS_URL", url.as_str())];
    let mut tollgate = Tollgate::start_with(rules.path(), &env).await;
    store_answers(&tollgate, true).await;
    for _ in 0..LIMIT {
        assert_eq!(ask(&tollgate, "error", "a").await.unwrap().overall_code(), Verdict::Ok);
    }
    tollgate.process.kill();
    let restarted = Tollgate::start_with(rules.path(), &env).await;
    store_answers(&restarted, true).await;
    assert_eq!(ask(&restarted, "error", "a").await.unwrap().overall_code(), Verdict::OverLimit);
}
