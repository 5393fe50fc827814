//! TLS to Redis from the whole program: what a refused certificate makes it log, and new certificates on both sides while
//! it is asked.

use std::path::{Path, PathBuf};

use crate::{
    harness::{Authority, Load, REDIS_CONNECTIONS, RulesDir, Tollgate, descriptor, eventually, place, request},
    redis_server::{RedisServer, free_port},
};

const RULES: &str =
    "domain: api\ndescriptors:\n  - key: user\n    rate_limit: {requests_per_unit: 4000000, unit: day}\n";

const HERE: &str = "IP:127.0.0.1";

/// A folder with `ca.pem`, `tls.pem` and `tls.key`, and a Redis that speaks TLS with them.
struct Secured {
    folder: tempfile::TempDir,
    server: RedisServer,
    address: String,
}

fn put(folder: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    place(folder, name, bytes);
    folder.join(name)
}

fn put_pair(folder: &Path, [certificate, key]: [PathBuf; 2]) {
    put(folder, "tls.key", &std::fs::read(key).unwrap());
    put(folder, "tls.pem", &std::fs::read(certificate).unwrap());
}

impl Secured {
    fn start(authority: &Authority, certificate: [PathBuf; 2], asks_clients: bool) -> Secured {
        let folder = tempfile::tempdir().unwrap();
        put(folder.path(), "ca.pem", &authority.pem());
        put_pair(folder.path(), certificate);
        let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        let port = free_port().to_string();
        let server = RedisServer::start_with(&[
            "--tls-port",
            &port,
            "--tls-cert-file",
            &file("tls.pem"),
            "--tls-key-file",
            &file("tls.key"),
            "--tls-ca-cert-file",
            &file("ca.pem"),
            "--tls-auth-clients",
            if asks_clients { "yes" } else { "no" },
        ]);
        Secured { folder, server, address: format!("127.0.0.1:{port}") }
    }

    /// Reads its files again, for the connections that come after.
    fn reload(&self) {
        let file = |name: &str| self.folder.path().join(name).to_str().unwrap().to_owned();
        let (certificate, key, ca) = (file("tls.pem"), file("tls.key"), file("ca.pem"));
        // Each reads all three again, and an old Redis takes only one at a time.
        for (name, path) in [("tls-cert-file", certificate), ("tls-key-file", key), ("tls-ca-cert-file", ca)] {
            assert_eq!(self.server.cli(&["config", "set", name, &path]), "OK");
        }
    }
}

/// Starts Tollgate and waits for the line with which it says why there is no connection.
async fn why_not(redis: &Secured, ca: &Path, client: Option<&[PathBuf; 2]>) -> String {
    let rules = RulesDir::with("api.yaml", RULES);
    let mut env =
        vec![("REDIS_URL", redis.address.as_str()), ("REDIS_TLS", "true"), ("REDIS_TLS_CACERT", ca.to_str().unwrap())];
    if let Some([certificate, key]) = client {
        env.push(("REDIS_TLS_CLIENT_CERT", certificate.to_str().unwrap()));
        env.push(("REDIS_TLS_CLIENT_KEY", key.to_str().unwrap()));
    }
    let tollgate = Tollgate::start_with(rules.path(), &env).await;
    let said = |line: &str| line.contains("can't connect to Redis").then(|| line.to_owned());
    tollgate.process.line("why it has no connection to Redis", said).await
}

#[tokio::test]
async fn a_certificate_of_redis_that_is_refused_is_logged_with_what_is_wrong() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let good = Secured::start(&authority, authority.sign_for("redis", HERE), false);
    let line = why_not(&good, &stranger.file("ca.pem"), None).await;
    assert!(line.contains("of another authority than those of REDIS_TLS_CACERT"), "{line}");

    let old = Secured::start(&authority, authority.expired("old", HERE), false);
    let line = why_not(&old, &authority.file("ca.pem"), None).await;
    assert!(line.contains("it has expired"), "{line}");

    let other = Secured::start(&authority, authority.sign_for("other", "DNS:elsewhere.test"), false);
    let line = why_not(&other, &authority.file("ca.pem"), None).await;
    assert!(line.contains("another name than the host in REDIS_URL"), "{line}");
}

#[tokio::test]
async fn a_certificate_that_redis_refuses_is_logged_with_what_is_wrong() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let redis = Secured::start(&authority, authority.sign_for("redis", HERE), true);
    let ca = authority.file("ca.pem");
    let line = why_not(&redis, &ca, None).await;
    assert!(line.contains("asks for a client's certificate"), "{line}");
    let line = why_not(&redis, &ca, Some(&stranger.sign("tollgate"))).await;
    assert!(line.contains("it knows another authority"), "{line}");
    let line = why_not(&redis, &ca, Some(&authority.expired("old", HERE))).await;
    assert!(line.contains("REDIS_TLS_CLIENT_CERT: it has expired"), "{line}");
}

/// Both sides get certificates of a new authority while decisions are asked for, and then every connection is cut: those
/// that come after are made with the new ones. No request fails on the way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_of_both_sides_are_rotated_under_load_without_a_failed_request() {
    let (old, new) = (Authority::new(), Authority::new());
    let redis = Secured::start(&old, old.sign_for("redis", HERE), true);
    let ours = tempfile::tempdir().unwrap();
    let ca = put(ours.path(), "ca.pem", &old.pem());
    put_pair(ours.path(), old.sign_for("tollgate", HERE));
    let (certificate, key) = (ours.path().join("tls.pem"), ours.path().join("tls.key"));
    let rules = RulesDir::with("api.yaml", RULES);
    let env = [
        ("REDIS_URL", redis.address.as_str()),
        ("REDIS_TLS", "true"),
        ("REDIS_TLS_CACERT", ca.to_str().unwrap()),
        ("REDIS_TLS_CLIENT_CERT", certificate.to_str().unwrap()),
        ("REDIS_TLS_CLIENT_KEY", key.to_str().unwrap()),
    ];
    let tollgate = Tollgate::start_with(rules.path(), &env).await;
    tollgate.redis_connections_are(REDIS_CONNECTIONS).await;
    let client = tollgate.client();
    let load = Load::start(2, move || {
        let client = client.clone();
        async move { client.ask(request("api", vec![descriptor(&[("user", "alice")])])).await }
    });
    load.goes_on().await;

    // First both trust both, as a rotation of authorities is done, then each shows the new one.
    let both = [old.pem(), new.pem()].concat();
    put(ours.path(), "ca.pem", &both);
    put(redis.folder.path(), "ca.pem", &both);
    redis.reload();
    put_pair(redis.folder.path(), new.sign_for("redis", HERE));
    put_pair(ours.path(), new.sign_for("tollgate", HERE));
    redis.reload();
    // And then nobody trusts the old one any more.
    put(ours.path(), "ca.pem", &new.pem());
    put(redis.folder.path(), "ca.pem", &new.pem());
    redis.reload();
    load.goes_on().await;
    assert_eq!(tollgate.metric("tollgate_redis_connects_total").await, REDIS_CONNECTIONS, "connections stay");

    // Who listens for refunds is of the other type.
    for kind in ["normal", "pubsub"] {
        redis.server.cli(&["client", "kill", "type", kind]);
    }
    eventually("connected again, with the new certificates", || async {
        (tollgate.metric("tollgate_redis_connects_total").await >= 2.0 * REDIS_CONNECTIONS).then_some(())
    })
    .await;
    tollgate.redis_connections_are(REDIS_CONNECTIONS).await;
    load.goes_on().await;
    for answer in load.stop().await {
        answer.expect("every request is answered");
    }
}

/// As [`why_not`], with these settings and nothing else; the first line that has one of the words.
async fn said_of(env: &[(&str, &str)], words: &str) -> String {
    let rules = RulesDir::with("api.yaml", RULES);
    let tollgate = Tollgate::start_with(rules.path(), env).await;
    let found = |line: &str| (line.contains("WARN") && line.contains(words)).then(|| line.to_owned());
    tollgate.process.line(words, found).await
}

#[tokio::test]
async fn a_redis_of_an_unknown_authority_is_not_blamed_on_a_file_that_is_not_set_or_is_empty() {
    let authority = Authority::new();
    let redis = Secured::start(&authority, authority.sign_for("redis", HERE), false);
    let env = [("REDIS_URL", redis.address.as_str()), ("REDIS_TLS", "true")];
    let line = said_of(&env, "can't connect to Redis").await;
    assert!(line.contains("REDIS_TLS_CACERT isn't set"), "{line}");
    // The key instead of the certificate: a file without any.
    for content in [&b""[..], b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"] {
        let file = put(redis.folder.path(), "none.pem", content);
        let file = file.to_str().unwrap();
        let line = said_of(&[&env[..], &[("REDIS_TLS_CACERT", file)]].concat(), "can't connect to Redis").await;
        assert!(line.contains("none.pem, the file of REDIS_TLS_CACERT, holds no certificate"), "{line}");
    }
}

#[tokio::test]
async fn only_one_side_speaks_tls_and_the_log_says_which() {
    let authority = Authority::new();
    let secured = Secured::start(&authority, authority.sign_for("redis", HERE), false);
    let line = said_of(&[("REDIS_URL", &secured.address)], "can't connect to Redis").await;
    assert!(line.contains("is REDIS_TLS to be true?"), "{line}");

    // Redis waits for the end of a line that never comes: said before the attempt is given up.
    let clear = RedisServer::start();
    let (address, longer) = (clear.address(), ("REDIS_TIMEOUT", "1h"));
    let line = said_of(&[("REDIS_URL", &address), ("REDIS_TLS", "true"), longer], "no answer").await;
    assert!(line.contains("is REDIS_TLS to be false?"), "{line}");
    let second = [
        ("REDIS_URL", address.as_str()),
        ("REDIS_PERSECOND", "true"),
        ("REDIS_PERSECOND_URL", &address),
        ("REDIS_PERSECOND_TLS", "true"),
        ("REDIS_PERSECOND_TIMEOUT", "500ms"),
    ];
    let line = said_of(&second, "no answer within 500ms").await;
    assert!(line.contains("is REDIS_PERSECOND_TLS to be false?"), "{line}");
}
