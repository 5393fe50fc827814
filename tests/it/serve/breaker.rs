//! What a fault of Redis costs once it is known: nothing is sent to a node whose circuit breaker is open, its log lines
//! come once however many requests fail, and it is used again by itself.

use crate::{
    harness::{REDIS_CONNECTIONS, Rls, RulesDir, Tollgate, descriptor, eventually, request},
    redis_server::RedisServer,
};

const RULES: &str = "domain: api\ndescriptors:\n  - key: user\n    on_store_failure: open\n    \
                     rate_limit: {requests_per_unit: 1000000, unit: hour}\n";

const REQUESTS: usize = 100;

/// Tollgate in front of `redis`, on which all its connections stand, and a client that stays on one core.
async fn before(redis: &RedisServer) -> (Tollgate, Rls, RulesDir) {
    let rules = RulesDir::with("api.yaml", RULES);
    let tollgate = Tollgate::start_with(rules.path(), &[("REDIS_URL", &redis.address())]).await;
    tollgate.redis_connections_are(REDIS_CONNECTIONS).await;
    let client = tollgate.client();
    (tollgate, client, rules)
}

/// Whether the policy answers, which shows no limit, rather than Redis.
async fn is_degraded(client: &Rls) -> bool {
    let answer = client.ask(request("api", vec![descriptor(&[("user", "alice")])])).await.expect("open answers");
    answer.statuses[0].current_limit.is_none()
}

async fn open_breakers(tollgate: &Tollgate) -> f64 {
    tollgate.metric("tollgate_redis_breakers_open").await
}

async fn until_open(tollgate: &Tollgate, client: &Rls) {
    eventually("requests open the breaker", || async {
        is_degraded(client).await;
        (open_breakers(tollgate).await > 0.0).then_some(())
    })
    .await;
}

async fn until_redis_decides(client: &Rls) {
    eventually("Redis decides again", || async { (!is_degraded(client).await).then_some(()) }).await;
}

async fn assert_nothing_is_sent(tollgate: &Tollgate, client: &Rls) {
    let batches = tollgate.metric("tollgate_redis_batches_total").await;
    for _ in 0..REQUESTS {
        assert!(is_degraded(client).await);
    }
    assert_eq!(tollgate.metric("tollgate_redis_batches_total").await, batches, "no request waits for this Redis");
}

/// Of the lines with all of `words`, how many there are.
fn lines(tollgate: &Tollgate, words: &[&str]) -> usize {
    tollgate.process.log().lines().filter(|line| words.iter().all(|word| line.contains(word))).count()
}

fn assert_opened_and_closed_once(tollgate: &Tollgate, redis: &RedisServer, cause: &str) {
    let address = redis.address();
    for words in [["circuit breaker open", &address, cause], ["circuit breaker closed", &address, "WARN"]] {
        assert_eq!(lines(tollgate, &words), 1, "{words:?} in\n{}", tollgate.process.log());
    }
    assert_eq!(lines(tollgate, &["circuit breaker"]), 2, "{}", tollgate.process.log());
}

#[tokio::test]
async fn a_node_that_became_a_replica_is_asked_nothing_until_it_is_promoted() {
    let (redis, primary) = (RedisServer::start(), RedisServer::start());
    let (tollgate, client, _rules) = before(&redis).await;
    assert!(!is_degraded(&client).await);
    redis.cli(&["replicaof", "127.0.0.1", &primary.port().to_string()]);
    until_open(&tollgate, &client).await;
    assert_nothing_is_sent(&tollgate, &client).await;
    assert_eq!(lines(&tollgate, &["answers with an error", "READONLY"]), 1, "{}", tollgate.process.log());
    redis.cli(&["replicaof", "no", "one"]);
    until_redis_decides(&client).await;
    assert_opened_and_closed_once(&tollgate, &redis, "READONLY");
    assert_eq!(open_breakers(&tollgate).await, 0.0);
    assert_eq!(tollgate.metric("tollgate_redis_breaker_opens_total").await, 1.0);
}

#[tokio::test]
async fn a_node_that_is_silent_is_asked_nothing_until_it_answers_a_probe() {
    let redis = RedisServer::start();
    let (tollgate, client, _rules) = before(&redis).await;
    redis.freeze();
    until_open(&tollgate, &client).await;
    assert_nothing_is_sent(&tollgate, &client).await;
    redis.thaw();
    until_redis_decides(&client).await;
    assert_opened_and_closed_once(&tollgate, &redis, "does not answer in time");
}

/// Waits until each connection, those for overrides included, was tried more than once.
async fn until_tried_again(tollgate: &Tollgate) {
    let attempts = || tollgate.metric("tollgate_redis_connect_failures_total");
    let before = attempts().await;
    eventually("every core has tried more than once", || async {
        (attempts().await - before > 3.0 * REDIS_CONNECTIONS).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_redis_that_is_away_is_one_line_that_says_why() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = nobody.local_addr().expect("it is bound").to_string();
    drop(nobody);
    let rules = RulesDir::with("api.yaml", RULES);
    let tollgate = Tollgate::start_with(rules.path(), &[("REDIS_URL", &address)]).await;
    until_tried_again(&tollgate).await;
    let why = ["circuit breaker open", &address, "can't connect to Redis", "Connection refused"];
    assert_eq!(lines(&tollgate, &why), 1, "{}", tollgate.process.log());
    assert_eq!(lines(&tollgate, &["\"level\":\"WARN\""]), 1, "{}", tollgate.process.log());
}

#[tokio::test]
async fn a_redis_that_goes_away_is_one_line() {
    let redis = RedisServer::start();
    let (tollgate, client, _rules) = before(&redis).await;
    let address = redis.address();
    drop(redis);
    until_open(&tollgate, &client).await;
    until_tried_again(&tollgate).await;
    assert_eq!(lines(&tollgate, &["circuit breaker open", &address]), 1, "{}", tollgate.process.log());
    assert_eq!(lines(&tollgate, &["\"level\":\"WARN\""]), 1, "{}", tollgate.process.log());
}

#[tokio::test]
async fn an_error_of_redis_is_one_line_however_many_requests_fail() {
    let redis = RedisServer::start();
    let (tollgate, client, _rules) = before(&redis).await;
    redis.cli(&["config", "set", "maxmemory", "1"]);
    for _ in 0..REQUESTS {
        assert!(is_degraded(&client).await);
    }
    assert!(tollgate.metric("tollgate_redis_refused_total").await >= REQUESTS as f64);
    assert_eq!(lines(&tollgate, &["OOM"]), 1, "{}", tollgate.process.log());
    assert_eq!(lines(&tollgate, &["WARN", "Redis"]), 1, "{}", tollgate.process.log());
    redis.cli(&["config", "set", "maxmemory", "0"]);
    until_redis_decides(&client).await;
}

#[tokio::test]
async fn a_password_that_is_missing_is_one_line_however_many_attempts_fail() {
    let redis = RedisServer::start_with(&["--requirepass", "secret"]);
    let rules = RulesDir::with("api.yaml", RULES);
    let tollgate = Tollgate::start_with(rules.path(), &[("REDIS_URL", &redis.address())]).await;
    let client = tollgate.client();
    eventually("every core has tried more than once", || async {
        let failures = tollgate.metric("tollgate_redis_connect_failures_total").await;
        (failures > 3.0 * REDIS_CONNECTIONS).then_some(())
    })
    .await;
    for _ in 0..REQUESTS {
        assert!(is_degraded(&client).await);
    }
    assert_eq!(lines(&tollgate, &["answers with an error", "REDIS_AUTH"]), 1, "{}", tollgate.process.log());
    assert_eq!(lines(&tollgate, &["circuit breaker open"]), 1, "{}", tollgate.process.log());
    assert_eq!(open_breakers(&tollgate).await, REDIS_CONNECTIONS);
}
