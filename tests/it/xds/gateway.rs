//! Envoy Gateway's rate limit deployment, with nothing changed but the image: its environment, its certificates, its
//! probes, and rules in the shape in which it sends them.

use std::{net::SocketAddr, path::Path};

use envoy_types::pb::ratelimit::config::ratelimit::v3::{RateLimitConfig, RateLimitDescriptor, RateLimitPolicy};
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

use super::{control_plane::ControlPlane, transport::server_tls};
use crate::{
    harness::{Rls, Tollgate, get},
    redis_server::certificates,
    redis_topology::{tls_port, tls_server},
    traces::Collector,
};

/// A route with a limit for each user.
fn route() -> RateLimitConfig {
    let name = "httproute/default/api/rule/0/match/0/*";
    let limit = RateLimitPolicy { unit: 4, requests_per_unit: 2, ..RateLimitPolicy::default() };
    let rule =
        RateLimitDescriptor { key: "rule-0-match-0".into(), rate_limit: Some(limit), ..RateLimitDescriptor::default() };
    let route = RateLimitDescriptor {
        key: name.into(),
        value: name.into(),
        descriptors: vec![rule],
        ..RateLimitDescriptor::default()
    };
    let listener = "default/eg/http";
    RateLimitConfig { name: listener.into(), domain: listener.into(), descriptors: vec![route] }
}

fn client(tollgate: &Tollgate, certs: &Path) -> Rls {
    let read = |file: &str| std::fs::read(certs.join(file)).expect("it was made");
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(read("ca.crt")))
        .identity(Identity::from_pem(read("client.pem"), read("client.key")));
    let endpoint = Endpoint::from_shared(format!("https://{}", tollgate.grpc)).expect("an address makes a URI");
    Rls::over(endpoint.tls_config(tls).expect("good certificates").connect_lazy())
}

/// What Envoy Gateway sets whatever it is asked for; where things are comes on top.
const ALWAYS: [(&str, &str); 24] = [
    ("TOLLGATE_RULES", ""),
    ("CONFIG_TYPE", "GRPC_XDS_SOTW"),
    ("CONFIG_GRPC_XDS_NODE_ID", "envoy-ratelimit"),
    ("CONFIG_GRPC_XDS_SERVER_USE_TLS", "true"),
    ("CONFIG_GRPC_XDS_SERVER_TLS_SAN", "localhost"),
    ("FORCE_START_WITHOUT_INITIAL_CONFIG", "true"),
    ("GRPC_SERVER_USE_TLS", "true"),
    ("RUNTIME_ROOT", "/data"),
    ("RUNTIME_SUBDIRECTORY", "ratelimit"),
    ("RUNTIME_IGNOREDOTFILES", "true"),
    ("RUNTIME_WATCH_ROOT", "false"),
    ("LOG_LEVEL", "info"),
    ("USE_STATSD", "false"),
    ("REDIS_SOCKET_TYPE", "tcp"),
    ("REDIS_TLS", "true"),
    ("USE_PROMETHEUS", "true"),
    // There :19001, of which a test machine has only one.
    ("PROMETHEUS_ADDR", ":0"),
    ("PROMETHEUS_PATH", "/metrics"),
    ("PROMETHEUS_MAPPER_YAML", "/etc/statsd-exporter/conf.yaml"),
    ("TRACING_ENABLED", "true"),
    ("TRACING_SERVICE_NAME", "envoy-ratelimit"),
    ("TRACING_SERVICE_NAMESPACE", "envoy-gateway-system"),
    ("TRACING_SERVICE_INSTANCE_ID", "envoy-ratelimit-6d8f"),
    ("TRACING_SAMPLING_RATE", "1.0"),
];

#[tokio::test]
async fn its_whole_environment_starts_tollgate_which_limits_by_what_it_sends() {
    let certs = tempfile::tempdir().unwrap();
    certificates(certs.path());
    for (made, mounted) in [("ca.pem", "ca.crt"), ("server.pem", "tls.crt"), ("server.key", "tls.key")] {
        std::fs::copy(certs.path().join(made), certs.path().join(mounted)).unwrap();
    }
    let mut plane = ControlPlane::start_at("127.0.0.1:0".parse().unwrap(), Some(server_tls(certs.path()))).await;
    let redis = tls_server(true);
    let mut collector = Collector::http().await;
    let collector_url = format!("http://{}", collector.address);
    let of = |dir: &Path, file: &str| dir.join(file).to_str().expect("temporary paths are text").to_owned();
    let [ca, cert, key] = ["ca.crt", "tls.crt", "tls.key"].map(|file| of(certs.path(), file));
    let [redis_ca, redis_cert, redis_key] = ["ca.pem", "client.pem", "client.key"].map(|file| of(redis.dir(), file));
    let (plane_address, redis_url) = (plane.address.to_string(), format!("127.0.0.1:{}", tls_port(&redis)));
    let env: [(&str, &str); 12] = [
        ("CONFIG_GRPC_XDS_SERVER_URL", &plane_address),
        ("CONFIG_GRPC_XDS_CLIENT_TLS_CERT", &cert),
        ("CONFIG_GRPC_XDS_CLIENT_TLS_KEY", &key),
        ("CONFIG_GRPC_XDS_SERVER_TLS_CACERT", &ca),
        ("GRPC_SERVER_TLS_CERT", &cert),
        ("GRPC_SERVER_TLS_KEY", &key),
        ("GRPC_SERVER_TLS_CA_CERT", &ca),
        ("REDIS_URL", &redis_url),
        ("REDIS_TLS_CLIENT_CERT", &redis_cert),
        ("REDIS_TLS_CLIENT_KEY", &redis_key),
        // The one that its user adds, for a Redis of a private authority.
        ("REDIS_TLS_CACERT", &redis_ca),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &collector_url),
    ];
    let tollgate = Tollgate::start_with(Path::new(""), &[&ALWAYS[..], &env].concat()).await;
    let probe = || async { get(tollgate.http, "/healthcheck", &[]).await.expect("the probe is answered").status };
    assert_eq!(probe().await, 200, "the startup probe passes before there are rules");

    let mut stream = plane.stream().await;
    assert_eq!(stream.request().await.node.expect("a node").id, "envoy-ratelimit");
    stream.put("1", &[route()]).await;
    tollgate.redis_connections_are(crate::harness::REDIS_CONNECTIONS).await;
    let client = client(&tollgate, certs.path());
    let name = "httproute/default/api/rule/0/match/0/*";
    for (user, expected) in [("alice", true), ("alice", true), ("alice", false), ("bob", true)] {
        let admitted = client.admits("default/eg/http", &[(name, name), ("rule-0-match-0", user)]).await;
        assert_eq!(admitted, expected, "{user}");
    }
    assert_eq!(probe().await, 200);
    let metrics = SocketAddr::from(([127, 0, 0, 1], tollgate.metrics.port()));
    let page = get(metrics, "/metrics", &[]).await.expect("its scraper is answered").body;
    assert!(page.contains("ratelimit_service_rate_limit_over_limit{domain=\"default/eg/http\""), "{page}");
    let told = collector.some_spans().await;
    assert_eq!(told.resource["service.name"], "envoy-ratelimit");
    assert_eq!(told.resource["service.namespace"], "envoy-gateway-system");
    let log = tollgate.process.log();
    assert!(!log.contains("\"ERROR\""), "{log}");
}
