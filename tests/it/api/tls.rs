//! TLS of the HTTP listener, asked with curl: who is let in, who isn't, and new certificates without a restart.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use super::RULES;
use crate::harness::{Authority, RulesDir, Tollgate, eventually, place, run_to_end};

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

#[tokio::test]
async fn only_clients_of_the_given_authority_and_name_are_let_in() {
    let (authority, stranger) = (Authority::new(), Authority::new());
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
    let said = |line: &str| line.contains("can't be used").then(|| line.to_owned());
    let line = tollgate.process.line("that it can't be used", said).await;
    assert!(line.contains("TOLLGATE_HTTP_TLS_CERT"), "{line}");
    assert_eq!(check(&tollgate, &old, None), Some(200), "the last good ones stay");

    mount(&new.sign("server"));
    eventually("the new certificate is shown", || async { check(&tollgate, &new, None) }).await;
    assert_eq!(check(&tollgate, &old, None), None, "the old certificate is gone");
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
