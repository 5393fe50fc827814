//! TLS of the gRPC listener: who is let in, who isn't, and new certificates without a lost connection.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_service_client::RateLimitServiceClient;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use super::PER_USER;
use crate::harness::{Authority, Load, RulesDir, Tollgate, descriptor, eventually, place, request, run_to_end};

fn text(path: &Path) -> &str {
    path.to_str().expect("temporary paths are text")
}

fn identity([certificate, key]: &[PathBuf; 2]) -> Identity {
    Identity::from_pem(std::fs::read(certificate).expect("it was made"), std::fs::read(key).expect("it was made"))
}

/// A client that trusts `authority` and calls the server `server.test`.
fn channel(tollgate: &Tollgate, authority: &Authority, identity: Option<Identity>) -> Channel {
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authority.pem())).domain_name("server.test");
    let tls = identity.into_iter().fold(tls, ClientTlsConfig::identity);
    let endpoint = Endpoint::from_shared(format!("https://{}", tollgate.grpc)).expect("an address makes a URI");
    endpoint.tls_config(tls).expect("good certificates").connect_lazy()
}

async fn is_answered(channel: Channel) -> bool {
    let ask = request("api", vec![descriptor(&[("user", "alice")])]);
    RateLimitServiceClient::new(channel).should_rate_limit(ask).await.is_ok()
}

/// Lets in who has a certificate of this authority, given by one of two names; `names` says which of them.
async fn trusting(authority: &Authority, variable: &str, names: &[(&str, &str)]) -> (RulesDir, Tollgate) {
    let [certificate, key] = authority.sign("server");
    let rules = RulesDir::with("api.yaml", PER_USER);
    let ca = authority.file("ca.pem");
    let env = [
        ("GRPC_SERVER_USE_TLS", "true"),
        ("GRPC_SERVER_TLS_CERT", text(&certificate)),
        ("GRPC_SERVER_TLS_KEY", text(&key)),
        (variable, text(&ca)),
    ];
    let tollgate = Tollgate::start_with(rules.path(), &[&env, names].concat()).await;
    (rules, tollgate)
}

/// Lets in who has a certificate of this authority with Envoy's name.
async fn only_envoy(authority: &Authority) -> (RulesDir, Tollgate) {
    trusting(authority, "GRPC_CLIENT_TLS_CACERT", &[("GRPC_CLIENT_TLS_SAN", "envoy.test")]).await
}

#[tokio::test]
async fn only_clients_of_the_given_authority_and_name_are_let_in() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let (envoy, other) = (authority.sign("envoy"), authority.sign("other"));
    let foreign = stranger.sign("envoy");
    let (_rules, tollgate) = only_envoy(&authority).await;
    let asks = |identity: Option<Identity>| is_answered(channel(&tollgate, &authority, identity));
    assert!(asks(Some(identity(&envoy))).await, "the client that is meant");
    assert!(!asks(None).await, "a client without a certificate");
    assert!(!asks(Some(identity(&other))).await, "a client of another name");
    assert!(!asks(Some(identity(&foreign))).await, "a client of another authority");
    assert!(!is_answered(crate::harness::channel(tollgate.grpc)).await, "a client that talks in the clear");
}

#[tokio::test]
async fn envoy_gateways_name_for_the_authority_is_enforced() {
    let authority = Authority::new();
    let (_rules, tollgate) = trusting(&authority, "GRPC_SERVER_TLS_CA_CERT", &[]).await;
    assert!(!is_answered(channel(&tollgate, &authority, None)).await, "a client without a certificate");
    let envoy = identity(&authority.sign("envoy"));
    assert!(is_answered(channel(&tollgate, &authority, Some(envoy))).await);
}

#[tokio::test]
async fn new_certificates_are_taken_up_and_bad_ones_are_not_and_connections_stay() {
    let (old, new) = (Authority::new(), Authority::new());
    let mounted = tempfile::tempdir().expect("a temporary directory");
    let place = |name: &str, bytes: &[u8]| place(mounted.path(), name, bytes);
    let mount = |[certificate, key]: &[PathBuf; 2]| {
        place("tls.key", &std::fs::read(key).unwrap());
        place("tls.crt", &std::fs::read(certificate).unwrap());
    };
    mount(&old.sign("server"));
    let (certificate, key) = (mounted.path().join("tls.crt"), mounted.path().join("tls.key"));
    let env = [
        ("GRPC_SERVER_USE_TLS", "true"),
        ("GRPC_SERVER_TLS_CERT", text(&certificate)),
        ("GRPC_SERVER_TLS_KEY", text(&key)),
    ];
    let rules = RulesDir::with("api.yaml", PER_USER);
    let tollgate = Tollgate::start_with(rules.path(), &env).await;
    let kept = channel(&tollgate, &old, None);
    assert!(is_answered(kept.clone()).await);

    place("tls.crt", b"no certificate");
    tollgate
        .process
        .line("that it can't be used", |line| line.contains("can't use the new certificates").then_some(()))
        .await;
    assert!(is_answered(channel(&tollgate, &old, None)).await, "the last good ones stay");

    mount(&new.sign("server"));
    eventually("the new certificate is shown", || async {
        is_answered(channel(&tollgate, &new, None)).await.then_some(())
    })
    .await;
    assert!(!is_answered(channel(&tollgate, &old, None)).await, "the old certificate is gone");
    assert!(is_answered(kept).await, "a connection was lost");
}

/// As a certificate manager does it, twice, while clients come and go and one connection stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_are_rotated_under_load_without_a_failed_request() {
    let authority = Arc::new(Authority::new());
    let mounted = RulesDir::with("api.yaml", PER_USER);
    let mount = |version| authority.mount_server(&mounted, version);
    mount("first");
    let file = |name: &str| text(&mounted.path().join(name)).to_owned();
    let (certificate, key, ca) = (file("tls.crt"), file("tls.key"), file("ca.crt"));
    let env = [
        ("GRPC_SERVER_USE_TLS", "true"),
        ("GRPC_SERVER_TLS_CERT", &certificate),
        ("GRPC_SERVER_TLS_KEY", &key),
        ("GRPC_CLIENT_TLS_CACERT", &ca),
    ];
    let rules = RulesDir::with("api.yaml", PER_USER);
    let tollgate = Arc::new(Tollgate::start_with(rules.path(), &env).await);
    let envoy = identity(&authority.sign("envoy"));
    let kept = channel(&tollgate, &authority, Some(envoy.clone()));
    let load = Load::start(2, {
        let (tollgate, authority) = (Arc::clone(&tollgate), Arc::clone(&authority));
        move || {
            let fresh = channel(&tollgate, &authority, Some(envoy.clone()));
            let kept = kept.clone();
            async move { [is_answered(fresh).await, is_answered(kept).await] }
        }
    });
    load.bears_new_certificates(&tollgate, mount).await;
}

#[tokio::test]
async fn a_refused_certificate_is_logged_with_what_is_wrong_and_counted() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let (_rules, tollgate) = only_envoy(&authority).await;
    let of = |files: &[PathBuf; 2]| channel(&tollgate, &authority, Some(identity(files)));
    let refused = [
        ("unknown_authority", "of another authority", of(&stranger.sign("envoy"))),
        ("expired", "has expired", of(&authority.expired("old", "DNS:envoy.test"))),
        ("wrong_name", "has another name", of(&authority.sign("other"))),
        ("no_certificate", "shows no certificate", channel(&tollgate, &authority, None)),
        ("refused_by_client", "refuses this server's certificate", channel(&tollgate, &stranger, None)),
        ("not_tls", "speaks no TLS", crate::harness::channel(tollgate.grpc)),
    ];
    for (reason, words, client) in refused {
        // Twice, and said once.
        assert!(!is_answered(client.clone()).await && !is_answered(client).await, "{reason}");
        let line = tollgate.process.line(words, |line| line.contains(words).then(|| line.to_owned())).await;
        assert!(line.contains(r#""listener":"gRPC""#) && line.contains(r#""peer":"127.0.0.1:"#), "{line}");
        eventually("both are counted", || async {
            let series = format!("tollgate_tls_handshake_failures_total{{reason=\"{reason}\"}}");
            (tollgate.metric(&series).await >= 2.0).then_some(())
        })
        .await;
        assert_eq!(tollgate.process.log().matches(words).count(), 1, "{reason}");
    }
    assert!(is_answered(of(&authority.sign("envoy"))).await);
}

#[test]
fn certificates_that_cannot_be_read_stop_a_start() {
    let env = [("GRPC_SERVER_USE_TLS", "t"), ("GRPC_CLIENT_TLS_SAN", "envoy")];
    let output = run_to_end(&["serve"], &env);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for named in ["GRPC_SERVER_TLS_CERT", "GRPC_SERVER_TLS_KEY", "GRPC_CLIENT_TLS_SAN"] {
        assert!(said.contains(named), "no {named} in:\n{said}");
    }
    let rules = RulesDir::with("api.yaml", PER_USER);
    let env = [env[0], ("GRPC_SERVER_TLS_CERT", "/nowhere/tls.crt"), ("GRPC_SERVER_TLS_KEY", "/nowhere/tls.key")];
    let output = run_to_end(&["serve", "--rules", text(rules.path())], &env);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && said.contains("/nowhere/tls.crt"), "{said}");
}

#[tokio::test]
async fn a_connection_ends_when_it_is_old_and_comes_again() {
    let rules = RulesDir::with("api.yaml", PER_USER);
    let tollgate = Tollgate::start_with(rules.path(), &[("GRPC_MAX_CONNECTION_AGE", "50ms")]).await;
    let stream = tokio::net::TcpStream::connect(tollgate.grpc).await.expect("it listens");
    let builder = hyper::client::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new());
    let (_sender, connection) = builder
        .handshake::<_, http_body_util::Empty<bytes::Bytes>>(hyper_util::rt::TokioIo::new(stream))
        .await
        .unwrap();
    // The sender is still there: only the server can end it.
    let ended = tokio::time::timeout(crate::harness::PATIENCE, connection).await;
    assert!(ended.is_ok(), "the connection has no end");
    assert!(is_answered(crate::harness::channel(tollgate.grpc)).await);
}
