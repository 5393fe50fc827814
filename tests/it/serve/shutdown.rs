//! SIGTERM while peers hold on to what they have: the process is gone when it says so, whatever they do.

use std::time::Duration;

use tokio::{io::AsyncWriteExt, net::TcpStream, time::Instant};
use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use tonic_reflection::pb::v1::{ServerReflectionRequest, server_reflection_client::ServerReflectionClient};

use super::PER_USER;
use crate::harness::{App, Envoy, OnFailure, RawHttp2, RulesDir, Tollgate, channel, eventually};

/// The second that it may take longer, and a busy machine.
const LONGER: Duration = Duration::from_secs(4);

/// As the process says it.
fn is_complete(log: &str) -> Option<bool> {
    let lines = log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    lines.filter(|line| line["message"] == "stopped").find_map(|line| line["complete"].as_bool())
}

#[tokio::test]
async fn a_held_watch_and_a_reflection_stream_are_told_and_ended() {
    let rules = RulesDir::with("api.yaml", PER_USER);
    // Much longer than the test may take: nothing is left unfinished.
    let mut tollgate = Tollgate::start_with(rules.path(), &[("TOLLGATE_SHUTDOWN_TIMEOUT", "10m")]).await;
    let mut health = HealthClient::new(channel(tollgate.grpc));
    let mut watch = health.watch(HealthCheckRequest::default()).await.expect("it is served").into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    let open = tokio_stream::pending::<ServerReflectionRequest>();
    let mut reflection = ServerReflectionClient::new(channel(tollgate.grpc));
    let mut reflected = reflection.server_reflection_info(open).await.expect("it is served").into_inner();

    tollgate.process.signal("TERM");
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    assert_eq!(watch.message().await.expect_err("it is ended").code(), Code::Unavailable);
    // Or by the end of its requests.
    let end = reflected.message().await;
    assert!(matches!(&end, Ok(None)) || end.as_ref().is_err_and(|why| why.code() == Code::Unavailable), "{end:?}");
    assert_eq!(tollgate.process.end().await.code(), Some(0));
    assert_eq!(is_complete(&tollgate.process.log()), Some(true), "{}", tollgate.process.log());
}

#[tokio::test]
async fn a_stopped_envoy_half_a_post_and_a_call_without_a_body_do_not_keep_the_process() {
    let rules = RulesDir::with("api.yaml", PER_USER);
    // The bodies would be waited for much longer.
    let env = [("TOLLGATE_SHUTDOWN_TIMEOUT", "1s"), ("TOLLGATE_DRAIN_DELAY", "1s"), ("TOLLGATE_CLIENT_TIMEOUT", "10m")];
    let mut tollgate = Tollgate::start_with(rules.path(), &env).await;
    let app = App::start().await;
    let envoy = Envoy::start(app.address, &[tollgate.grpc], OnFailure::Deny).await;
    assert_eq!(envoy.get("alice", "/").await.status, 200);
    let mut raw = RawHttp2::connect(tollgate.grpc).await;
    raw.begin_calls(3, false).await;
    let mut post = TcpStream::connect(tollgate.http).await.expect("it listens");
    post.write_all(b"POST /json HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\n{").await.expect("it reads");
    let mut check = TcpStream::connect(tollgate.admin).await.expect("it listens");
    check.write_all(b"POST /-/reload HTTP/1.1\r\nhost: a\r\n").await.expect("it reads");
    eventually("all are there", || async { (tollgate.metric("tollgate_grpc_connections").await >= 2.0).then_some(()) })
        .await;

    envoy.freeze();
    let told = Instant::now();
    tollgate.process.signal("TERM");
    assert_eq!(tollgate.process.end().await.code(), Some(0));
    let took = told.elapsed();
    assert!(took >= Duration::from_secs(2), "what may still come is waited for: {took:?}");
    assert!(took < Duration::from_secs(3) + LONGER, "{took:?}");
    assert_eq!(is_complete(&tollgate.process.log()), Some(false), "{}", tollgate.process.log());
}

#[tokio::test]
async fn a_second_signal_ends_the_process_at_once() {
    let rules = RulesDir::with("api.yaml", PER_USER);
    for (delay, first, second) in [("10m", "TERM", "TERM"), ("0", "INT", "TERM")] {
        let env =
            [("TOLLGATE_SHUTDOWN_TIMEOUT", "10m"), ("TOLLGATE_DRAIN_DELAY", delay), ("TOLLGATE_CLIENT_TIMEOUT", "10m")];
        let mut tollgate = Tollgate::start_with(rules.path(), &env).await;
        let mut raw = RawHttp2::connect(tollgate.grpc).await;
        raw.begin_calls(1, false).await;
        eventually("it is there", || async {
            (tollgate.metric("tollgate_grpc_connections").await == 1.0).then_some(())
        })
        .await;
        tollgate.process.signal(first);
        tollgate.process.line("that it stops", |line| line.contains("stopping: received").then_some(())).await;
        tollgate.process.signal(second);
        assert_eq!(tollgate.process.end().await.code(), Some(1), "{}", tollgate.process.log());
    }
}
