//! Values that clients choose, and that must never make a whole request undecidable.

mod raw;

use envoy_types::pb::envoy::{
    extensions::common::ratelimit::v3::{RateLimitDescriptor, rate_limit_descriptor::RateLimitOverride},
    service::ratelimit::v3::rate_limit_response::Code,
};
use serde_json::json;
use tonic::metadata::MetadataValue;

use self::raw::Raw;
use crate::{
    api::with_tokens,
    harness::{
        App, Envoy, REDIS_CONNECTIONS, RulesDir, Tollgate, descriptor, eventually, get, post, request, run_to_end,
        send_bytes,
    },
    redis_server::{RedisCluster, RedisServer},
};

const RULES: &str = "domain: api\n\
    descriptors:\n\
    - {key: agent, rate_limit: {requests_per_unit: 2, unit: hour}}\n\
    - {key: query, rate_limit: {requests_per_unit: 2, unit: hour}}\n\
    - {key: user, rate_limit: {requests_per_unit: 3, unit: hour}}\n";

const KIB: usize = 1024;

/// An Envoy that sends one header of a request, its query's `q` and its user, each in a descriptor of its own.
async fn envoy(app: &App, tollgate: &Tollgate) -> Envoy {
    let rate_limits = "\
        - actions: [{request_headers: {header_name: user-agent, descriptor_key: agent}}]\n\
        - actions: [{query_parameters: {query_parameter_name: q, descriptor_key: query}}]\n\
        - actions: [{request_headers: {header_name: x-user-id, descriptor_key: user}}]\n";
    Envoy::start_limiting(app.address, &[tollgate.grpc], rate_limits).await
}

impl Envoy {
    async fn status(&self, path: &str, user: &str, agent: &[u8]) -> u16 {
        let headers = [("x-user-id", user.as_bytes()), ("user-agent", agent)];
        send_bytes(self.ingress, "GET", path, &headers, bytes::Bytes::new()).await.expect("Envoy answers").status
    }
}

#[tokio::test]
async fn a_user_agent_that_is_no_utf8_is_limited_and_so_is_the_rest_of_its_request() {
    let (rules, app) = (RulesDir::with("api.yaml", RULES), App::start().await);
    let tollgate = Tollgate::start(rules.path()).await;
    let envoy = envoy(&app, &tollgate).await;

    let mut said = Vec::new();
    for _ in 0..3 {
        said.push(envoy.status("/", "alice", b"caf\xe9").await);
    }
    assert_eq!(said, [200, 200, 429]);
    assert_eq!(envoy.status("/", "alice", b"caf\xe8").await, 200, "other bytes have a counter of their own");
    assert_eq!(envoy.status("/", "alice", b"caf\xea").await, 429, "her own limit is charged besides");
    assert_eq!(envoy.status("/", "bob", b"caf\\xe9").await, 200, "so has a text that looks like the escape");
}

#[tokio::test]
async fn a_query_that_is_no_utf8_is_limited_and_so_is_the_rest_of_its_request() {
    let (rules, app) = (RulesDir::with("api.yaml", RULES), App::start().await);
    let tollgate = Tollgate::start(rules.path()).await;
    let envoy = envoy(&app, &tollgate).await;

    let mut said = Vec::new();
    for _ in 0..3 {
        said.push(envoy.status("/?q=%ff", "alice", b"curl").await);
    }
    assert_eq!(said, [200, 200, 429]);
    assert_eq!(envoy.status("/?q=%fe", "alice", b"wget").await, 200, "other bytes have a counter of their own");
    assert_eq!(envoy.status("/", "alice", b"lynx").await, 429, "her own limit was charged besides");
    assert_eq!(tollgate.metric(r#"tollgate_requests_total{code="invalid"}"#).await, 0.0);
}

/// What its client can't choose: Envoy sends an empty value where a header is there and empty.
#[tokio::test]
async fn a_header_that_is_empty_is_limited_and_so_is_the_rest_of_its_request() {
    let (rules, app) = (RulesDir::with("api.yaml", RULES), App::start().await);
    let tollgate = Tollgate::start(rules.path()).await;
    let envoy = envoy(&app, &tollgate).await;
    let mut said = Vec::new();
    for _ in 0..3 {
        said.push(envoy.status("/?q=", "alice", b"").await);
    }
    assert_eq!(said, [200, 200, 429]);
}

#[tokio::test]
async fn bytes_that_are_no_utf8_are_shown_escaped_and_meant_by_their_escape() {
    let rules = RulesDir::with("api.yaml", &format!("{RULES}- {{key: agent, value: 'caf\\xe8', unlimited: true}}\n"));
    let tollgate = with_tokens(&rules, &[]).await;
    let raw = Raw::at(tollgate.grpc);
    assert_eq!(raw.ask(b"api", &[&[(b"agent", b"caf\xe9")]]).await.expect("it is decided").0, Code::Ok);
    assert_eq!(raw.ask(b"api", &[&[(b"a\xffgent", b"x")]]).await.expect("it is decided").0, Code::Ok);
    assert_eq!(raw.ask(b"\xffapi", &[&[(b"agent", b"x")]]).await.expect("it is decided").0, Code::Ok);

    let explain = "/explain?domain=api&entry=agent=caf%5Cxe9";
    let explained = get(tollgate.admin, explain, &[]).await.expect("it is explained").json();
    let counter = &explained["descriptors"][0]["counters"][0];
    assert_eq!(counter["remaining"], 1, "{explained}");
    assert!(counter["key"].as_str().is_some_and(|key| key.ends_with(r":agent=caf\xe9")), "{explained}");
    let metrics = tollgate.metrics().await;
    assert!(metrics.contains(r#"keys="a\\xffgent"} 1"#), "{metrics}");
    assert!(metrics.contains("tollgate_unknown_domain_requests_total 1"), "{metrics}");

    for _ in 0..3 {
        let answer = raw.ask(b"api", &[&[(b"agent", b"caf\xe8")]]).await.expect("it is decided");
        assert_eq!(answer.0, Code::Ok, "a rule means it by its escape");
    }
    let address = tollgate.grpc.to_string();
    let service = ["--domain", "api", "--addr", &address];
    let set = ["overrides", "set", "--match", r"agent=caf\xe9", "--limit", "5/h"];
    let ran = run_to_end(&[&set[..], &service].concat(), &[("TOLLGATE_TOKEN", "secret")]);
    assert!(ran.status.success(), "{ran:?}");
    let (code, statuses) = raw.ask(b"api", &[&[(b"agent", b"caf\xe9")]]).await.expect("it is decided");
    let limit = statuses[0].current_limit.as_ref().expect("the override's");
    assert_eq!((code, limit.requests_per_unit), (Code::Ok, 5));
}

#[tokio::test]
async fn a_body_of_json_that_is_no_utf8_counts_as_the_same_bytes_over_grpc() {
    let rules = RulesDir::with("api.yaml", RULES);
    let tollgate = Tollgate::start(rules.path()).await;
    let json = async |value: &[u8]| {
        let body = [br#"{"domain":"api","descriptors":[{"entries":[{"key":"agent","value":""#, value, br#""}]}]}"#];
        post(tollgate.http, "/json", body.concat()).await.expect("an answer").status
    };
    assert_eq!(json(b"caf\xe9").await, 200);
    let raw = Raw::at(tollgate.grpc);
    assert_eq!(raw.ask(b"api", &[&[(b"agent", b"caf\xe9")]]).await.expect("it is decided").0, Code::Ok);
    assert_eq!(json(b"caf\xe9").await, 429);
    assert_eq!(json(br"caf\\xe9").await, 200, "a text that looks like the escape has a counter of its own");
    assert_eq!(json(br"caf\u005c\u0078e9").await, 200, "however it is written");
    assert_eq!(json(br"caf\\xe9").await, 429);
    // Half of a surrogate pair, as JavaScript writes a string that it has cut in two.
    assert_eq!([json(br"\ud83d").await, json(br"\ud83d").await, json(br"\uD83D").await], [200, 200, 429]);
    assert_eq!(json(br"\ud83d\ude00").await, 200, "a whole pair is a character");
    assert_eq!(raw.ask(b"api", &[&[(b"agent", "😀".as_bytes())]]).await.expect("it is decided").0, Code::Ok);
    assert_eq!(json("😀".as_bytes()).await, 429);
    assert_eq!(json(b"\"").await, 400);
    assert_eq!(tollgate.metric(r#"tollgate_requests_total{code="invalid"}"#).await, 1.0);
}

#[tokio::test]
async fn a_check_of_our_own_never_means_bytes_that_came_from_envoy() {
    let rules = RulesDir::with("api.yaml", RULES);
    let tollgate = Tollgate::start(rules.path()).await;
    let raw = Raw::at(tollgate.grpc);
    for _ in 0..3 {
        raw.ask(b"api", &[&[(b"user", b"caf\xe9")]]).await.expect("it is decided");
    }
    let check = async |user: &str| {
        let body = json!({"domain": "api", "user": user}).to_string();
        post(tollgate.http, "/v1/check", body).await.expect("an answer").status
    };
    assert_eq!(check(r"caf\xe9").await, 200);
    assert_eq!(check(r"caf\x5cxe9").await, 200);
}

#[tokio::test]
async fn a_value_of_200_kib_is_counted_by_all_of_it_and_the_same_by_every_replica() {
    let rules = RulesDir::with("api.yaml", RULES);
    let redis = RedisServer::start();
    let url = redis.address();
    let env = [("REDIS_URL", url.as_str())];
    let memory = Tollgate::start(rules.path()).await;
    let replicas = [Tollgate::start_with(rules.path(), &env).await, Tollgate::start_with(rules.path(), &env).await];
    for replica in &replicas {
        replica.redis_connections_are(REDIS_CONNECTIONS).await;
    }
    let [long, other] = ["y", "z"].map(|end| "x".repeat(200 * KIB) + end);
    for replicas in [[&memory, &memory], [&replicas[0], &replicas[1]]] {
        let mut said = Vec::new();
        for nth in [0, 1, 0, 1] {
            said.push(replicas[nth].client().admits("api", &[("user", &long)]).await);
        }
        assert_eq!(said, [true, true, true, false]);
        assert!(replicas[0].client().admits("api", &[("user", &other)]).await, "another has its own count");
    }
}

/// Envoy takes 60 KiB of headers by default, and may send one of them in each of its descriptors.
#[tokio::test]
async fn a_header_as_long_as_envoy_takes_it_is_decided_in_sixty_descriptors() {
    let rules = RulesDir::with("api.yaml", RULES);
    let tollgate = Tollgate::start(rules.path()).await;
    let path = "x".repeat(60 * KIB);
    let mut descriptors = vec![descriptor(&[("path", &path)]); 60];
    descriptors.push(descriptor(&[("user", "alice")]));
    for expected in [Code::Ok, Code::Ok, Code::Ok, Code::OverLimit] {
        let answer = tollgate.client().ask(request("api", descriptors.clone())).await.expect("it is decided");
        assert_eq!(answer.overall_code(), expected);
    }
}

/// Envoy's tracers pass `tracestate` on to the rate limit service, as long as its client made it.
#[tokio::test]
async fn a_tracestate_as_long_as_envoy_takes_it_is_decided() {
    let rules = RulesDir::with("api.yaml", RULES);
    let tollgate = Tollgate::start(rules.path()).await;
    let mut asked = tonic::Request::new(request("api", vec![descriptor(&[("user", "alice")])]));
    let state = MetadataValue::try_from("x".repeat(60 * KIB)).expect("ASCII");
    asked.metadata_mut().insert("tracestate", state);
    let answer = tollgate.client().ask(asked).await.expect("it is decided");
    assert_eq!((answer.overall_code(), answer.statuses[0].limit_remaining), (Code::Ok, 2));
}

/// Envoy takes the unit from dynamic metadata, which may be of a client's making, and sends `UNKNOWN` as it stands there.
#[tokio::test]
async fn a_limit_of_the_request_without_a_unit_leaves_the_decision_to_the_rule() {
    let rules = RulesDir::with("api.yaml", RULES);
    let tollgate = Tollgate::start(rules.path()).await;
    for (unit, expected) in [(0, Code::Ok), (99, Code::Ok), (-1, Code::Ok), (0, Code::OverLimit)] {
        let limit = Some(RateLimitOverride { requests_per_unit: 1_000_000, unit });
        let asked = RateLimitDescriptor { limit, ..descriptor(&[("user", "alice")]) };
        let answer = tollgate.client().ask(request("api", vec![asked])).await.expect("it is decided");
        let limit = answer.statuses[0].current_limit.as_ref().map(|limit| limit.requests_per_unit);
        assert_eq!((answer.overall_code(), limit), (expected, Some(3)));
    }
    assert_eq!(tollgate.metric("tollgate_limits_without_unit_total").await, 4.0);
}

/// Three requests of 300 users are admitted, a fourth is not; and one that is not charges none of its 299 others.
async fn three_hundred_counters(tollgate: &Tollgate) {
    let users: Vec<String> = (0..300).map(|user| format!("user-{user}")).collect();
    let all: Vec<_> = users.iter().map(|user| descriptor(&[("user", user)])).collect();
    let ask = async |descriptors: &[RateLimitDescriptor]| {
        tollgate.client().ask(request("api", descriptors.to_vec())).await.expect("it is decided")
    };
    for remaining in [2, 1] {
        let answer = ask(&all).await;
        assert_eq!(answer.overall_code(), Code::Ok);
        let left: Vec<u32> = answer.statuses.iter().map(|status| status.limit_remaining).collect();
        assert_eq!(left, [remaining; 300]);
    }
    // One in the last part is used up: the parts before are charged, and then given back.
    assert_eq!(ask(&all[299..]).await.overall_code(), Code::Ok);
    let refused = ask(&all).await;
    let over = |code: Code| refused.statuses.iter().filter(|status| status.code() == code).count();
    assert_eq!((refused.overall_code(), over(Code::OverLimit), over(Code::Ok)), (Code::OverLimit, 1, 299));
    eventually("what was charged is given back", || async {
        let looked: Vec<_> = all[..299]
            .iter()
            .map(|one| RateLimitDescriptor {
                hits_addend: Some(envoy_types::pb::google::protobuf::UInt64Value { value: 0 }),
                ..one.clone()
            })
            .collect();
        ask(&looked).await.statuses.iter().all(|status| status.limit_remaining == 1).then_some(())
    })
    .await;
    assert_eq!(ask(&all[..299]).await.overall_code(), Code::Ok);
    assert_eq!(ask(&all[..299]).await.overall_code(), Code::OverLimit);
    assert_eq!(tollgate.metric(r#"tollgate_requests_total{code="invalid"}"#).await, 0.0);
}

#[tokio::test]
async fn a_request_of_300_counters_is_decided_whole_in_memory() {
    let rules = RulesDir::with("api.yaml", RULES);
    three_hundred_counters(&Tollgate::start(rules.path()).await).await;
}

#[tokio::test]
async fn a_request_of_300_counters_is_decided_whole_by_redis() {
    let (rules, redis) = (RulesDir::with("api.yaml", RULES), RedisServer::start());
    let url = redis.address();
    let tollgate = Tollgate::start_with(rules.path(), &[("REDIS_URL", &url)]).await;
    tollgate.redis_connections_are(REDIS_CONNECTIONS).await;
    three_hundred_counters(&tollgate).await;
}

#[tokio::test]
async fn a_request_of_300_counters_is_decided_whole_by_a_cluster() {
    let (rules, cluster) = (RulesDir::with("api.yaml", RULES), RedisCluster::start());
    let urls = cluster.nodes.iter().map(RedisServer::address).collect::<Vec<_>>().join(",");
    let env = [("REDIS_TYPE", "cluster"), ("REDIS_URL", &*urls), ("TOLLGATE_ON_STORE_FAILURE", "error")];
    let tollgate = Tollgate::start_with(rules.path(), &env).await;
    // Each core finds every node by itself.
    for core in 0..20 {
        let name = format!("first-{core}");
        eventually("the cluster answers", || async {
            tollgate.client().ask(request("api", vec![descriptor(&[("user", &name)])])).await.ok()
        })
        .await;
    }
    three_hundred_counters(&tollgate).await;
}

#[tokio::test]
async fn what_can_not_be_decided_is_counted_as_invalid() {
    let rules = RulesDir::with("api.yaml", RULES);
    let tollgate = Tollgate::start(rules.path()).await;
    let raw = Raw::at(tollgate.grpc);
    let not_decided = [vec![0xff, 0xfe], vec![0x0a, 0x05, b'a'], vec![b'x'; 5 << 20]];
    for (nth, message) in not_decided.into_iter().enumerate() {
        raw.send(message).await.expect_err("it can't be decided");
        assert_eq!(tollgate.metric(r#"tollgate_requests_total{code="invalid"}"#).await, nth as f64 + 1.0);
    }
}
