//! Certificates as people have them: those that sign themselves, those of the system's authorities, keys that can't be
//! used. Every client that Tollgate is, and every listener that it has, is shown them.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

use crate::{
    harness::{
        Authority, Rls, RulesDir, Tollgate, descriptor, encrypted, eventually, request, run_to_end, self_signed,
    },
    redis_server::{RedisServer, free_port},
    serve::PER_USER,
};

const HERE: &str = "DNS:localhost,IP:127.0.0.1";

fn text(path: &Path) -> &str {
    path.to_str().expect("temporary paths are text")
}

/// A server that shows a certificate, and counts who takes it and who doesn't.
struct Shown {
    address: SocketAddr,
    taken: Arc<AtomicUsize>,
    refused: Arc<AtomicUsize>,
}

impl Shown {
    async fn start([certificate, key]: &[PathBuf; 2]) -> Shown {
        let chain = vec![CertificateDer::from_pem_file(certificate).unwrap()];
        let provider = Arc::new(ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let key = PrivateKeyDer::from_pem_file(key).unwrap();
        let mut config = config.with_no_client_auth().with_single_cert(chain, key).unwrap();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (taken, refused) = <(Arc<AtomicUsize>, Arc<AtomicUsize>)>::default();
        let shown = Shown { address, taken: taken.clone(), refused: refused.clone() };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // A client that goes on after it has seen the certificate takes it.
                let count = if acceptor.accept(stream).await.is_ok() { &taken } else { &refused };
                count.fetch_add(1, SeqCst);
            }
        });
        shown
    }

    /// Whether the first who comes takes it.
    async fn is_taken(&self) -> bool {
        eventually("somebody has seen the certificate", || async {
            match (self.taken.load(SeqCst), self.refused.load(SeqCst)) {
                (0, 0) => None,
                (taken, _) => Some(taken > 0),
            }
        })
        .await
    }
}

/// What makes a Tollgate connect to `at` as a client of each kind that it is, trusting `ca`, or the system's where there is
/// none.
fn clients<'a>(at: &'a str, url: &'a str, ca: Option<&'a str>) -> Vec<Vec<(&'static str, &'a str)>> {
    let with = |env: &[(&'static str, &'a str)], variable: &'static str| {
        env.iter().copied().chain(ca.map(|ca| (variable, ca))).collect::<Vec<_>>()
    };
    let traced = [("TRACING_ENABLED", "true"), ("OTEL_EXPORTER_OTLP_ENDPOINT", url), ("OTEL_BSP_SCHEDULE_DELAY", "20")];
    let over = |protocol| [&traced[..], &[("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)]].concat();
    let plane = [
        ("CONFIG_TYPE", "GRPC_XDS_SOTW"),
        ("CONFIG_GRPC_XDS_SERVER_URL", at),
        ("CONFIG_GRPC_XDS_SERVER_USE_TLS", "true"),
        ("FORCE_START_WITHOUT_INITIAL_CONFIG", "true"),
    ];
    vec![
        with(&[("REDIS_URL", at), ("REDIS_TLS", "true")], "REDIS_TLS_CACERT"),
        with(&plane, "CONFIG_GRPC_XDS_SERVER_TLS_CACERT"),
        with(&over("grpc"), "OTEL_EXPORTER_OTLP_CERTIFICATE"),
        with(&over("http/protobuf"), "OTEL_EXPORTER_OTLP_CERTIFICATE"),
    ]
}

/// Starts a Tollgate, asks it once, so that there is a trace, and waits for what becomes of its handshake with `shown`.
async fn takes(shown: &Shown, env: &[(&str, &str)]) -> bool {
    let rules = RulesDir::with("api.yaml", PER_USER);
    let tollgate = Tollgate::start_with(rules.path(), env).await;
    let _ = tollgate.client().ask(request("api", vec![descriptor(&[("user", "alice")])])).await;
    shown.is_taken().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_signs_itself_is_taken_by_every_client_that_trusts_it() {
    let folder = tempfile::tempdir().unwrap();
    let own = self_signed(folder.path(), "own", HERE, "P-256");
    let elsewhere = self_signed(folder.path(), "elsewhere", "DNS:elsewhere.test", "P-256");
    let stranger = self_signed(folder.path(), "stranger", HERE, "P-256");
    for (pair, ca, is_good) in [(&own, &own, true), (&elsewhere, &elsewhere, false), (&own, &stranger, false)] {
        for nth in 0..4 {
            let shown = Shown::start(pair).await;
            let (at, url) =
                (format!("localhost:{}", shown.address.port()), format!("https://localhost:{}", shown.address.port()));
            let env = &clients(&at, &url, Some(text(&ca[0])))[nth];
            assert_eq!(takes(&shown, env).await, is_good, "{env:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_no_authority_is_named_those_of_the_system_are_trusted() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let pair = authority.sign_for("server", HERE);
    let (file, other) = (authority.file("ca.pem"), stranger.file("ca.pem"));
    let folder = tempfile::tempdir().unwrap();
    // As c_rehash names it; any file of the folder is read.
    std::fs::write(folder.path().join("00000000.0"), authority.pem()).unwrap();
    let system = [
        (("SSL_CERT_FILE", text(&file)), true),
        (("SSL_CERT_DIR", text(folder.path())), true),
        (("SSL_CERT_FILE", text(&other)), false),
    ];
    for (variable, is_good) in system {
        for nth in 0..4 {
            let shown = Shown::start(&pair).await;
            let (at, url) =
                (format!("localhost:{}", shown.address.port()), format!("https://localhost:{}", shown.address.port()));
            let env = [&clients(&at, &url, None)[nth][..], &[variable]].concat();
            assert_eq!(takes(&shown, &env).await, is_good, "{env:?}");
        }
    }
}

/// The commands, against our own listener.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_own_commands_take_a_certificate_that_signs_itself_and_that_they_are_given() {
    let folder = tempfile::tempdir().unwrap();
    let [certificate, key] = self_signed(folder.path(), "own", HERE, "P-256");
    let [stranger, _] = self_signed(folder.path(), "stranger", HERE, "P-256");
    let rules = RulesDir::with("api.yaml", PER_USER);
    let env = [
        ("GRPC_SERVER_USE_TLS", "true"),
        ("GRPC_SERVER_TLS_CERT", text(&certificate)),
        ("GRPC_SERVER_TLS_KEY", text(&key)),
    ];
    let tollgate = Tollgate::start_with(rules.path(), &env).await;
    let address = format!("localhost:{}", tollgate.grpc.port());
    let link = folder.path().join("ratelimit_client");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_tollgate"), &link).unwrap();
    for (ca, is_good) in [(&certificate, true), (&stranger, false)] {
        let mut client = Command::new(&link);
        client.args(["-dial_string", &address, "-domain", "api", "-descriptors", "user=alice", "-grpc-use-tls"]);
        let output = client.args(["-grpc-server-ca-file", text(ca)]).env_clear().output().unwrap();
        assert_eq!(output.status.success(), is_good, "{}", String::from_utf8_lossy(&output.stderr));

        let mut list = Command::new(env!("CARGO_BIN_EXE_tollgate"));
        list.env_clear().args([
            "overrides",
            "list",
            "--domain",
            "api",
            "--addr",
            &format!("https://{address}"),
            "--cacert",
            text(ca),
        ]);
        let output = list.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        // It has no token; but it was connected, and got an answer.
        assert_eq!(!said.contains("no connection to"), is_good, "{said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_whose_own_certificate_is_trusted_is_let_in() {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().unwrap());
    let [certificate, key] = authority.sign_for("server", HERE);
    let envoy = self_signed(folder.path(), "envoy", "DNS:envoy.test", "P-256");
    let other = self_signed(folder.path(), "other", "DNS:other.test", "P-256");
    let stranger = self_signed(folder.path(), "stranger", "DNS:envoy.test", "P-256");
    let both = folder.path().join("both.pem");
    std::fs::write(&both, [&envoy, &other].map(|pair| std::fs::read(&pair[0]).unwrap()).concat()).unwrap();
    let rules = RulesDir::with("api.yaml", PER_USER);
    let env = [
        ("GRPC_SERVER_USE_TLS", "true"),
        ("GRPC_SERVER_TLS_CERT", text(&certificate)),
        ("GRPC_SERVER_TLS_KEY", text(&key)),
        ("GRPC_CLIENT_TLS_CACERT", text(&both)),
        ("GRPC_CLIENT_TLS_SAN", "envoy.test"),
    ];
    let tollgate = Tollgate::start_with(rules.path(), &env).await;
    for (pair, is_good) in [(&envoy, true), (&other, false), (&stranger, false)] {
        let identity = Identity::from_pem(std::fs::read(&pair[0]).unwrap(), std::fs::read(&pair[1]).unwrap());
        let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authority.pem())).identity(identity);
        let endpoint = Endpoint::from_shared(format!("https://localhost:{}", tollgate.grpc.port())).unwrap();
        let client = Rls::over(endpoint.tls_config(tls).unwrap().connect_lazy());
        let answer = client.ask(request("api", vec![descriptor(&[("user", "alice")])])).await;
        assert_eq!(answer.is_ok(), is_good, "{}: {answer:?}", pair[0].display());
    }
}

#[test]
fn a_key_that_cannot_be_used_stops_a_start_with_the_way_out() {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().unwrap());
    let [certificate, key] = authority.sign_for("server", HERE);
    let locked = encrypted(folder.path(), &key);
    let rules = RulesDir::with("api.yaml", PER_USER);
    let said = |[certificate, key]: [&Path; 2]| {
        let env = [
            ("GRPC_SERVER_USE_TLS", "true"),
            ("GRPC_SERVER_TLS_CERT", text(certificate)),
            ("GRPC_SERVER_TLS_KEY", text(key)),
        ];
        let output = run_to_end(&["serve", "--rules", text(rules.path())], &env);
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let line = said([&certificate, &locked]);
    assert!(
        line.contains("is encrypted") && line.contains("openssl pkey -in") && line.contains("locked.key"),
        "{line}"
    );

    let [large, large_key] = self_signed(folder.path(), "large", HERE, "P-521");
    let line = said([&large, &large_key]);
    assert!(line.contains("P-521") && line.contains("openssl req -x509 -newkey ec"), "{line}");

    let [other, _] = authority.sign_for("other", HERE);
    let line = said([&other, &key]);
    assert!(line.contains("server.key is not the key of") && line.contains("other.pem"), "{line}");
}

/// Redis with this pair, that lets in clients of `ca`; where it speaks TLS.
fn redis(pair: &[PathBuf; 2], ca: &Path) -> (RedisServer, String) {
    let port = free_port().to_string();
    let [certificate, key] = pair.each_ref().map(|file| text(file));
    let files = ["--tls-cert-file", certificate, "--tls-key-file", key, "--tls-ca-cert-file", text(ca)];
    let server =
        RedisServer::start_with(&[&["--tls-port", &port][..], &files, &["--tls-auth-clients", "yes"]].concat());
    (server, format!("localhost:{port}"))
}

/// Why a Tollgate has no connection, from its log; empty where it has one.
async fn why_not(address: &str, ca: &Path, pair: &[PathBuf; 2], more: &[(&str, &str)]) -> String {
    let rules = RulesDir::with("api.yaml", PER_USER);
    let env = [
        ("REDIS_URL", address),
        ("REDIS_TLS", "true"),
        ("REDIS_TLS_CACERT", text(ca)),
        ("REDIS_TLS_CLIENT_CERT", text(&pair[0])),
        ("REDIS_TLS_CLIENT_KEY", text(&pair[1])),
    ];
    let tollgate = Tollgate::start_with(rules.path(), &[&env, more].concat()).await;
    let said = |line: &str| {
        let is_up = line.contains("connected to Redis").then(String::new);
        is_up.or_else(|| line.contains("can't connect to Redis").then(|| line.to_owned()))
    };
    tollgate.process.line("whether it has a connection", said).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_library_cannot_take_is_said_with_what_makes_a_good_one() {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().unwrap());
    let ca = authority.file("ca.pem");
    let good = authority.sign_for("good", HERE);
    let old = authority.sign_version_1("old");
    // Shown by us it is for Redis to judge, which takes it.
    let (_server, address) = redis(&good, &ca);
    assert_eq!(why_not(&address, &ca, &old, &[]).await, "");
    let locked = [good[0].clone(), encrypted(folder.path(), &good[1])];
    let line = why_not(&address, &ca, &locked, &[]).await;
    assert!(line.contains("is encrypted") && line.contains("openssl pkey -in"), "{line}");

    let (_server, address) = redis(&old, &ca);
    let any_name = [("REDIS_TLS_SKIP_HOSTNAME_VERIFICATION", "true")];
    let line = why_not(&address, &ca, &good, &any_name).await;
    assert!(line.contains("version 1") && line.contains("openssl x509 -req"), "{line}");

    let large = self_signed(folder.path(), "large", HERE, "P-521");
    let (_server, address) = redis(&large, &ca);
    let line = why_not(&address, &large[0], &good, &[]).await;
    assert!(line.contains("P-521"), "{line}");
}
