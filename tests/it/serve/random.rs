//! Random requests over the wire: sensible ones, absurd ones and bytes that are none. Each gets an answer of gRPC's own,
//! and nothing panics. `TOLLGATE_TEST_REQUESTS` says how many, `TOLLGATE_TEST_SEED` which.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use bytes::Bytes;
use envoy_types::pb::envoy::{
    extensions::common::ratelimit::v3::{
        RateLimitDescriptor,
        rate_limit_descriptor::{Entry, RateLimitOverride},
    },
    service::ratelimit::v3::RateLimitRequest,
};
use envoy_types::pb::google::protobuf::UInt64Value;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use rand::{Rng, SeedableRng, rngs::SmallRng, seq::IndexedRandom};
use tokio::{net::TcpStream, task::JoinSet};

use crate::{
    harness::{REDIS_CONNECTIONS, RulesDir, Tollgate},
    redis_server::RedisServer,
};

const RULES: &str = include_str!("../../../src/fuzz/rules.yaml");

/// What is asked beside the other tests.
const REQUESTS: u64 = 4_000;

/// Outstanding at once, on each of two connections.
const LANES: u64 = 16;

const WORDS: [&str; 14] = [
    "api",
    "user",
    "endpoint",
    "path",
    "plan",
    "none",
    "alice",
    "root",
    "/checkout",
    "/static/a",
    "",
    "*",
    "a=b,c\n",
    "\u{1f512}",
];

fn number(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).map_or(otherwise, |text| text.parse().unwrap_or_else(|_| panic!("{variable}={text}")))
}

fn word(random: &mut SmallRng) -> String {
    match random.random_range(0..200) {
        0..10 => (0..random.random_range(0..40)).map(|_| random.random::<char>()).collect(),
        10 => "x".repeat(random.random_range(0..3_000)),
        11..30 => format!("u{}", random.random_range(0..100_000)),
        _ => (*WORDS.choose(random).expect("there are words")).to_owned(),
    }
}

/// Mostly small, now and then at an edge.
fn count(random: &mut SmallRng, most: usize) -> usize {
    if random.random_range(0..2_000) == 0 { most } else { random.random_range(0..4) }
}

fn request(random: &mut SmallRng) -> RateLimitRequest {
    let descriptors = (0..count(random, 300)).map(|_| {
        let entries = (0..count(random, 60)).map(|_| Entry { key: word(random), value: word(random) }).collect();
        let hits = [0, 1, 2, 5_000, u64::from(u32::MAX) + 9, u64::MAX];
        let limit = (random.random_range(0..8) == 0).then(|| RateLimitOverride {
            requests_per_unit: random.random_range(0..10) * random.random_range(0..400_000_000),
            unit: random.random_range(-1..12),
        });
        let hits_addend = (random.random_range(0..4) == 0).then(|| *hits.choose(random).expect("hits"));
        RateLimitDescriptor {
            entries,
            limit,
            hits_addend: hits_addend.map(|value| UInt64Value { value }),
            ..RateLimitDescriptor::default()
        }
    });
    let descriptors = descriptors.collect();
    let domain = if random.random_range(0..20) > 0 { "api".to_owned() } else { word(random) };
    RateLimitRequest { domain, descriptors, hits_addend: [0, 1, 7, u32::MAX][random.random_range(0..4)] }
}

/// A call's body: one in ten is damaged on the way.
fn body(random: &mut SmallRng) -> Bytes {
    let message = request(random).encode_to_vec();
    let mut bytes = vec![0];
    bytes.extend(u32::try_from(message.len()).expect("small").to_be_bytes());
    bytes.extend(message);
    if random.random_range(0..10) == 0 {
        for _ in 0..random.random_range(1..5) {
            let at = random.random_range(0..bytes.len());
            bytes[at] = random.random();
        }
        if random.random_range(0..4) == 0 {
            bytes.truncate(random.random_range(0..bytes.len()));
        }
    }
    bytes.into()
}

async fn connect(tollgate: &Tollgate) -> SendRequest<Full<Bytes>> {
    let stream = TcpStream::connect(tollgate.grpc).await.expect("it listens");
    // Else a body waits until the kernel has acknowledged its headers: 40 ms a request, however fast the answer.
    stream.set_nodelay(true).expect("TCP has it");
    let builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.expect("it speaks HTTP/2");
    tokio::spawn(connection);
    sender
}

/// The status that gRPC's answer carries, in its headers or its trailers.
async fn status(sender: &mut SendRequest<Full<Bytes>>, body: Bytes) -> String {
    let request = http::Request::post("http://tollgate/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Full::new(body))
        .expect("a request of constants");
    sender.ready().await.expect("the connection stays");
    let response = sender.send_request(request).await.expect("an answer");
    assert_eq!(response.status(), 200);
    let headers = response.headers().clone();
    let collected = response.into_body().collect().await.expect("a whole answer");
    let said = headers.get("grpc-status").or_else(|| collected.trailers().and_then(|found| found.get("grpc-status")));
    said.expect("gRPC says how it went").to_str().expect("a number").to_owned()
}

/// Asks `requests` times over two connections; every answer is a decision, or says what is wrong with the request.
async fn is_sound(tollgate: &Tollgate, requests: u64, seed: u64) {
    let decided = Arc::new(AtomicU64::new(0));
    let mut lanes = JoinSet::new();
    for connection in 0..2 {
        let sender = connect(tollgate).await;
        for lane in 0..LANES {
            let (mut sender, decided) = (sender.clone(), Arc::clone(&decided));
            let mut random = SmallRng::seed_from_u64(seed ^ (connection << 32 | lane << 40));
            lanes.spawn(async move {
                for _ in 0..requests / (2 * LANES) {
                    let body = body(&mut random);
                    match status(&mut sender, body.clone()).await.as_str() {
                        "0" => drop(decided.fetch_add(1, Relaxed)),
                        // INVALID_ARGUMENT, OUT_OF_RANGE, UNIMPLEMENTED (compressed) and INTERNAL (no protobuf).
                        "3" | "11" | "12" | "13" => {}
                        other => panic!("grpc-status {other} to {}", body.escape_ascii()),
                    }
                }
            });
        }
    }
    lanes.join_all().await;
    let (asked, decided) = (requests / (2 * LANES) * 2 * LANES, decided.load(Relaxed));
    assert!(decided > asked / 3, "only {decided} of {asked} made sense: this tests little");
    assert_eq!(tollgate.metric("tollgate_panics_total").await, 0.0, "{}", tollgate.process.log());
    assert!(!tollgate.process.log().contains("panicked"), "{}", tollgate.process.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_requests_are_answered_without_a_panic() {
    let (rules, redis) = (RulesDir::with("api.yaml", RULES), RedisServer::start());
    let (requests, seed) = (number("TOLLGATE_TEST_REQUESTS", REQUESTS), number("TOLLGATE_TEST_SEED", 1));
    let extras = [("RESPONSE_DYNAMIC_METADATA", "true"), ("LIMIT_RESPONSE_HEADERS_ENABLED", "true")];
    let in_memory = Tollgate::start_with(rules.path(), &extras).await;
    is_sound(&in_memory, requests / 2, seed).await;
    let url = redis.address();
    let with_redis = Tollgate::start_with(rules.path(), &[extras[0], extras[1], ("REDIS_URL", url.as_str())]).await;
    with_redis.redis_connections_are(REDIS_CONNECTIONS).await;
    is_sound(&with_redis, requests / 2, seed + 1).await;
}
