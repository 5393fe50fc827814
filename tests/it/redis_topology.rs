//! Ways to Redis other than one address in the clear: sentinels that name the master, TLS with and without a client's
//! certificate.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tollgate::limit::{Algorithm, Cost, Entry, Limit, Reading, Unit};
use tollgate::store::redis::{Address, Redis, RedisSettings, RedisTls, Topology};
use tollgate::store::{CounterCheck, Gate, Key, Role, StoreError, split::Split};

use crate::redis_exact::of_cluster;
use crate::redis_server::{RedisCluster, RedisServer, certificates, free_port, start_sentinel};
use crate::redis_twin::{settings, soon, store};

fn check<'a>(entries: &'a [Entry<'a>]) -> CounterCheck<'a> {
    CounterCheck {
        key: Key { domain: "topology", entries, shared: &[], limit_name: "", variable: 0 },
        rule: 0,
        limit: Limit::new(10, Unit::Hour.window(), Algorithm::SlidingWindow),
        cost: Cost { hits: 1, charge_denied: false },
        role: Role::Enforced,
    }
}

async fn hit(redis: &Redis, deadline: Instant) -> Result<Reading, StoreError> {
    let entries = [Entry { key: "user", value: "alice" }];
    redis.apply(&[check(&entries)], Gate::default(), deadline).await.map(|readings| readings[0])
}

pub(crate) fn address(server: &RedisServer) -> Address {
    Address::Tcp { host: "127.0.0.1".into(), port: server.port() }
}

#[tokio::test]
async fn master_is_found_by_its_sentinels_and_followed_after_a_failover() {
    let mut first = RedisServer::start();
    let second = RedisServer::start_with(&["--replicaof", "127.0.0.1", &first.port().to_string()]);
    let sentinel = start_sentinel(&first);
    // One that doesn't answer comes first, and must not matter.
    let nobody = Address::Tcp { host: "127.0.0.1".into(), port: free_port() };
    let topology = Topology::Sentinel { master: "tollgate".into(), sentinels: vec![nobody, address(&sentinel)] };
    let redis = store(RedisSettings::new(topology)).await;
    assert_eq!(hit(&redis, soon()).await.expect("the master answers").remaining, 9);
    // A sentinel knows of a replica only once it has asked the master.
    let known = timeout(Duration::from_secs(30), async {
        while !sentinel.cli(&["sentinel", "replicas", "tollgate"]).contains(&second.port().to_string()) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    known.await.expect("the sentinel finds the replica");
    first.kill();
    let failover = timeout(Duration::from_secs(60), async {
        loop {
            redis.up().await;
            if let Ok(reading) = hit(&redis, soon()).await {
                return reading;
            }
        }
    });
    let reading = failover.await.expect("the promoted replica is used");
    assert!(reading.remaining <= 9, "{reading:?}");
    assert_eq!(second.cli(&["role"]).lines().next(), Some("master"));
}

/// A store that has just been started, and hasn't reached its Redis.
fn begun(settings: RedisSettings) -> Redis {
    Redis::start(settings.into(), &TaskTracker::new(), CancellationToken::new())
}

#[tokio::test]
async fn the_first_requests_after_a_start_wait_for_the_first_connection() {
    let server = RedisServer::start();
    let sentinel = start_sentinel(&server);
    let named = Topology::Sentinel { master: "tollgate".into(), sentinels: vec![address(&sentinel)] };
    let cluster = RedisCluster::start();
    for settings in [settings(&server), RedisSettings::new(named), of_cluster(&cluster)] {
        let topology = settings.topology.clone();
        let redis = begun(settings);
        let answers = join_all((0..10).map(|_| hit(&redis, soon()))).await;
        let failed: Vec<_> = answers.iter().filter_map(|answer| answer.as_ref().err()).collect();
        assert!(failed.is_empty(), "{topology:?}: {failed:?}");
        assert_eq!(redis.stats().unreachable.get(), 0, "{topology:?}");
    }
}

#[tokio::test]
async fn the_first_requests_of_two_redis_wait_for_both() {
    let servers = [RedisServer::start(), RedisServer::start()];
    let [main, per_second] = [0, 1].map(|nth| begun(settings(&servers[nth])));
    let split = Split { main, per_second };
    let entries = [Entry { key: "user", value: "alice" }];
    let of =
        |unit: Unit| CounterCheck { limit: Limit::new(10, unit.window(), Algorithm::SlidingWindow), ..check(&entries) };
    let checks = [of(Unit::Second), of(Unit::Hour)];
    let readings = split.apply(&checks, Gate::default(), soon()).await.expect("both answer");
    assert!(readings.iter().all(|reading| reading.admitted), "{readings:?}");
}

#[tokio::test]
async fn a_redis_that_refuses_is_not_waited_for() {
    let server = RedisServer::start_with(&["--requirepass", "secret"]);
    let nobody = || Address::Tcp { host: "127.0.0.1".into(), port: free_port() };
    let seeds = || Topology::Cluster { seeds: vec![nobody(), nobody()] };
    let begin = Instant::now();
    for settings in [settings(&server), RedisSettings::new(Topology::Single(nobody())), RedisSettings::new(seeds())] {
        let topology = settings.topology.clone();
        let redis = begun(settings);
        let answers = join_all((0..10).map(|_| hit(&redis, soon()))).await;
        let is_unreachable = |answer: &Result<_, _>| matches!(answer, Err(StoreError::Unreachable(_)));
        assert!(answers.iter().all(is_unreachable), "{topology:?}: {answers:?}");
    }
    assert!(begin.elapsed() < soon() - Instant::now(), "no request waited for its deadline: {:?}", begin.elapsed());
}

/// A server that speaks only TLS, and asks for a certificate where `mutual`.
pub(crate) fn tls_server(mutual: bool) -> RedisServer {
    let files = tempfile::tempdir().unwrap().keep();
    certificates(&files);
    let file = |name: &str| files.join(name).to_str().unwrap().to_owned();
    let port = free_port().to_string();
    let server = RedisServer::start_with(&[
        "--tls-port",
        &port,
        "--tls-cert-file",
        &file("server.pem"),
        "--tls-key-file",
        &file("server.key"),
        "--tls-ca-cert-file",
        &file("ca.pem"),
        "--tls-auth-clients",
        if mutual { "yes" } else { "no" },
    ]);
    std::fs::write(server.dir().join("tls-port"), &port).unwrap();
    for name in ["ca.pem", "client.pem", "client.key"] {
        std::fs::copy(files.join(name), server.dir().join(name)).unwrap();
    }
    std::fs::remove_dir_all(&files).ok();
    server
}

pub(crate) fn tls_port(server: &RedisServer) -> u16 {
    std::fs::read_to_string(server.dir().join("tls-port")).unwrap().parse().unwrap()
}

fn over_tls(server: &RedisServer, tls: RedisTls) -> RedisSettings {
    let port = tls_port(server);
    let address = Address::Tcp { host: "127.0.0.1".into(), port };
    RedisSettings { tls: Some(tls), ..RedisSettings::new(Topology::Single(address)) }
}

#[tokio::test]
async fn tls_is_spoken_with_a_private_authority() {
    let server = tls_server(false);
    let tls = RedisTls { ca_file: Some(server.dir().join("ca.pem")), ..RedisTls::default() };
    let redis = store(over_tls(&server, tls)).await;
    assert_eq!(hit(&redis, soon()).await.expect("Redis answers").remaining, 9);
}

#[tokio::test]
async fn server_of_an_unknown_authority_is_not_trusted() {
    let server = tls_server(false);
    let tasks = tokio_util::task::TaskTracker::new();
    let stop = tokio_util::sync::CancellationToken::new();
    let redis = Redis::start(over_tls(&server, RedisTls::default()).into(), &tasks, stop);
    assert!(timeout(Duration::from_secs(1), redis.up()).await.is_err());
    assert!(redis.stats().connect_failures.get() > 0);
}

#[tokio::test]
async fn certificate_of_another_host_is_accepted_only_where_that_is_asked_for() {
    let server = tls_server(false);
    let elsewhere = |any_host_name| {
        let tls = RedisTls { ca_file: Some(server.dir().join("ca.pem")), any_host_name, ..RedisTls::default() };
        let mut settings = over_tls(&server, tls);
        let Topology::Single(Address::Tcp { host, .. }) = &mut settings.topology else { panic!("one server") };
        // This machine by a name that the certificate doesn't have.
        *host = "0.0.0.0".into();
        settings
    };
    let (tasks, stop) = (tokio_util::task::TaskTracker::new(), tokio_util::sync::CancellationToken::new());
    let strict = Redis::start(elsewhere(false).into(), &tasks, stop);
    assert!(timeout(Duration::from_secs(1), strict.up()).await.is_err());
    let lenient = store(elsewhere(true)).await;
    assert_eq!(hit(&lenient, soon()).await.expect("Redis answers").remaining, 9);
}

#[tokio::test]
async fn client_shows_its_certificate_where_the_server_asks() {
    let server = tls_server(true);
    let file = |name: &str| Some(server.dir().join(name));
    let tls = RedisTls {
        ca_file: file("ca.pem"),
        certificate_file: file("client.pem"),
        key_file: file("client.key"),
        ..RedisTls::default()
    };
    let redis = store(over_tls(&server, tls)).await;
    assert_eq!(hit(&redis, soon()).await.expect("Redis answers").remaining, 9);
    // And the plain port is another way to the same counters.
    let plain = store(settings(&server)).await;
    assert_eq!(hit(&plain, soon()).await.expect("Redis answers").remaining, 8);
}
