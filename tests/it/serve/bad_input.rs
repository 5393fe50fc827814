//! Keys, values, hits and limits at their edges, over the wire and on each store: each is counted as what it is.

use envoy_types::pb::{
    envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse, rate_limit_response::Code as Verdict},
    google::protobuf::UInt64Value,
};

use crate::{
    harness::{REDIS_CONNECTIONS, RulesDir, Tollgate, descriptor, request},
    redis_server::RedisServer,
};

const ALGORITHMS: [&str; 4] = ["sliding_window", "fixed_window", "token_bucket", "leaky_bucket"];

/// Two an hour for each key that is given; `zero_…` and `most_…` of each algorithm have the least limit and the largest.
fn rules(keys: &[&str]) -> RulesDir {
    let mut text = String::from("domain: api\ndescriptors:\n");
    for key in keys {
        let escaped: String = key.chars().map(|char| format!("\\u{:04x}", u32::from(char))).collect();
        text += &format!("  - key: \"{escaped}\"\n    rate_limit: {{requests_per_unit: 2, unit: hour}}\n");
    }
    for algorithm in ALGORITHMS {
        for (name, requests) in [("zero", 0), ("most", u32::MAX)] {
            let burst = if algorithm == "leaky_bucket" { format!(", burst: {}", u32::MAX) } else { String::new() };
            let limit = format!("requests_per_unit: {requests}, unit: hour, algorithm: {algorithm}{burst}");
            text += &format!("  - {{key: {name}_{algorithm}, rate_limit: {{{limit}}}}}\n");
        }
    }
    RulesDir::with("api.yaml", &text)
}

/// Asks each Tollgate, one per store, and wants a decision.
async fn ask(tollgates: &[Tollgate], ask: RateLimitRequest) -> Vec<RateLimitResponse> {
    let mut answers = Vec::new();
    for tollgate in tollgates {
        answers.push(tollgate.client().ask(ask.clone()).await.expect("a decision"));
    }
    answers
}

async fn verdicts(tollgates: &[Tollgate], key: &str, value: &str, hits: Option<u64>) -> Vec<Verdict> {
    let mut put = descriptor(&[(key, value)]);
    put.hits_addend = hits.map(|value| UInt64Value { value });
    ask(tollgates, request("api", vec![put])).await.iter().map(RateLimitResponse::overall_code).collect()
}

#[tokio::test]
async fn keys_values_hits_and_limits_at_their_edges_are_counted_on_each_store() {
    let every_character: String = (0..=255u8).map(char::from).collect();
    let long = "x".repeat(64 << 10);
    // (A rule's key has no `*`, for that would read as any key.)
    let key_characters = every_character.replace('*', "");
    let keys = ["user", &key_characters, &long];
    let (rules, redis) = (rules(&keys), RedisServer::start());
    let on_redis = Tollgate::start_with(rules.path(), &[("REDIS_URL", &redis.address())]).await;
    on_redis.redis_connections_are(REDIS_CONNECTIONS).await;
    let tollgates = [Tollgate::start(rules.path()).await, on_redis];
    let (passes, refused) = (vec![Verdict::Ok; 2], vec![Verdict::OverLimit; 2]);

    for key in keys {
        for value in ["", &every_character, &long, &long[1..]] {
            for expected in [&passes, &passes, &refused] {
                let what = format!("{:.20}={:.20}", key, value);
                assert_eq!(&verdicts(&tollgates, key, value, None).await, expected, "{what}");
            }
        }
    }
    // No rule can have an empty key, and a request may.
    assert_eq!(verdicts(&tollgates, "", "", None).await, passes);

    for algorithm in ALGORITHMS {
        let (zero, most) = (format!("zero_{algorithm}"), format!("most_{algorithm}"));
        for (hits, expected) in [(None, &refused), (Some(0), &passes), (Some(u64::MAX), &refused)] {
            assert_eq!(&verdicts(&tollgates, &zero, "a", hits).await, expected, "{algorithm}: {hits:?} of nothing");
        }
        let whole = RateLimitRequest { hits_addend: u32::MAX, ..request("api", vec![descriptor(&[(&most, "a")])]) };
        for answer in ask(&tollgates, whole).await {
            assert_eq!((answer.overall_code(), answer.statuses[0].limit_remaining), (Verdict::Ok, 0), "{algorithm}");
        }
        // (A bucket has regained some by now.)
        let whole = RateLimitRequest { hits_addend: u32::MAX, ..request("api", vec![descriptor(&[(&most, "a")])]) };
        for answer in ask(&tollgates, whole).await {
            assert_eq!(answer.overall_code(), Verdict::OverLimit, "{algorithm}");
        }
        assert_eq!(verdicts(&tollgates, &most, "b", Some(u64::MAX)).await, refused, "{algorithm}");
    }
    for tollgate in &tollgates {
        assert_eq!(tollgate.metric("tollgate_panics_total").await, 0.0, "{}", tollgate.process.log());
        assert_eq!(tollgate.metrics().await.matches("tollgate_degraded_decisions_total{").count(), 0);
    }
}
