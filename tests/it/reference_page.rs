//! What the metrics page has for dashboards of envoyproxy/ratelimit beside the hits of rules, which conformance.rs holds.

use envoy_types::pb::envoy::{
    extensions::common::ratelimit::v3::RateLimitDescriptor,
    service::ratelimit::v3::{RateLimitRequest, rate_limit_response::Code},
};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::{
    harness::{REDIS_CONNECTIONS, RulesDir, Tollgate, channel, descriptor, eventually, request},
    redis_server::RedisServer,
};

const RULES: &str = "
domain: api.v1
descriptors:
  - {key: user, rate_limit: {unit: day, requests_per_unit: 10}, descriptors: [{key: never, rate_limit: {unit: day, requests_per_unit: 0}}]}
";

#[tokio::test]
async fn denials_from_memory_count_as_its_local_cache_and_connections_as_its_pool() {
    let redis = RedisServer::start();
    let rules = RulesDir::with("api.yaml", RULES);
    let url = redis.address();
    let env = [("REDIS_URL", &*url), ("USE_PROMETHEUS", "true")];
    let tollgate = Tollgate::start_with(rules.path(), &env).await;
    tollgate.redis_connections_are(REDIS_CONNECTIONS).await;
    let client = tollgate.client();

    // A denial is remembered for a second: on a slow machine that may be over before it is asked again.
    let cached = "ratelimit_service_rate_limit_api_v1_user_never_over_limit_with_local_cache";
    let mut asked = 0.0;
    while !tollgate.metrics().await.contains(cached) {
        assert!(!client.admits("api.v1", &[("user", "alice"), ("never", "x")]).await);
        asked += 1.0;
        assert!(asked < 100.0, "no denial was remembered");
    }
    let remembered = tollgate.metric("tollgate_redis_denied_again_total").await;
    assert!(remembered >= 1.0);
    assert_eq!(tollgate.metric(cached).await, remembered);
    assert_eq!(tollgate.metric("ratelimit_localcache_hitCount").await, remembered);
    assert_eq!(tollgate.metric("ratelimit_localcache_lookupCount").await, asked);
    let over = "ratelimit_service_rate_limit_over_limit{domain=\"api.v1\",key1=\"user\",key2=\"never\"}";
    assert_eq!(tollgate.metric(over).await, asked, "remembered ones are over the limit like any other");

    assert_eq!(tollgate.metric("ratelimit_redis_pool_cx_active").await, REDIS_CONNECTIONS);
    assert_eq!(tollgate.metric("ratelimit_redis_pool_cx_total").await, REDIS_CONNECTIONS);
    assert_eq!(tollgate.metric("ratelimit_redis_pool_cx_local_close").await, 0.0);
}

#[tokio::test]
async fn negative_hits_without_hits_of_their_own_give_back_and_are_counted_as_its_own() {
    let rules = RulesDir::with("api.yaml", RULES);
    let tollgate = Tollgate::start_with(rules.path(), &[("USE_PROMETHEUS", "true")]).await;
    let ask = async |hits_addend: u32, is_negative_hits: bool| {
        let alice = RateLimitDescriptor { is_negative_hits, ..descriptor(&[("user", "alice")]) };
        let asked = RateLimitRequest { hits_addend, ..request("api.v1", vec![alice]) };
        tollgate.client().ask(asked).await.expect("a decision").statuses.remove(0)
    };
    assert_eq!(ask(7, false).await.limit_remaining, 3);
    assert_eq!(ask(4, true).await.limit_remaining, 7);
    assert_eq!(ask(0, true).await.limit_remaining, 8, "none is one");
    let below = ask(100, true).await;
    assert_eq!((below.code(), below.limit_remaining), (Code::Ok, 10), "never below zero");
    assert_eq!(tollgate.metric("ratelimit_service_rate_limit_api_v1_user_total_negative_hits").await, 105.0);
    let total = "ratelimit_service_rate_limit_total_hits{domain=\"api.v1\",key1=\"user\"}";
    assert_eq!(tollgate.metric(total).await, 7.0);
}

#[tokio::test]
async fn checks_of_health_over_grpc_are_calls_like_any_other() {
    let rules = RulesDir::with("api.yaml", RULES);
    let env = [("USE_PROMETHEUS", "true"), ("PROMETHEUS_RESPONSE_TIME_AS_MILLISECONDS", "true")];
    let tollgate = Tollgate::start_with(rules.path(), &env).await;
    let check = "ratelimit_service_total_requests{grpc_method=\"Check\"}";
    assert!(!tollgate.metrics().await.contains(check), "nobody has asked");
    for _ in 0..3 {
        let ask = HealthCheckRequest { service: "ratelimit".into() };
        HealthClient::new(channel(tollgate.grpc)).check(ask).await.expect("it is known");
    }
    // Counted once the answer is made, which the client may hear before it is counted.
    eventually("three calls", || async { (tollgate.metrics().await.contains(&format!("{check} 3\n"))).then_some(()) })
        .await;

    tollgate.client().admits("api.v1", &[("user", "alice")]).await;
    let page = tollgate.metrics().await;
    let times = "ratelimit_service_response_time_seconds_bucket{grpc_method=\"ShouldRateLimit\"";
    let bounds: Vec<&str> =
        page.lines().filter_map(|line| line.strip_prefix(times)?.split_once("le=\"")?.1.split('"').next()).collect();
    // In milliseconds the bounds are the same numbers.
    assert_eq!(bounds, ["0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "10", "+Inf"]);
    let sum = tollgate.metric("ratelimit_service_response_time_seconds_sum{grpc_method=\"ShouldRateLimit\"}").await;
    let seconds = tollgate.metric("tollgate_decision_duration_seconds_sum").await;
    assert!((sum - seconds * 1e3).abs() < 1e-9, "{sum} ms are not {seconds} s");
}

#[tokio::test]
async fn each_descriptor_with_a_limit_is_one_lookup_in_the_local_cache_if_there_is_one() {
    let redis = RedisServer::start();
    let rules = RulesDir::with("api.yaml", RULES);
    let url = redis.address();
    let compat = ("TOLLGATE_COMPAT", "envoyproxy");
    let size = ("LOCAL_CACHE_SIZE_IN_BYTES", "1048576");
    for (env, lookups) in [(&[][..], Some(6.0)), (&[compat, size], Some(6.0)), (&[compat], None)] {
        let env =
            [env, &[("REDIS_URL", &*url), ("USE_PROMETHEUS", "true"), ("TOLLGATE_COUNT_DENIED", "true")]].concat();
        let tollgate = Tollgate::start_with(rules.path(), &env).await;
        tollgate.redis_connections_are(REDIS_CONNECTIONS).await;
        for _ in 0..3 {
            let matched = [&[("user", "a")][..], &[("user", "b"), ("never", "x")]];
            let unmatched = [&[("nobody", "a")][..], &[("user", "a"), ("else", "b")]];
            let descriptors = matched.into_iter().chain(unmatched).map(descriptor).collect();
            tollgate.client().ask(request("api.v1", descriptors)).await.expect("an answer");
        }
        match lookups {
            Some(lookups) => {
                assert_eq!(tollgate.metric("ratelimit_localcache_lookupCount").await, lookups, "{env:?}");
                assert_eq!(tollgate.metric("ratelimit_localcache_missCount").await, lookups, "{env:?}");
                assert_eq!(tollgate.metric("ratelimit_localcache_hitCount").await, 0.0, "{env:?}");
            }
            None => assert!(!tollgate.metrics().await.contains("ratelimit_localcache"), "{env:?}"),
        }
    }
}
