//! A Redis that is connected and whose answers come late: a request that is on its way to Redis waits on for that answer
//! while its caller has the time, and only then a failure policy answers. The requests here come one after the other, so
//! that none waits to be sent. A network between Tollgate and Redis makes the answers late, and only them: Redis counts
//! each request at once.

use std::time::Duration;

use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::Code as Verdict;
use tonic::Request;

use crate::{
    chaos::proxy::{Proxy, Weather},
    harness::{REDIS_CONNECTIONS, Rls, RulesDir, Tollgate, descriptor, request},
    redis_server::RedisServer,
};

const LIMIT: usize = 100;

/// Far more than Tollgate waits for Redis here: the bound is twice the store's timeout.
const CALLERS_TIME: Duration = Duration::from_secs(25);

struct Late {
    tollgate: Tollgate,
    client: Rls,
    weather: Proxy,
    _redis: RedisServer,
    _rules: RulesDir,
}

impl Late {
    async fn start(store_timeout: &str) -> Late {
        let limit = |policy: &str| {
            let limit = format!("{{requests_per_unit: {LIMIT}, unit: year}}");
            format!("  - key: {policy}\n    on_store_failure: {policy}\n    rate_limit: {limit}\n")
        };
        let text = format!("domain: api\ndescriptors:\n{}{}{}", limit("local"), limit("open"), limit("closed"));
        let rules = RulesDir::with("api.yaml", &text);
        let redis = RedisServer::start();
        let weather = Proxy::before(&redis.address()).await;
        let env = [("REDIS_URL", &*weather.address.to_string()), ("TOLLGATE_STORE_TIMEOUT", store_timeout)];
        let tollgate = Tollgate::start_with(rules.path(), &env).await;
        tollgate.redis_connections_are(REDIS_CONNECTIONS).await;
        let client = tollgate.client();
        Late { tollgate, client, weather, _redis: redis, _rules: rules }
    }

    /// How many of so many requests, one after the other, are admitted.
    async fn admitted(&self, policy: &str, requests: usize) -> usize {
        let mut admitted = 0;
        for _ in 0..requests {
            let mut ask = Request::new(request("api", vec![descriptor(&[(policy, "alice")])]));
            ask.set_timeout(CALLERS_TIME);
            let answer = self.client.ask(ask).await.expect("a decision");
            admitted += usize::from(answer.overall_code() == Verdict::Ok);
        }
        admitted
    }
}

/// The answers take one and a half times the store's timeout: half a second too long for the timeout, and half a second
/// less than a request that is on its way is waited for.
#[tokio::test]
async fn a_redis_that_answers_after_the_timeout_and_in_the_callers_time_admits_exactly_the_limit() {
    let late = Late::start("1s").await;
    let mut admitted = late.admitted("local", LIMIT - 2).await;
    late.weather.turns(Weather::DelayAnswers(Duration::from_millis(1_500)));
    admitted += late.admitted("local", 4).await;
    late.weather.turns(Weather::Fair);
    admitted += late.admitted("local", 2 * LIMIT - 2).await;
    assert_eq!(admitted, LIMIT, "of {}", 3 * LIMIT);
    assert_eq!(late.tollgate.metric("tollgate_overdue_admissions_total").await, 0.0);
}

#[tokio::test]
async fn what_is_admitted_while_its_batch_is_on_its_way_is_counted_as_such() {
    let late = Late::start("200ms").await;
    assert_eq!(late.admitted("local", LIMIT).await, LIMIT);
    let sent = late.tollgate.metric("tollgate_redis_batches_total").await;
    late.weather.turns(Weather::KeepAnswers);
    // Fewer than open the breaker. `local` counts by itself what Redis would refuse.
    for (policy, admitted) in [("local", 1), ("open", 1), ("closed", 0)] {
        assert_eq!(late.admitted(policy, 1).await, admitted, "{policy}");
    }
    assert_eq!(late.tollgate.metric("tollgate_redis_batches_total").await, sent + 3.0, "each was on its way");
    assert_eq!(late.tollgate.metric("tollgate_overdue_admissions_total").await, 2.0);
    late.weather.turns(Weather::Fair);
}
