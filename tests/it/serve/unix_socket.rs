//! gRPC on a Unix socket instead of a port.

use std::process::Command;

use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_service_client::RateLimitServiceClient;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::Endpoint;
use tower::service_fn;

use super::PER_USER;
use crate::harness::{Process, RulesDir, descriptor, request};

#[tokio::test]
async fn a_unix_socket_is_served_even_where_a_dead_process_left_one() {
    let rules = RulesDir::with("api.yaml", PER_USER);
    let place = tempfile::tempdir().expect("a temporary directory");
    let socket = place.path().join("grpc.sock");
    drop(std::os::unix::net::UnixListener::bind(&socket).expect("the name is free"));
    assert!(socket.exists(), "a listener that is gone leaves its socket");

    let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
    command.env_clear().env("GRPC_UDS", &socket).env("TOLLGATE_RULES", rules.path());
    command.envs([("HOST", "127.0.0.1"), ("PORT", "0"), ("DEBUG_PORT", "0"), ("USE_PROMETHEUS", "false")]);
    let process = Process::spawn("tollgate", &mut command);
    process.line("its HTTP listener", |line| line.contains("listener=\"http\"").then_some(())).await;

    let connector = service_fn(move |_| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    let channel =
        Endpoint::from_static("http://unix.test").connect_with_connector(connector).await.expect("it listens");
    let ask = request("api", vec![descriptor(&[("user", "alice")])]);
    let answer = RateLimitServiceClient::new(channel).should_rate_limit(ask).await.expect("a decision").into_inner();
    assert!(answer.statuses[0].current_limit.is_some(), "{answer:?}");
}
