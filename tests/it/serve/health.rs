//! What health depends on where the environment asks for more than that the process runs: rules, and Redis.

use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use super::PER_USER;
use crate::{
    harness::{RulesDir, Tollgate, channel, eventually, get},
    redis_server::RedisServer,
};

/// Waits until every probe that a fleet has says the same.
async fn health_becomes(tollgate: &Tollgate, healthy: bool) {
    let [healthcheck, readyz] = if healthy { [200, 200] } else { [500, 503] };
    for (path, status) in [("/healthcheck", healthcheck), ("/readyz", readyz)] {
        eventually(&format!("{path} answers {status}"), || async {
            (get(tollgate.http, path, &[]).await.ok()?.status == status).then_some(())
        })
        .await;
    }
    let expected = if healthy { ServingStatus::Serving } else { ServingStatus::NotServing };
    for service in ["", "ratelimit"] {
        eventually(&format!("gRPC health of '{service}' is {expected:?}"), || async {
            let ask = HealthCheckRequest { service: service.to_owned() };
            let answer = HealthClient::new(channel(tollgate.grpc)).check(ask).await.ok()?;
            (answer.into_inner().status() == expected).then_some(())
        })
        .await;
    }
    assert_eq!(get(tollgate.http, "/livez", &[]).await.unwrap().status, 200, "the process lives in any case");
}

#[tokio::test]
async fn health_follows_redis_where_that_is_asked_for() {
    let mut redis = RedisServer::start();
    let rules = RulesDir::with("api.yaml", PER_USER);
    let env = [("REDIS_URL", &*redis.address()), ("REDIS_HEALTH_CHECK_ACTIVE_CONNECTION", "true")];
    let tollgate = Tollgate::start_with(rules.path(), &env).await;
    health_becomes(&tollgate, true).await;
    redis.kill();
    health_becomes(&tollgate, false).await;
    redis.restart();
    health_becomes(&tollgate, true).await;
}

#[tokio::test]
async fn health_waits_for_the_first_domain_where_that_is_asked_for_and_leaves_with_the_last() {
    let rules = RulesDir::with("README.txt", "not a rule file\n");
    let env = [("HEALTHY_WITH_AT_LEAST_ONE_CONFIG_LOADED", "1"), ("TOLLGATE_ALLOW_EMPTY_RULES", "true")];
    let tollgate = Tollgate::start_with(rules.path(), &env).await;
    health_becomes(&tollgate, false).await;
    rules.write("api.yaml", PER_USER);
    health_becomes(&tollgate, true).await;
    std::fs::remove_file(rules.path().join("api.yaml")).unwrap();
    health_becomes(&tollgate, false).await;
}

#[tokio::test]
async fn without_rules_the_process_is_healthy_unless_told_otherwise() {
    let rules = RulesDir::with("README.txt", "not a rule file\n");
    let tollgate = Tollgate::start(rules.path()).await;
    health_becomes(&tollgate, true).await;
}

#[tokio::test]
async fn a_start_is_ready_only_once_it_has_read_the_overrides_that_were_set_at_run_time() {
    let redis = RedisServer::start();
    let rules = RulesDir::with("api.yaml", PER_USER);
    redis.freeze();
    let tollgate = Tollgate::start_with(rules.path(), &[("REDIS_URL", &*redis.address())]).await;
    let ready = get(tollgate.http, "/readyz", &[]).await.expect("an answer");
    assert_eq!((ready.status, &ready.json()["overrides_read"]), (503, &false.into()), "{ready:?}");
    redis.thaw();
    health_becomes(&tollgate, true).await;
}

#[tokio::test]
async fn a_start_without_redis_is_ready_after_ten_seconds() {
    let rules = RulesDir::with("api.yaml", PER_USER);
    let tollgate = Tollgate::start_with(rules.path(), &[("REDIS_URL", "127.0.0.1:1")]).await;
    assert_eq!(get(tollgate.http, "/readyz", &[]).await.expect("an answer").status, 503);
    health_becomes(&tollgate, true).await;
}

#[tokio::test]
async fn readyz_says_that_the_store_does_not_answer_once_any_core_has_found_out() {
    let redis = RedisServer::start();
    let rules = RulesDir::with("api.yaml", PER_USER);
    let env = [("REDIS_URL", &*redis.address()), ("TOLLGATE_STORE_TIMEOUT", "50ms")];
    let tollgate = Tollgate::start_with(rules.path(), &env).await;
    let says = |answers: bool| {
        let http = tollgate.http;
        let client = tollgate.client();
        async move {
            eventually("what /readyz says", || async {
                // Only a core that is asked can find out, and only over gRPC; HTTP has a way of its own.
                client.admits("api", &[("user", "alice")]).await;
                let ready = get(http, "/readyz", &[]).await.ok()?;
                assert_eq!(ready.status, 200, "an outage of Redis takes no replica out");
                (ready.json()["store_answers"] == answers).then_some(())
            })
            .await;
        }
    };
    health_becomes(&tollgate, true).await;
    says(true).await;
    redis.freeze();
    says(false).await;
    redis.thaw();
    says(true).await;
}
