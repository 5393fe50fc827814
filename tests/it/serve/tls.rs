//! TLS of the gRPC listener: who is let in, who isn't, and new certificates without a lost connection.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_service_client::RateLimitServiceClient;
use tempfile::TempDir;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use super::PER_USER;
use crate::harness::{RulesDir, Tollgate, descriptor, eventually, request, run_to_end};

/// An authority, and what it has signed.
struct Authority {
    dir: TempDir,
}

impl Authority {
    fn new() -> Authority {
        let authority = Authority { dir: tempfile::tempdir().expect("a temporary directory") };
        authority.openssl(&["req", "-x509", "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=ca"]);
        authority
    }

    /// Signs a certificate for `name`, with the DNS name `name.test`, and returns where it and its key are.
    fn sign(&self, name: &str) -> [PathBuf; 2] {
        let extensions = self.file(&format!("{name}.ext"));
        std::fs::write(&extensions, format!("subjectAltName=DNS:{name}.test\n")).expect("the directory is ours");
        let file = |extension: &str| format!("{name}.{extension}");
        let subject = format!("/CN={name}");
        self.openssl(&["req", "-keyout", &file("key"), "-out", &file("csr"), "-subj", &subject]);
        let signing = ["x509", "-req", "-in", &file("csr"), "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"];
        let result = ["-days", "2", "-extfile", &file("ext"), "-out", &file("pem")];
        self.openssl(&[&signing[..], &result[..]].concat());
        [self.file(&file("pem")), self.file(&file("key"))]
    }

    fn openssl(&self, args: &[&str]) {
        let mut command = Command::new("openssl");
        command.args(args).current_dir(self.dir.path()).stderr(Stdio::null()).stdout(Stdio::null());
        if args[0] == "req" {
            command.args(["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]);
        }
        assert!(command.status().expect("openssl is installed").success(), "openssl {args:?}");
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn pem(&self) -> Certificate {
        Certificate::from_pem(std::fs::read(self.file("ca.pem")).expect("it was made"))
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("temporary paths are text")
}

fn identity([certificate, key]: &[PathBuf; 2]) -> Identity {
    Identity::from_pem(std::fs::read(certificate).expect("it was made"), std::fs::read(key).expect("it was made"))
}

/// A client that trusts `authority` and calls the server `server.test`.
fn channel(tollgate: &Tollgate, authority: &Authority, identity: Option<Identity>) -> Channel {
    let tls = ClientTlsConfig::new().ca_certificate(authority.pem()).domain_name("server.test");
    let tls = identity.into_iter().fold(tls, ClientTlsConfig::identity);
    let endpoint = Endpoint::from_shared(format!("https://{}", tollgate.grpc)).expect("an address makes a URI");
    endpoint.tls_config(tls).expect("good certificates").connect_lazy()
}

async fn is_answered(channel: Channel) -> bool {
    let ask = request("api", vec![descriptor(&[("user", "alice")])]);
    RateLimitServiceClient::new(channel).should_rate_limit(ask).await.is_ok()
}

#[tokio::test]
async fn only_clients_of_the_given_authority_and_name_are_let_in() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let [certificate, key] = authority.sign("server");
    let (envoy, other) = (authority.sign("envoy"), authority.sign("other"));
    let foreign = stranger.sign("envoy");
    let rules = RulesDir::with("api.yaml", PER_USER);
    let ca = authority.file("ca.pem");
    let env = [
        ("GRPC_SERVER_USE_TLS", "true"),
        ("GRPC_SERVER_TLS_CERT", text(&certificate)),
        ("GRPC_SERVER_TLS_KEY", text(&key)),
        ("GRPC_CLIENT_TLS_CACERT", text(&ca)),
        ("GRPC_CLIENT_TLS_SAN", "envoy.test"),
    ];
    let tollgate = Tollgate::start_with(rules.path(), &env).await;
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
    let [certificate, key] = authority.sign("server");
    let rules = RulesDir::with("api.yaml", PER_USER);
    let ca = authority.file("ca.pem");
    let env = [
        ("GRPC_SERVER_USE_TLS", "true"),
        ("GRPC_SERVER_TLS_CERT", text(&certificate)),
        ("GRPC_SERVER_TLS_KEY", text(&key)),
        ("GRPC_SERVER_TLS_CA_CERT", text(&ca)),
    ];
    let tollgate = Tollgate::start_with(rules.path(), &env).await;
    assert!(!is_answered(channel(&tollgate, &authority, None)).await, "a client without a certificate");
    let envoy = identity(&authority.sign("envoy"));
    assert!(is_answered(channel(&tollgate, &authority, Some(envoy))).await);
}

#[tokio::test]
async fn new_certificates_are_taken_up_and_bad_ones_are_not_and_connections_stay() {
    let (old, new) = (Authority::new(), Authority::new());
    let mounted = tempfile::tempdir().expect("a temporary directory");
    let place = |name: &str, bytes: &[u8]| {
        std::fs::write(mounted.path().join("next"), bytes).unwrap();
        std::fs::rename(mounted.path().join("next"), mounted.path().join(name)).unwrap();
    };
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
    tollgate.process.line("that it can't be used", |line| line.contains("can't be used").then_some(())).await;
    assert!(is_answered(channel(&tollgate, &old, None)).await, "the last good ones stay");

    mount(&new.sign("server"));
    eventually("the new certificate is shown", || async {
        is_answered(channel(&tollgate, &new, None)).await.then_some(())
    })
    .await;
    assert!(!is_answered(channel(&tollgate, &old, None)).await, "the old certificate is gone");
    assert!(is_answered(kept).await, "a connection was lost");
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
