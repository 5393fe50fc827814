//! The metrics that are sent: to a StatsD server over TCP, to a DogStatsD server over UDP.

use std::collections::BTreeMap;

use tokio::{
    io::{AsyncBufReadExt, BufReader},
    net::{TcpListener, TcpStream, UdpSocket},
    time::timeout,
};

use crate::harness::{PATIENCE, RulesDir, Tollgate, get};

const RULES: &str = "
domain: api
descriptors:
  - {key: ip, value: 10.0.0.1, rate_limit: {unit: hour, requests_per_unit: 10}}
  - {key: user, detailed_metric: true, rate_limit: {unit: hour, requests_per_unit: 10}}
";

/// Sums of what came, by name.
#[derive(Default)]
struct Received(BTreeMap<String, f64>);

impl Received {
    /// A line such as `name:1|c|@0.5|#k:v`; the name with what stands behind the kind.
    fn take(&mut self, line: &str) {
        let (name, rest) = line.split_once(':').expect("name:value");
        let (value, kind) = rest.split_once('|').expect("value|kind");
        let mut parts = kind.split('|');
        let kind = parts.next().expect("a kind");
        let (mut rate, mut tags) = (1.0, "");
        for part in parts {
            match part.strip_prefix('@') {
                Some(sampled) => rate = sampled.parse().expect("a rate"),
                None => tags = part,
            }
        }
        let value: f64 = value.parse().expect("a number");
        assert!(value > 0.0, "what did not grow is not sent: {line}");
        let by = if kind == "c" { value / rate } else { 1.0 / rate };
        *self.0.entry(format!("{name}|{kind}{tags}")).or_insert(0.0) += by;
    }

    fn of(&self, name: &str) -> f64 {
        self.0.get(name).copied().unwrap_or(0.0)
    }
}

/// Reads lines until `name` has come up to `count`.
async fn read_until(connection: &mut BufReader<TcpStream>, received: &mut Received, name: &str, count: f64) {
    while received.of(name) < count {
        let mut line = String::new();
        let read = timeout(PATIENCE, connection.read_line(&mut line)).await;
        let read = read.unwrap_or_else(|_| panic!("no {count} of {name}: {:?}", received.0)).expect("lines");
        assert!(read > 0, "the connection ended; until then {:?}", received.0);
        received.take(line.trim_end());
    }
}

async fn tollgate(rules: &RulesDir, port: u16, env: &[(&str, &str)]) -> Tollgate {
    let port = port.to_string();
    let own = [("STATSD_HOST", "127.0.0.1"), ("STATSD_PORT", &*port), ("STATS_FLUSH_INTERVAL", "20ms")];
    Tollgate::start_with(rules.path(), &[&own, env].concat()).await
}

#[tokio::test]
async fn a_statsd_server_gets_what_was_added_and_after_a_pause_what_it_missed() {
    let rules = RulesDir::with("api.yaml", RULES);
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = server.local_addr().unwrap().port();
    let tollgate = tollgate(&rules, port, &[("USE_STATSD", "true"), ("EXTRA_TAGS", "zone:z,env:e.1")]).await;
    let client = tollgate.client();
    let within = "ratelimit.service.rate_limit.api.ip_10_0_0_1.within_limit.__env=e_1.__zone=z|c";
    let requests = "ratelimit_server.ShouldRateLimit.total_requests.__env=e_1.__zone=z|c";
    let mut received = Received::default();

    let mut connection = BufReader::new(timeout(PATIENCE, server.accept()).await.expect("a connection").unwrap().0);
    for _ in 0..3 {
        client.admits("api", &[("ip", "10.0.0.1")]).await;
    }
    read_until(&mut connection, &mut received, within, 3.0).await;
    read_until(&mut connection, &mut received, requests, 3.0).await;
    drop((connection, server));
    for _ in 0..9 {
        client.admits("api", &[("ip", "10.0.0.1")]).await;
    }
    tollgate.process.line("that the server is away", |line| line.contains("can't send metrics").then_some(())).await;

    let server = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    let mut connection = BufReader::new(timeout(PATIENCE, server.accept()).await.expect("a connection").unwrap().0);
    read_until(&mut connection, &mut received, &within.replace("within", "over"), 2.0).await;
    read_until(&mut connection, &mut received, within, 10.0).await;
    read_until(&mut connection, &mut received, requests, 12.0).await;
    assert_eq!((received.of(within), received.of(requests)), (10.0, 12.0));
    assert_eq!(received.of("ratelimit.service.config_load_success.__env=e_1.__zone=z|c"), 1.0);
}

#[tokio::test]
async fn a_dogstatsd_server_gets_tags_and_rewritten_names_beside_a_statsd_server() {
    let rules = RulesDir::with("api.yaml", RULES);
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = server.local_addr().unwrap().port();
    let socket = UdpSocket::bind(("127.0.0.1", port)).await.expect("ports of UDP and TCP are apart");
    let env = [
        ("USE_STATSD", "true"),
        ("USE_DOG_STATSD", "true"),
        ("EXTRA_TAGS", "env:e"),
        ("USE_DOG_STATSD_MOGRIFIERS", "HITS"),
        ("DOG_STATSD_MOGRIFIER_HITS_PATTERN", r"^ratelimit\.service\.rate_limit\.(.*)\.(.*)\.(.*)$"),
        ("DOG_STATSD_MOGRIFIER_HITS_NAME", "ratelimit.service.rate_limit.$3"),
        ("DOG_STATSD_MOGRIFIER_HITS_TAGS", "domain:$1,descriptor:$2"),
    ];
    let tollgate = tollgate(&rules, port, &env).await;
    for _ in 0..12 {
        tollgate.client().admits("api", &[("user", "alice")]).await;
    }
    let over = "ratelimit.service.rate_limit.over_limit|c#env:e,domain:api,descriptor:user_alice";
    let times = "ratelimit_server.ShouldRateLimit.response_time|ms#env:e";
    let (mut received, mut buffer) = (Received::default(), vec![0; 65_536]);
    while received.of(over) < 2.0 || received.of(times) < 11.99 {
        let length = timeout(PATIENCE, socket.recv(&mut buffer)).await.expect("datagrams").unwrap();
        std::str::from_utf8(&buffer[..length]).unwrap().lines().for_each(|line| received.take(line));
    }
    let mut connection = BufReader::new(timeout(PATIENCE, server.accept()).await.expect("a connection").unwrap().0);
    let within = "ratelimit.service.rate_limit.api.user_alice.within_limit.__env=e|c";
    read_until(&mut connection, &mut Received::default(), within, 10.0).await;
}

#[tokio::test]
async fn the_references_metrics_are_counted_for_a_sink_though_the_page_does_not_show_them() {
    let rules = RulesDir::with("api.yaml", RULES);
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let env = [("USE_STATSD", "true"), ("STATSD_PROTOCOL", "udp")];
    let tollgate = tollgate(&rules, socket.local_addr().unwrap().port(), &env).await;
    tollgate.client().admits("nowhere", &[("user", "alice")]).await;
    let (mut received, mut buffer) = (Received::default(), vec![0; 65_536]);
    while received.of("ratelimit.service.rate_limit.nowhere.domain_not_found|c") < 1.0 {
        let length = timeout(PATIENCE, socket.recv(&mut buffer)).await.expect("datagrams").unwrap();
        std::str::from_utf8(&buffer[..length]).unwrap().lines().for_each(|line| received.take(line));
    }
    let page = get(tollgate.metrics, "/metrics", &[]).await.unwrap().body;
    assert!(!page.contains("\nratelimit_"), "{page}");
}
