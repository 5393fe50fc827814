//! Requests that no well-behaved client sends: each is refused with a reason, and the next one is answered.

use envoy_types::pb::envoy::service::ratelimit::v3::{
    RateLimitRequest, RateLimitResponse, rate_limit_response::Code as Verdict,
};
use tonic::{Code, Status};
use tonic_prost::ProstCodec;

use super::PER_USER;
use crate::harness::{Rls, RulesDir, Tollgate, channel, descriptor, request};

const KIB: usize = 1024;

/// Asks for something wrong; the service must say why, and be as well as before.
async fn refusal(client: &Rls, wrong: RateLimitRequest) -> Status {
    let status = client.ask(wrong).await.expect_err("a wrong request is refused");
    client.ask(request("api", vec![descriptor(&[("user", "next")])])).await.expect("the next request is answered");
    status
}

async fn check_invalid(wrong: RateLimitRequest, reason: &str) {
    let rules = RulesDir::with("api.yaml", PER_USER);
    let tollgate = Tollgate::start(rules.path()).await;
    let status = refusal(&tollgate.client(), wrong).await;
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    assert!(status.message().contains(reason), "{status:?} does not speak of {reason:?}");
}

#[tokio::test]
async fn an_empty_domain_is_an_invalid_argument() {
    check_invalid(request("", vec![descriptor(&[("user", "alice")])]), "domain must not be empty").await;
}

#[tokio::test]
async fn an_empty_descriptor_list_is_an_invalid_argument() {
    check_invalid(request("api", vec![]), "descriptor list must not be empty").await;
}

#[tokio::test]
async fn a_value_as_long_as_a_request_may_be_is_counted_like_a_short_one() {
    let rules = RulesDir::with("api.yaml", PER_USER);
    let tollgate = Tollgate::start(rules.path()).await;
    let longest = "x".repeat(4 * KIB * KIB - 64);
    for remaining in [2, 1, 0] {
        let answer = tollgate.client().ask(request("api", vec![descriptor(&[("user", &longest)])])).await.unwrap();
        assert_eq!((answer.overall_code(), answer.statuses[0].limit_remaining), (Verdict::Ok, remaining));
    }
    assert!(!tollgate.client().admits("api", &[("user", &longest)]).await);
}

#[tokio::test]
async fn malformed_protobuf_is_an_error_and_the_connection_goes_on() {
    let rules = RulesDir::with("api.yaml", PER_USER);
    let tollgate = Tollgate::start(rules.path()).await;
    let channel = channel(tollgate.grpc);
    // prost encodes a Vec<u8> as a message with bytes in field 1, which is the domain: a string, so must be UTF-8.
    let malformed: Vec<u8> = vec![0xff, 0xfe];
    let mut raw = tonic::client::Grpc::new(channel.clone());
    raw.ready().await.expect("Tollgate listens");
    let path = http::uri::PathAndQuery::from_static("/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit");
    let codec = ProstCodec::<Vec<u8>, RateLimitResponse>::default();
    let status = raw.unary(tonic::Request::new(malformed), path, codec).await.expect_err("it can't be decoded");
    assert!(matches!(status.code(), Code::Internal | Code::InvalidArgument), "{status:?}");

    let rls =
        envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_service_client::RateLimitServiceClient::new(channel);
    rls.clone()
        .should_rate_limit(request("api", vec![descriptor(&[("user", "a")])]))
        .await
        .expect("the next is answered");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_of_4_mib_are_refused_in_bounded_memory() {
    let rules = RulesDir::with("api.yaml", PER_USER);
    let tollgate = Tollgate::start(rules.path()).await;
    let client = tollgate.client();
    let too_large = request(&"d".repeat(4 * KIB * KIB), vec![descriptor(&[("user", "alice")])]);
    let status = refusal(&client, too_large.clone()).await;
    assert!(matches!(status.code(), Code::OutOfRange | Code::ResourceExhausted), "{status:?}");

    // 14 values of 128 KiB, each of them allowed, as is their sum.
    let value = "x".repeat(128 * KIB);
    let large = request("api", (0..14).map(|_| descriptor(&[("user", &value)])).collect());
    for round in 0..10 {
        let mut together = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let (client, large, too_large) = (client.clone(), large.clone(), too_large.clone());
            together.spawn(async move { (client.ask(large).await, client.ask(too_large).await) });
        }
        for (allowed, refused) in together.join_all().await {
            allowed.unwrap_or_else(|status| panic!("round {round}: {status:?}"));
            refused.expect_err("it is too large");
        }
    }
    // 8 at a time of up to 4 MiB, some copies of each, and what an allocator keeps; all 160 were 460 MiB together.
    let peak = tollgate.process.memory_kb("VmHWM") / 1024;
    assert!(peak < 250, "{peak} MiB at most were in use");
}

#[tokio::test]
async fn a_cluster_counts_for_the_binary_as_a_single_redis_does() {
    let cluster = crate::redis_server::RedisCluster::start();
    let nodes: Vec<String> = cluster.nodes.iter().map(|node| node.address()).collect();
    let rules = RulesDir::with("api.yaml", PER_USER);
    let nodes = nodes.join(",");
    // Until every node is found, everything is admitted: only the cluster says no.
    let env = [("REDIS_TYPE", "cluster"), ("REDIS_URL", nodes.as_str()), ("TOLLGATE_ON_STORE_FAILURE", "open")];
    let tollgate = Tollgate::start_with(rules.path(), &env).await;
    for user in ["alice", "bob", "carol", "dave"] {
        crate::harness::eventually("a refusal of the cluster", || async {
            let ask = request("api", vec![descriptor(&[("user", user)])]);
            let answer = tollgate.client().ask(ask).await.expect("an answer");
            (answer.overall_code() == Verdict::OverLimit).then_some(())
        })
        .await;
    }
    let keys: usize =
        cluster.nodes.iter().map(|node| node.cli(&["--raw", "keys", "tg1:*user=*"]).lines().count()).sum();
    assert_eq!(keys, 4, "each user has a counter in the cluster");
}
