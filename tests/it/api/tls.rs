//! TLS of the HTTP listener, asked with curl: who is let in, who isn't, and new certificates without a restart.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::RULES;
use crate::harness::{Authority, Load, RulesDir, Tollgate, eventually, place, run_to_end};

fn text(path: &Path) -> &str {
    path.to_str().expect("temporary paths are text")
}

/// The status of a check by a client that trusts `authority` and calls the server `server.test`; `None` where no
/// connection came about.
fn check(tollgate: &Tollgate, authority: &Authority, identity: Option<&[PathBuf; 2]>) -> Option<u16> {
    let port = tollgate.http.port();
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--output", "/dev/null", "--write-out", "%{http_code}", "--cacert"])
        .arg(authority.file("ca.pem"));
    curl.args(["--resolve", &format!("server.test:{port}:127.0.0.1"), "--data", r#"{"user": "alice", "hits": 0}"#]);
    if let Some([certificate, key]) = identity {
        curl.arg("--cert").arg(certificate).arg("--key").arg(key);
    }
    let output = curl.arg(format!("https://server.test:{port}/v1/check")).output().expect("tests/run.sh installs curl");
    String::from_utf8_lossy(&output.stdout).parse().ok().filter(|status| *status != 0)
}

/// Lets in who has a certificate of this authority with the shop's name.
async fn only_the_shop(authority: &Authority) -> (RulesDir, Tollgate) {
    let [certificate, key] = authority.sign("server");
    let ca = authority.file("ca.pem");
    let env = [
        ("TOLLGATE_HTTP_TLS_CERT", text(&certificate)),
        ("TOLLGATE_HTTP_TLS_KEY", text(&key)),
        ("TOLLGATE_HTTP_CLIENT_TLS_CACERT", text(&ca)),
        ("TOLLGATE_HTTP_CLIENT_TLS_SAN", "shop.test"),
    ];
    let rules = RulesDir::with("api.yaml", RULES);
    let tollgate = Tollgate::start_with(rules.path(), &env).await;
    (rules, tollgate)
}

#[tokio::test]
async fn only_clients_of_the_given_authority_and_name_are_let_in() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let (_rules, tollgate) = only_the_shop(&authority).await;
    assert_eq!(check(&tollgate, &authority, Some(&authority.sign("shop"))), Some(200));
    assert_eq!(check(&tollgate, &authority, None), None, "a client without a certificate");
    assert_eq!(check(&tollgate, &authority, Some(&authority.sign("other"))), None, "a client of another name");
    assert_eq!(check(&tollgate, &authority, Some(&stranger.sign("shop"))), None, "a client of another authority");
    assert!(crate::harness::get(tollgate.http, "/livez", &[]).await.is_err(), "a client that talks in the clear");
}

#[tokio::test]
async fn new_certificates_are_taken_up_and_bad_ones_are_not() {
    let (old, new) = (Authority::new(), Authority::new());
    let mounted = tempfile::tempdir().expect("a temporary directory");
    let mount = |[certificate, key]: &[PathBuf; 2]| {
        place(mounted.path(), "tls.key", &std::fs::read(key).unwrap());
        place(mounted.path(), "tls.crt", &std::fs::read(certificate).unwrap());
    };
    mount(&old.sign("server"));
    let (certificate, key) = (mounted.path().join("tls.crt"), mounted.path().join("tls.key"));
    let env = [("TOLLGATE_HTTP_TLS_CERT", text(&certificate)), ("TOLLGATE_HTTP_TLS_KEY", text(&key))];
    let rules = RulesDir::with("api.yaml", RULES);
    let tollgate = Tollgate::start_with(rules.path(), &env).await;
    assert_eq!(check(&tollgate, &old, None), Some(200));

    place(mounted.path(), "tls.crt", b"no certificate");
    let said = |line: &str| line.contains("can't use the new certificates").then(|| line.to_owned());
    let line = tollgate.process.line("that it can't be used", said).await;
    assert!(line.contains("TOLLGATE_HTTP_TLS_CERT"), "{line}");
    assert_eq!(check(&tollgate, &old, None), Some(200), "the last good ones stay");

    mount(&new.sign("server"));
    eventually("the new certificate is shown", || async { check(&tollgate, &new, None) }).await;
    assert_eq!(check(&tollgate, &old, None), None, "the old certificate is gone");
}

#[tokio::test]
async fn a_refused_certificate_is_logged_with_what_is_wrong_and_who_it_was() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let (_rules, tollgate) = only_the_shop(&authority).await;
    let refused = [
        ("unknown_authority", "of another authority", &authority, Some(stranger.sign("shop"))),
        ("expired", "has expired", &authority, Some(authority.expired("old", "DNS:shop.test"))),
        ("wrong_name", "has another name", &authority, Some(authority.sign("other"))),
        ("no_certificate", "shows no certificate", &authority, None),
        ("refused_by_client", "refuses this server's certificate", &stranger, None),
    ];
    for (reason, words, trusted, identity) in refused {
        assert_eq!(check(&tollgate, trusted, identity.as_ref()), None, "{reason}");
        let line = tollgate.process.line(words, |line| line.contains(words).then(|| line.to_owned())).await;
        let line: serde_json::Value = serde_json::from_str(&line).expect("logs are JSON here");
        assert_eq!(line["listener"], "HTTP", "{line}");
        let peer: SocketAddr = line["peer"].as_str().and_then(|peer| peer.parse().ok()).expect("who it was");
        assert!(peer.ip().is_loopback() && peer.port() > 0, "{line}");
        let series = format!("tollgate_tls_handshake_failures_total{{reason=\"{reason}\"}}");
        assert!(tollgate.metric(&series).await >= 1.0, "{reason}");
    }
    assert_eq!(check(&tollgate, &authority, Some(&authority.sign("shop"))), Some(200));
}

/// A connection of a client that trusts `authority` and shows `identity`.
async fn connect(at: SocketAddr, authority: &Authority, [certificate, key]: &[PathBuf; 2]) -> SendRequest<Full<Bytes>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&authority.pem()).unwrap()).unwrap();
    let chain = vec![CertificateDer::from_pem_file(certificate).unwrap()];
    let key = PrivateKeyDer::from_pem_file(key).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(roots).with_client_auth_cert(chain, key).unwrap();
    let stream = TcpStream::connect(at).await.expect("it listens");
    let name = "server.test".try_into().expect("a name");
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.expect("a handshake");
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.expect("a connection");
    tokio::spawn(connection);
    sender
}

async fn is_answered(sender: &mut SendRequest<Full<Bytes>>) -> bool {
    let request = http::Request::post("/v1/check")
        .header("host", "server.test")
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from_static(br#"{"user": "alice", "hits": 0}"#)))
        .expect("a request of constants");
    let Ok(response) = sender.send_request(request).await else { return false };
    response.status() == 200 && response.into_body().collect().await.is_ok()
}

/// As a certificate manager does it, twice, while clients come and go and one connection stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_are_rotated_under_load_without_a_failed_request() {
    let authority = Arc::new(Authority::new());
    let mounted = RulesDir::with("api.yaml", RULES);
    let mount = |version| authority.mount_server(&mounted, version);
    mount("first");
    let file = |name: &str| text(&mounted.path().join(name)).to_owned();
    let (certificate, key, ca) = (file("tls.crt"), file("tls.key"), file("ca.crt"));
    let env = [
        ("TOLLGATE_HTTP_TLS_CERT", &*certificate),
        ("TOLLGATE_HTTP_TLS_KEY", &key),
        ("TOLLGATE_HTTP_CLIENT_TLS_CACERT", &ca),
    ];
    let rules = RulesDir::with("api.yaml", RULES);
    let tollgate = Tollgate::start_with(rules.path(), &env).await;
    let (at, shop) = (tollgate.http, authority.sign("shop"));
    let kept = Arc::new(tokio::sync::Mutex::new(connect(at, &authority, &shop).await));
    let load = Load::start(2, {
        let authority = Arc::clone(&authority);
        move || {
            let (authority, shop, kept) = (Arc::clone(&authority), shop.clone(), Arc::clone(&kept));
            async move {
                let mut fresh = connect(at, &authority, &shop).await;
                [is_answered(&mut fresh).await, is_answered(&mut *kept.lock().await).await]
            }
        }
    });
    load.bears_new_certificates(&tollgate, mount).await;
}

#[test]
fn settings_that_lack_a_part_are_named() {
    for (env, named) in [
        (("TOLLGATE_HTTP_TLS_CERT", "/x"), "TOLLGATE_HTTP_TLS_KEY"),
        (("TOLLGATE_HTTP_TLS_KEY", "/x"), "TOLLGATE_HTTP_TLS_CERT"),
        (("TOLLGATE_HTTP_CLIENT_TLS_CACERT", "/x"), "TOLLGATE_HTTP_TLS_CERT"),
        (("TOLLGATE_HTTP_CLIENT_TLS_SAN", "x"), "TOLLGATE_HTTP_TLS_CERT"),
    ] {
        let output = run_to_end(&["serve"], &[env]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(1) && said.contains(named), "{env:?}: {said}");
    }
}
