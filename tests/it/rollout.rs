//! A rolling restart of two replicas as Kubernetes does it, behind a real Envoy that watches who is ready, under load: not
//! one request may fail.

use std::{net::SocketAddr, path::Path};

use crate::{
    harness::{App, Envoy, Load, REDIS_CONNECTIONS, RulesDir, Tollgate, eventually, get},
    redis_server::RedisServer,
};

/// Loopback addresses that no other test uses: nobody else can take a replica's port while it is away.
const HOSTS: [&str; 2] = ["127.0.82.1", "127.0.82.2"];

const RULES: &str =
    "domain: api\ndescriptors:\n  - key: user\n    rate_limit: {requests_per_unit: 4000000, unit: day}\n";

struct Replica {
    host: &'static str,
    tollgate: Tollgate,
}

impl Replica {
    async fn start(host: &'static str, port: u16, rules: &Path, redis: &str) -> Replica {
        let port = port.to_string();
        let env = [
            ("GRPC_HOST", host),
            ("GRPC_PORT", port.as_str()),
            ("REDIS_SOCKET_TYPE", "tcp"),
            ("REDIS_URL", redis),
            // Fifty times as long as Envoy takes to look again: it is asked every 100 ms here, as Kubernetes' probe and
            // Envoy's look at DNS take seconds there.
            ("TOLLGATE_DRAIN_DELAY", "5s"),
        ];
        Replica { host, tollgate: Tollgate::start_with(rules, &env).await }
    }
}

/// Waits until Envoy finds the replica at `address` fit to be asked.
async fn envoy_asks(envoy: &Envoy, address: SocketAddr) {
    eventually("Envoy finds the replica healthy", || async {
        let clusters = envoy.clusters().await;
        clusters.contains(&format!("tollgate::{address}::health_flags::healthy")).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_replicas_are_restarted_one_after_the_other_without_a_failed_request() {
    let (rules, redis) = (RulesDir::with("api.yaml", RULES), RedisServer::start());
    let url = redis.address();
    let mut replicas = Vec::new();
    for host in HOSTS {
        replicas.push(Replica::start(host, 0, rules.path(), &url).await);
    }
    let addresses: Vec<SocketAddr> = replicas.iter().map(|replica| replica.tollgate.grpc).collect();
    let app = App::start().await;
    let envoy = Envoy::start_watching(app.address, &addresses).await;
    for address in &addresses {
        envoy_asks(&envoy, *address).await;
    }

    let ingress = envoy.ingress;
    let load = Load::start(4, move || async move { get(ingress, "/", &[("x-user-id", "alice")]).await });
    for replica in &mut replicas {
        load.goes_on().await;
        let address = replica.tollgate.grpc;
        replica.tollgate.process.signal("TERM");
        assert_eq!(replica.tollgate.process.end().await.code(), Some(0), "{}", replica.tollgate.process.log());
        load.goes_on().await;
        *replica = Replica::start(replica.host, address.port(), rules.path(), &url).await;
        replica.tollgate.redis_connections_are(REDIS_CONNECTIONS).await;
        envoy_asks(&envoy, address).await;
    }
    load.goes_on().await;
    let answers = load.stop().await;

    let failed: Vec<_> =
        answers.iter().filter(|answer| !answer.as_ref().is_ok_and(|answer| answer.status == 200)).collect();
    assert!(failed.is_empty(), "{} of {} requests failed: {:?}", failed.len(), answers.len(), failed.first());
    for replica in &replicas {
        let decided = replica.tollgate.metric("tollgate_decision_duration_seconds_count").await;
        assert!(decided > 0.0, "{} was not asked after its restart", replica.host);
    }
}
