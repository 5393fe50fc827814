//! Two Redis: limits of a second in one, all others in the other, and requests that touch both.

use std::{collections::BTreeSet, time::Duration};

use envoy_types::pb::envoy::service::ratelimit::v3::{RateLimitResponse, rate_limit_response::Code};

use tokio::time::Instant;
use tollgate::{
    limit::{Algorithm, Cost, Entry, Limit, Unit},
    store::{CounterCheck, Gate, Key, Role, split::Split},
};

use crate::{
    harness::{PATIENCE, RulesDir, Tollgate, descriptor, eventually, request, run_to_end},
    redis_server::RedisServer,
    redis_twin::{settings, store},
};

/// `second: 0` and `day: 0` refuse always, so that no test depends on how long it takes.
const RULES: &str = "\
domain: api
descriptors:
  - {key: second, rate_limit: {requests_per_unit: 1000000, unit: second}}
  - {key: day, rate_limit: {requests_per_unit: 10, unit: day}}
  - {key: no_second, rate_limit: {requests_per_unit: 0, unit: second}}
  - {key: no_day, rate_limit: {requests_per_unit: 0, unit: day}}
  - {key: closed_second, on_store_failure: closed, rate_limit: {requests_per_unit: 1000000, unit: second}}
  - {key: quota_day, quota_mode: true, rate_limit: {requests_per_unit: 10, unit: day}}
  - {key: no_quota_second, quota_mode: true, rate_limit: {requests_per_unit: 0, unit: second}}
  - {key: shadow_second, shadow_mode: true, rate_limit: {requests_per_unit: 0, unit: second}}
";

struct Stage {
    main: RedisServer,
    per_second: RedisServer,
    tollgate: Tollgate,
    _rules: RulesDir,
}

impl Stage {
    async fn set() -> Stage {
        let (main, per_second) = (RedisServer::start(), RedisServer::start());
        let rules = RulesDir::with("api.yaml", RULES);
        let urls = [main.address(), per_second.address()];
        let env = [("REDIS_URL", &*urls[0]), ("REDIS_PERSECOND", "true"), ("REDIS_PERSECOND_URL", &*urls[1])];
        let tollgate = Tollgate::start_with(rules.path(), &env).await;
        tollgate.redis_connections_are(2.0 * crate::harness::REDIS_CONNECTIONS).await;
        Stage { main, per_second, tollgate, _rules: rules }
    }

    /// One descriptor for each key.
    async fn ask(&self, keys: &[&str]) -> RateLimitResponse {
        let descriptors = keys.iter().map(|key| descriptor(&[(key, "a")])).collect();
        self.tollgate.client().ask(request("api", descriptors)).await.expect("both Redis answer")
    }

    /// What is left of the ten of `key`, by a request that is refused and so charges nothing.
    async fn left(&self, key: &str) -> u32 {
        self.ask(&[key, "no_day"]).await.statuses[0].limit_remaining
    }
}

/// Which keys of [`RULES`] have a counter there.
fn counted(redis: &RedisServer) -> BTreeSet<&'static str> {
    let found = redis.cli(&["KEYS", "*"]);
    ["second=", "day="].into_iter().filter(|key| found.contains(&format!(":{key}"))).collect()
}

#[tokio::test]
async fn limits_of_a_second_are_counted_in_their_own_redis() {
    let stage = Stage::set().await;
    assert_eq!(stage.ask(&["second"]).await.overall_code(), Code::Ok);
    assert_eq!(stage.ask(&["day"]).await.overall_code(), Code::Ok);
    assert_eq!(counted(&stage.main), BTreeSet::from(["day="]));
    assert_eq!(counted(&stage.per_second), BTreeSet::from(["second="]));
    let both = stage.ask(&["second", "day"]).await;
    assert_eq!((both.overall_code(), both.statuses[1].limit_remaining), (Code::Ok, 8));
}

#[tokio::test]
async fn a_refusal_by_either_redis_charges_neither() {
    let stage = Stage::set().await;
    assert_eq!(stage.ask(&["day"]).await.overall_code(), Code::Ok);
    for refusing in ["no_second", "no_day"] {
        for keys in [[refusing, "day", "second"], ["second", "day", refusing]] {
            let answer = stage.ask(&keys).await;
            assert_eq!(answer.overall_code(), Code::OverLimit, "{keys:?}");
            let codes: Vec<Code> = answer.statuses.iter().map(|status| status.code()).collect();
            let expected = keys.map(|key| if key == refusing { Code::OverLimit } else { Code::Ok });
            assert_eq!(codes, expected, "{keys:?}");
            assert_eq!(answer.statuses[1].limit_remaining, 9, "what the client is told, {keys:?}");
            assert_eq!(stage.left("day").await, 9, "{keys:?}");
        }
    }
}

/// Neither Redis takes as many counters in one script.
#[tokio::test]
async fn a_refusal_in_a_request_of_600_counters_charges_none_of_them() {
    let stage = Stage::set().await;
    let values: Vec<String> = (0..300).map(|nth| format!("value-{nth}")).collect();
    let of = |key: &'static str| values.iter().map(move |value| descriptor(&[(key, value)]));
    let all: Vec<_> = of("second").chain(of("day")).collect();
    let check =
        async |descriptors: Vec<_>| stage.tollgate.client().ask(request("api", descriptors)).await.expect("both");
    let left = |answer: RateLimitResponse| -> Vec<u32> {
        answer.statuses[300..600].iter().map(|status| status.limit_remaining).collect()
    };
    let refusing = |key: &'static str| [all.clone(), vec![descriptor(&[(key, "a")])]].concat();

    assert_eq!(left(check(all.clone()).await), [9; 300]);
    for key in ["no_second", "no_day"] {
        let refused = check(refusing(key)).await;
        assert_eq!(refused.overall_code(), Code::OverLimit, "{key}");
        eventually("what was charged is given back", || async {
            (left(check(refusing("no_second")).await) == [9; 300]).then_some(())
        })
        .await;
    }
    assert_eq!(left(check(all.clone()).await), [8; 300]);
}

#[tokio::test]
async fn quotas_deny_only_together_and_shadows_never() {
    let stage = Stage::set().await;
    let answer = stage.ask(&["no_quota_second", "quota_day"]).await;
    assert_eq!(answer.overall_code(), Code::Ok, "one quota is left");
    assert_eq!(stage.left("quota_day").await, 9, "the one that admits is charged");
    let answer = stage.ask(&["no_quota_second", "day"]).await;
    assert_eq!(answer.overall_code(), Code::OverLimit, "no quota is left");
    assert_eq!(stage.left("day").await, 10);
    let answer = stage.ask(&["shadow_second", "day"]).await;
    assert_eq!((answer.overall_code(), answer.statuses[1].limit_remaining), (Code::Ok, 9));
}

#[tokio::test]
async fn one_redis_that_is_dead_leaves_the_others_limits_alone() {
    let mut stage = Stage::set().await;
    stage.per_second.kill();
    stage.tollgate.redis_connections_are(crate::harness::REDIS_CONNECTIONS).await;
    let day = stage.ask(&["day"]).await;
    assert_eq!((day.overall_code(), day.statuses[0].limit_remaining), (Code::Ok, 9));
    // By the policy `local`: this replica counts for itself.
    assert_eq!(stage.ask(&["second"]).await.overall_code(), Code::Ok);
    stage.per_second.restart();
    stage.tollgate.redis_connections_are(2.0 * crate::harness::REDIS_CONNECTIONS).await;
    eventually("it counts again", || async {
        stage.ask(&["second"]).await;
        (counted(&stage.per_second) == BTreeSet::from(["second="])).then_some(())
    })
    .await;
}

#[tokio::test]
async fn request_that_only_one_redis_answers_is_charged_there_by_its_policy_alone() {
    let mut stage = Stage::set().await;
    stage.per_second.kill();
    stage.tollgate.redis_connections_are(crate::harness::REDIS_CONNECTIONS).await;
    let stage = &stage;
    let left =
        |left: u32| eventually("the refund", move || async move { (stage.left("day").await == left).then_some(()) });
    assert_eq!(stage.ask(&["day", "closed_second"]).await.overall_code(), Code::OverLimit, "it is closed");
    left(10).await;
    // By the policy `local` it passes, and the day's Redis is told of it once.
    assert_eq!(stage.ask(&["day", "second"]).await.overall_code(), Code::Ok);
    left(9).await;
    assert_eq!(stage.ask(&["day"]).await.statuses[0].limit_remaining, 8);
}

#[test]
fn the_second_redis_needs_an_address() {
    let output = run_to_end(&["serve"], &[("REDIS_URL", "redis:6379"), ("REDIS_PERSECOND", "true")]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && said.contains("REDIS_PERSECOND_URL"), "{said}");
}

#[tokio::test]
async fn caller_who_goes_away_between_two_redis_is_charged_by_neither() {
    let (main, per_second) = (RedisServer::start(), RedisServer::start());
    let split = Split { main: store(settings(&main)).await, per_second: store(settings(&per_second)).await };
    let deadline = Instant::now() + PATIENCE;
    let left = async || {
        let readings = split.apply(&[ask(10, Unit::Day, 0)], Gate::default(), deadline).await.expect("it answers");
        readings[0].remaining
    };
    let checks = |charge_denied, per_second| {
        let mut day = ask(10, Unit::Day, 1);
        day.cost.charge_denied = charge_denied;
        [day, ask(per_second, Unit::Second, 1)]
    };
    for charge_denied in [false, true] {
        per_second.freeze();
        let checks = checks(charge_denied, 10);
        let mut asking = Box::pin(split.apply(&checks, Gate::default(), deadline));
        let batches = split.per_second.stats().batches.get();
        let is_sent = || async { (split.per_second.stats().batches.get() > batches).then_some(()) };
        let sent = eventually("the day's limit is charged, and the second's asked", is_sent);
        tokio::select! {
            answer = &mut asking => panic!("answered: {answer:?}"),
            () = sent => drop(asking),
        }
        eventually("the refund", || async { (left().await == 10).then_some(()) }).await;
        per_second.thaw();
    }
    let denied = split.apply(&checks(true, 0), Gate::default(), deadline).await.expect("both answer");
    assert!(!denied[1].admitted);
    assert_eq!(left().await, 9, "what a denied request charges stays charged");
}

/// Two Redis, and asks of which the day's, in the first, admits, and the second's, in the other, denies.
struct Torn {
    main: RedisServer,
    per_second: RedisServer,
    split: Split,
}

const ALICE: [Entry<'static>; 1] = [Entry { key: "user", value: "alice" }];

fn ask(requests: u32, unit: Unit, hits: i64) -> CounterCheck<'static> {
    CounterCheck {
        key: Key { domain: "split", entries: &ALICE, shared: &[], limit_name: "", variable: 0 },
        rule: 0,
        limit: Limit::new(requests, unit.window(), Algorithm::SlidingWindow),
        cost: Cost { hits, charge_denied: false },
        role: Role::Enforced,
    }
}

impl Torn {
    /// The day's limit charges, and while the second's is not heard its Redis falls silent: so the refund has to wait.
    /// The caller is gone by then.
    async fn with_a_refund_under_way(deadline: Instant) -> Torn {
        let (main, per_second) = (RedisServer::start(), RedisServer::start());
        let split = Split { main: store(settings(&main)).await, per_second: store(settings(&per_second)).await };
        let torn = Torn { main, per_second, split };
        torn.per_second.freeze();
        let checks = [ask(10, Unit::Day, 1), ask(0, Unit::Second, 1)];
        let mut asking = Box::pin(torn.split.apply(&checks, Gate::default(), deadline));
        let mut until = async |what: &str, holds: &dyn Fn() -> bool| {
            let look = eventually(what, || async { holds().then_some(()) });
            tokio::select! {
                answer = &mut asking => panic!("answered before {what}: {answer:?}"),
                () = look => {}
            }
        };
        until("the day's limit is charged", &|| !torn.main.cli(&["KEYS", "*user=alice*"]).is_empty()).await;
        torn.main.freeze();
        torn.per_second.thaw();
        until("the refund is on its way", &|| torn.split.main.stats().refunds.get() == 1).await;
        drop(asking);
        torn
    }
}

#[tokio::test]
async fn a_refund_arrives_although_the_caller_has_gone() {
    let deadline = Instant::now() + 2 * PATIENCE;
    let torn = Torn::with_a_refund_under_way(deadline).await;
    torn.main.thaw();
    let look = [ask(10, Unit::Day, 0)];
    eventually("the refund", || async {
        let readings = torn.split.apply(&look, Gate::default(), deadline).await.expect("Redis answers");
        (readings[0].remaining == 10).then_some(())
    })
    .await;
    assert_eq!(torn.split.main.stats().refunds_failed.get(), 0);
}

#[tokio::test]
async fn a_refund_that_is_not_answered_in_time_is_counted() {
    let torn = Torn::with_a_refund_under_way(Instant::now() + Duration::from_secs(5)).await;
    eventually("the refund is given up", || async {
        (torn.split.main.stats().refunds_failed.get() == 1).then_some(())
    })
    .await;
}
