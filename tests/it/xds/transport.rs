//! The way to the control plane: lost and found again, by TLS, and what is too large for it.

use std::path::Path;

use tempfile::TempDir;
use tonic::transport::{Certificate, Identity, ServerTlsConfig};

use super::{
    control_plane::{ControlPlane, domain},
    follow, follow_at,
};
use crate::{
    harness::{Tollgate, eventually},
    redis_server::{certificates, free_port},
};

/// The waits that the log tells of, in its order.
fn waits(tollgate: &Tollgate) -> Vec<String> {
    let log = tollgate.process.log();
    let wait = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).ok()?;
        line["wait"].as_str().map(str::to_owned)
    };
    log.lines().filter_map(wait).collect()
}

async fn waited(tollgate: &Tollgate, times: usize) -> Vec<String> {
    eventually("it has tried so often", || async { Some(waits(tollgate)).filter(|waits| waits.len() >= times) }).await
}

#[tokio::test]
async fn the_waits_grow_to_their_bound_and_begin_anew_after_a_set() {
    let address = format!("127.0.0.1:{}", free_port());
    let env = [("XDS_CLIENT_BACKOFF_MAX_INTERVAL", "70ms")];
    let tollgate = follow_at(&address, &env).await;
    assert_eq!(waited(&tollgate, 4).await[..4], ["20ms", "40ms", "70ms", "70ms"]);

    let mut plane = ControlPlane::start_at(address.parse().unwrap(), None).await;
    let mut stream = plane.stream().await;
    stream.request().await;
    stream.put("1", &[domain("one", 10)]).await;
    let before = waits(&tollgate).len();
    plane.stop();
    let waits = waited(&tollgate, before + 3).await;
    // The stream that ended, and then connections that can't be made.
    assert_eq!(waits[before..before + 3], ["30ms", "40ms", "70ms"]);
}

#[tokio::test]
async fn a_stream_that_stood_in_silence_begins_the_waits_anew() {
    let address = format!("127.0.0.1:{}", free_port());
    let tollgate = follow_at(&address, &[("XDS_CLIENT_BACKOFF_MAX_INTERVAL", "70ms")]).await;
    waited(&tollgate, 4).await;
    let mut plane = ControlPlane::start_at(address.parse().unwrap(), None).await;
    let stream = plane.stream().await;
    let before = waits(&tollgate).len();
    // Time itself is what is waited for: longer than the longest wait.
    tokio::time::sleep(std::time::Duration::from_millis(150)).await;
    plane.stop();
    drop(stream);
    assert_eq!(waited(&tollgate, before + 2).await[before..before + 2], ["30ms", "40ms"]);
}

#[tokio::test]
async fn rules_stay_while_the_control_plane_is_away_and_change_when_it_is_back() {
    let mut plane = ControlPlane::start().await;
    let tollgate = follow(&plane, &[]).await;
    let client = tollgate.client();
    let mut stream = plane.stream().await;
    stream.request().await;
    stream.put("seven", &[domain("one", 10)]).await;

    assert_eq!(tollgate.metric("tollgate_control_plane_connected").await, 1.0);
    let address = plane.stop();
    waited(&tollgate, 2).await;
    assert_eq!(tollgate.metric("tollgate_control_plane_connected").await, 0.0);
    assert_eq!(client.limit_of("one", &[("user", "alice")]).await, Some(10));

    let mut plane = ControlPlane::start_at(address, None).await;
    let mut stream = plane.stream().await;
    let asked = stream.request().await;
    assert_eq!((asked.version_info.as_str(), asked.response_nonce.as_str()), ("", ""), "it asks for everything");
    assert_eq!(client.limit_of("one", &[("user", "alice")]).await, Some(10));
    stream.put("eight", &[domain("one", 11)]).await;
    assert_eq!(client.limit_of("one", &[("user", "alice")]).await, Some(11));
}

#[tokio::test]
async fn a_response_that_is_too_large_changes_nothing_and_the_log_says_what_to_do() {
    let mut plane = ControlPlane::start().await;
    let tollgate = follow(&plane, &[("XDS_CLIENT_MAX_MSG_SIZE_IN_BYTES", "2000")]).await;
    let mut stream = plane.stream().await;
    stream.request().await;
    stream.put("1", &[domain("one", 10)]).await;
    let many: Vec<_> = (0..100).map(|number| domain(&format!("domain-{number}"), 10)).collect();
    stream.send("2", &many);
    tollgate
        .process
        .line("the variable", |line| line.contains("XDS_CLIENT_MAX_MSG_SIZE_IN_BYTES allows more").then_some(()))
        .await;
    assert_eq!(tollgate.client().limit_of("one", &[("user", "alice")]).await, Some(10));
    let mut stream = plane.stream().await;
    assert_eq!(stream.request().await.version_info, "");
    stream.put("3", &[domain("one", 11)]).await;
}

pub(crate) fn server_tls(dir: &Path) -> ServerTlsConfig {
    let read = |file: &str| std::fs::read(dir.join(file)).expect("it was made");
    ServerTlsConfig::new()
        .identity(Identity::from_pem(read("server.pem"), read("server.key")))
        .client_ca_root(Certificate::from_pem(read("ca.pem")))
}

/// Certificates, and a control plane that shows one and asks for one.
async fn guarded() -> (TempDir, ControlPlane) {
    let dir = tempfile::tempdir().unwrap();
    certificates(dir.path());
    let plane = ControlPlane::start_at("127.0.0.1:0".parse().unwrap(), Some(server_tls(dir.path()))).await;
    (dir, plane)
}

#[tokio::test]
async fn by_mutual_tls_both_sides_know_each_other() {
    let (dir, mut plane) = guarded().await;
    let path = |file: &str| dir.path().join(file).to_str().unwrap().to_owned();
    let (ca, certificate, key) = (path("ca.pem"), path("client.pem"), path("client.key"));
    let env = [
        ("CONFIG_GRPC_XDS_SERVER_USE_TLS", "true"),
        ("CONFIG_GRPC_XDS_SERVER_TLS_CACERT", &*ca),
        ("CONFIG_GRPC_XDS_SERVER_TLS_SAN", "localhost"),
        ("CONFIG_GRPC_XDS_CLIENT_TLS_CERT", &*certificate),
        ("CONFIG_GRPC_XDS_CLIENT_TLS_KEY", &*key),
    ];
    let tollgate = follow(&plane, &env).await;
    let mut stream = plane.stream().await;
    stream.request().await;
    stream.put("1", &[domain("one", 10)]).await;
    assert_eq!(tollgate.client().limit_of("one", &[("user", "alice")]).await, Some(10));
}

#[tokio::test]
async fn a_control_plane_by_another_name_or_authority_or_without_a_certificate_for_it_is_not_followed() {
    let (dir, plane) = guarded().await;
    let other = tempfile::tempdir().unwrap();
    certificates(other.path());
    let path = |dir: &TempDir, file: &str| dir.path().join(file).to_str().unwrap().to_owned();
    let (ca, certificate, key) = (path(&dir, "ca.pem"), path(&dir, "client.pem"), path(&dir, "client.key"));
    let (other_ca, absent) = (path(&other, "ca.pem"), path(&dir, "absent.pem"));
    let with = |ca: &str, san: &str, certificate: &str, key: &str| {
        [
            ("CONFIG_GRPC_XDS_SERVER_USE_TLS", "true".to_owned()),
            ("CONFIG_GRPC_XDS_SERVER_TLS_CACERT", ca.to_owned()),
            ("CONFIG_GRPC_XDS_SERVER_TLS_SAN", san.to_owned()),
            ("CONFIG_GRPC_XDS_CLIENT_TLS_CERT", certificate.to_owned()),
            ("CONFIG_GRPC_XDS_CLIENT_TLS_KEY", key.to_owned()),
        ]
    };
    let cases = [
        (with(&ca, "elsewhere", &certificate, &key), "not valid for name"),
        (with(&other_ca, "", &certificate, &key), "invalid peer certificate"),
        // Why depends on what comes first, the server's complaint or the end of the connection.
        (with(&ca, "", "", ""), "no control plane"),
        (with(&absent, "", &certificate, &key), "absent.pem: No such file"),
    ];
    for (env, why) in cases {
        let env: Vec<(&str, &str)> = env.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let tollgate = follow(&plane, &env).await;
        tollgate.process.line(why, |line| line.contains(why).then_some(())).await;
    }
    assert!(plane.was_left_alone(), "a stream began");
}

#[tokio::test]
async fn nobody_is_called_connected_whose_certificate_is_refused() {
    let (dir, plane) = guarded().await;
    let ca = dir.path().join("ca.pem").to_str().unwrap().to_owned();
    // TLS 1.3 has a client connected before the server misses its certificate.
    let env = [("CONFIG_GRPC_XDS_SERVER_USE_TLS", "true"), ("CONFIG_GRPC_XDS_SERVER_TLS_CACERT", &*ca)];
    let tollgate = follow(&plane, &env).await;
    let mut refusals = 0;
    let refused = |line: &str| {
        refusals += usize::from(line.contains("no control plane"));
        (refusals == 5).then_some(())
    };
    tollgate.process.line("five refusals", refused).await;
    let log = tollgate.process.log();
    assert!(!log.contains("connected to the control plane"), "{log}");
    assert_eq!(tollgate.metric("tollgate_control_plane_connected").await, 0.0);
}

#[tokio::test]
async fn a_control_plane_that_has_nothing_for_the_node_is_spoken_of() {
    let mut plane = ControlPlane::start().await;
    let tollgate = follow(&plane, &[("CONFIG_GRPC_XDS_NODE_ID", "limits-of-nobody")]).await;
    let mut stream = plane.stream().await;
    stream.request().await;
    let said =
        |line: &str| (line.contains("has sent nothing") && line.contains("limits-of-nobody")).then(|| line.to_owned());
    let line = tollgate.process.line("what the silence may mean", said).await;
    assert!(line.contains("CONFIG_GRPC_XDS_NODE_ID") && line.contains("\"WARN\""), "{line}");
    assert_eq!(tollgate.metric("tollgate_control_plane_connected").await, 1.0);
}
