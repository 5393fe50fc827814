//! Requests that come compressed: gzip is taken by every service, whatever else is named as unknown.

use envoy_types::pb::envoy::service::ratelimit::v3::{
    RateLimitRequest, rate_limit_response::Code as Verdict, rate_limit_service_client::RateLimitServiceClient,
};
use http_body_util::Full;
use tollgate::front::api::{CheckRequest, tollgate_client::TollgateClient};
use tonic::{Code, Request, codec::CompressionEncoding::Gzip};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tower::{Service, ServiceExt};

use super::PER_USER;
use crate::harness::{RulesDir, Tollgate, channel, descriptor, request};

const MIB: usize = 1 << 20;

fn of_user(user: &str) -> RateLimitRequest {
    request("api", vec![descriptor(&[("user", user)])])
}

#[tokio::test]
async fn a_gzip_request_is_decided_as_the_same_request_is_without() {
    let rules = RulesDir::with("api.yaml", PER_USER);
    let tollgate = Tollgate::start(rules.path()).await;
    let mut client = RateLimitServiceClient::new(channel(tollgate.grpc)).send_compressed(Gzip);
    for remaining in [2, 1] {
        let answer = client.should_rate_limit(of_user("alice")).await.expect("a decision");
        let accepted = answer.metadata().get("grpc-accept-encoding").expect("it says what it takes");
        assert_eq!(accepted, "identity,gzip");
        assert_eq!(answer.get_ref().statuses[0].limit_remaining, remaining);
    }
    assert!(tollgate.client().admits("api", &[("user", "alice")]).await);
    assert!(!tollgate.client().admits("api", &[("user", "alice")]).await);
    let long = client.should_rate_limit(of_user(&"x".repeat(3 * MIB))).await.expect("as long as may be");
    assert_eq!(long.get_ref().overall_code(), Verdict::Ok);
}

#[tokio::test]
async fn a_gzip_request_is_bounded_by_what_it_unfolds_to() {
    let rules = RulesDir::with("api.yaml", PER_USER);
    let tollgate = Tollgate::start(rules.path()).await;
    let channel = channel(tollgate.grpc);
    let mut client = RateLimitServiceClient::new(channel.clone()).send_compressed(Gzip);
    let bomb = "x".repeat(64 * MIB);
    let before = tollgate.process.memory_kb("VmHWM");
    let status = client.should_rate_limit(of_user(&bomb)).await.expect_err("64 MiB, in 64 KiB");
    assert_eq!(status.code(), Code::OutOfRange, "{status:?}");
    assert_eq!(tollgate.metric(r#"tollgate_requests_total{code="invalid"}"#).await, 1.0);
    let check = CheckRequest { user: Some(bomb), ..CheckRequest::default() };
    let status = TollgateClient::new(channel).send_compressed(Gzip).check(check).await.expect_err("the same");
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    let grown = (tollgate.process.memory_kb("VmHWM") - before) / 1024;
    assert!(grown < 40, "{grown} MiB more were in use");
}

#[tokio::test]
async fn the_other_services_take_gzip_too() {
    let rules = RulesDir::with("api.yaml", PER_USER);
    let tollgate = Tollgate::start(rules.path()).await;
    let channel = channel(tollgate.grpc);
    let mut checks = TollgateClient::new(channel.clone()).send_compressed(Gzip);
    let asked = CheckRequest { user: Some("alice".to_owned()), ..CheckRequest::default() };
    assert!(checks.check(asked).await.expect("an answer").get_ref().allowed);
    let mut health = HealthClient::new(channel).send_compressed(Gzip);
    health.check(HealthCheckRequest::default()).await.expect("an answer");
}

/// What the service says to bytes that are flagged as compressed: its status and what encodings it takes.
async fn said(tollgate: &Tollgate, encoding: &str, flagged: &[u8]) -> (String, Option<String>) {
    let length = u32::try_from(flagged.len()).unwrap().to_be_bytes();
    let body = [&[1], &length[..], flagged].concat();
    let path = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";
    let request = http::Request::post(format!("http://{}{path}", tollgate.grpc))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("grpc-encoding", encoding)
        .body(tonic::body::Body::new(Full::from(body)))
        .unwrap();
    let mut channel = channel(tollgate.grpc);
    let response = channel.ready().await.expect("Tollgate listens").call(request).await.expect("an answer");
    let header = |name: &str| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
    (header("grpc-status").expect("a status without a message"), header("grpc-accept-encoding"))
}

#[tokio::test]
async fn another_encoding_is_unimplemented_and_a_broken_gzip_an_error() {
    let rules = RulesDir::with("api.yaml", PER_USER);
    let tollgate = Tollgate::start(rules.path()).await;
    let known = Some("identity,gzip".to_owned());
    let (unimplemented, internal) = ((Code::Unimplemented as i32).to_string(), (Code::Internal as i32).to_string());
    assert_eq!(
        said(&tollgate, "deflate", &[0x78, 0x9c, 3, 0, 0, 0, 0, 1]).await,
        (unimplemented.clone(), known.clone())
    );
    assert_eq!(said(&tollgate, "snappy", b"\xff\x06\0\0sNaPpY").await, (unimplemented, known));
    assert_eq!(said(&tollgate, "gzip", &[0x1f, 0x8b, 8, 0, 1, 2, 3]).await.0, internal);
    // The rest of the connection is as well as before.
    RateLimitServiceClient::new(channel(tollgate.grpc)).should_rate_limit(Request::new(of_user("bob"))).await.unwrap();
}
