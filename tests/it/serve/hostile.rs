//! Clients that are slow, many, gone without a word or out for harm: each is bounded and counted, and the others are
//! answered all the while.

use std::{net::SocketAddr, time::Duration};

use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::Code as Verdict;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout},
};
use tollgate::front::api::{self, tollgate_client::TollgateClient};
use tonic::Code;

use super::PER_USER;
use crate::{
    harness::{
        ONE_MAY_WAIT, PATIENCE, REDIS_CONNECTIONS, RawHttp2, RulesDir, Tollgate, channel, descriptor, eventually, get,
        post, request,
    },
    redis_server::RedisServer,
};

async fn tollgate(env: &[(&str, &str)]) -> (RulesDir, Tollgate) {
    let rules = RulesDir::with("api.yaml", PER_USER);
    let tollgate = Tollgate::start_with(rules.path(), env).await;
    (rules, tollgate)
}

/// Short, for tests that wait for it; a busy machine only makes it longer.
const SOON: (&str, &str) = ("TOLLGATE_CLIENT_TIMEOUT", "300ms");

async fn open(at: SocketAddr, first: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(at).await.expect("it listens");
    stream.write_all(first).await.expect("it takes what is sent");
    stream
}

/// What comes until the server hangs up.
async fn rest(mut stream: TcpStream) -> String {
    let mut read = Vec::new();
    // A reset is an end too.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut read)).await.expect("the connection ends");
    String::from_utf8_lossy(&read).into_owned()
}

async fn counts(tollgate: &Tollgate, series: &str, at_least: f64) {
    eventually(series, || async { (tollgate.metric(series).await >= at_least).then_some(()) }).await;
}

#[tokio::test]
async fn http_clients_that_send_their_headers_or_bodies_byte_by_byte_are_not_waited_for() {
    let (_rules, tollgate) = tollgate(&[SOON]).await;
    let headers = open(tollgate.http, b"GET /livez HTTP/1.1\r\nhost: a\r\nx-slow: ").await;
    let body = open(tollgate.http, b"POST /json HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\n{").await;
    assert_eq!(get(tollgate.http, "/livez", &[]).await.expect("others are answered").status, 200);
    assert!(!rest(headers).await.contains("200 OK"));
    assert!(rest(body).await.starts_with("HTTP/1.1 400"), "a body that doesn't come is refused");
    counts(&tollgate, "tollgate_slow_clients_total{listener=\"http\"}", 2.0).await;
}

#[tokio::test]
async fn http_connections_beyond_the_bound_close_the_one_that_is_idle_longest() {
    let (_rules, tollgate) = tollgate(&[("TOLLGATE_MAX_HTTP_CONNECTIONS", "2")]).await;
    let (first, second) = (open(tollgate.http, b"").await, open(tollgate.http, b"").await);
    assert_eq!(get(tollgate.http, "/livez", &[]).await.expect("it is answered").status, 200);
    assert_eq!(rest(first).await, "");
    counts(&tollgate, "tollgate_refused_connections_total{listener=\"http\"}", 1.0).await;
    drop(second);
}

#[tokio::test]
async fn probes_are_answered_while_one_host_holds_more_silent_sockets_than_there_are_places() {
    let (_rules, tollgate) = tollgate(&[("TOLLGATE_MAX_HTTP_CONNECTIONS", "200")]).await;
    let mut silent = Vec::new();
    for nth in 0..300 {
        silent.push(open(tollgate.http, b"").await);
        if nth % 9 == 0 {
            for path in ["/livez", "/readyz", "/healthcheck"] {
                let answer = get(tollgate.http, path, &[]).await.unwrap_or_else(|error| panic!("{nth}: {error}"));
                assert_eq!(answer.status, 200, "{nth}");
            }
        }
    }
    // A quarter of the places is for one host, probes included.
    counts(&tollgate, "tollgate_refused_connections_total{listener=\"http\"}", 250.0).await;
}

#[tokio::test]
async fn probes_have_places_of_their_own_while_all_others_are_busy_and_nothing_else_has_those() {
    let (_rules, tollgate) = tollgate(&[("TOLLGATE_MAX_HTTP_CONNECTIONS", "16")]).await;
    let half = b"POST /json HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 100\r\n\r\n";
    let mut busy = Vec::new();
    for _ in 0..16 {
        let mut stream = open(tollgate.http, half).await;
        // Its body is waited for.
        let mut told = [0; 12];
        timeout(PATIENCE, stream.read_exact(&mut told)).await.expect("it is asked for").expect("and open");
        assert_eq!(&told, b"HTTP/1.1 100");
        busy.push(stream);
    }
    assert_eq!(post(tollgate.http, "/json", "{}").await.expect("an answer").status, 503);
    for _ in 0..34 {
        assert_eq!(get(tollgate.http, "/readyz", &[]).await.expect("an answer").status, 200);
    }
    assert_eq!(get(tollgate.http, "/v1/openapi.json", &[]).await.expect("an answer").status, 503);
    drop(busy);
    eventually("places", || async {
        (get(tollgate.http, "/v1/openapi.json", &[]).await.ok()?.status == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn silent_grpc_sockets_make_room_for_others_and_connections_in_use_do_not() {
    let env = [("TOLLGATE_MAX_GRPC_CONNECTIONS", "20"), ("TOLLGATE_MAX_CONNECTIONS_PER_PEER", "3")];
    let (_rules, tollgate) = tollgate(&env).await;
    let client = tollgate.client();
    assert!(client.admits("api", &[("user", "alice")]).await);
    let (first, _second) = (open(tollgate.grpc, b"").await, open(tollgate.grpc, b"PRI").await);
    assert!(tollgate.client().admits("api", &[("user", "alice")]).await, "another connection");
    assert_eq!(rest(first).await, "");
    assert!(client.admits("api", &[("user", "alice")]).await, "the one that was there first stays");
    counts(&tollgate, "tollgate_refused_connections_total{listener=\"grpc\"}", 1.0).await;
}

#[tokio::test]
async fn giant_headers_are_refused_and_others_served() {
    let (_rules, tollgate) = tollgate(&[]).await;
    let giant = format!("GET /livez HTTP/1.1\r\nhost: a\r\nx-giant: {}\r\n\r\n", "x".repeat(200_000));
    let mut stream = TcpStream::connect(tollgate.http).await.unwrap();
    let _ = stream.write_all(giant.as_bytes()).await;
    assert!(!rest(stream).await.contains("200 OK"));

    let client = tollgate.client();
    for bytes in [17_000, 200_000, 2_000_000] {
        let mut raw = RawHttp2::connect(tollgate.grpc).await;
        raw.begin_call_with_header(bytes).await;
        assert!(client.admits("api", &[("user", &bytes.to_string())]).await);
    }
    assert_eq!(get(tollgate.http, "/livez", &[]).await.unwrap().status, 200);
}

#[tokio::test]
async fn grpc_connections_that_say_nothing_or_answer_no_ping_are_ended() {
    let (_rules, tollgate) = tollgate(&[SOON, ("TOLLGATE_GRPC_PING_INTERVAL", "100ms")]).await;
    let client = tollgate.client();
    assert!(client.admits("api", &[("user", "alice")]).await);
    let silent = open(tollgate.grpc, b"PRI * HT").await;
    let mut half_open = RawHttp2::connect(tollgate.grpc).await;
    rest(silent).await;
    timeout(PATIENCE, half_open.ended()).await.expect("it answers no ping");
    counts(&tollgate, "tollgate_slow_clients_total{listener=\"grpc\"}", 2.0).await;
    assert!(client.admits("api", &[("user", "alice")]).await, "the client that answers its pings stays");
}

#[tokio::test]
async fn grpc_connections_beyond_the_bound_are_closed_and_those_within_served() {
    let (_rules, tollgate) = tollgate(&[("TOLLGATE_MAX_GRPC_CONNECTIONS", "2")]).await;
    let client = tollgate.client();
    assert!(client.admits("api", &[("user", "alice")]).await);
    let _second = RawHttp2::connect(tollgate.grpc).await;
    counts(&tollgate, "tollgate_grpc_connections", 2.0).await;
    for refused in 1..=20 {
        assert_eq!(rest(TcpStream::connect(tollgate.grpc).await.unwrap()).await, "");
        counts(&tollgate, "tollgate_refused_connections_total{listener=\"grpc\"}", f64::from(refused)).await;
    }
    assert!(client.admits("api", &[("user", "alice")]).await);
}

#[tokio::test]
async fn calls_whose_messages_never_come_are_bounded_and_end() {
    let (_rules, tollgate) = tollgate(&[SOON, ("TOLLGATE_MAX_IN_FLIGHT", "10")]).await;
    let mut raw = RawHttp2::connect(tollgate.grpc).await;
    // Sixteen may wait on any connection, and ten in all beside.
    raw.begin_calls(100, false).await;
    counts(&tollgate, "tollgate_shed_requests_total", 74.0).await;
    // A call that comes whole needs no place.
    assert!(tollgate.client().admits("api", &[("user", "alice")]).await);
    counts(&tollgate, "tollgate_slow_clients_total{listener=\"grpc\"}", 26.0).await;
}

#[tokio::test]
async fn a_hundred_thousand_streams_and_resets_in_bulk_leave_memory_bounded_and_others_served() {
    const CONNECTIONS: u32 = 25;
    const STREAMS: u32 = 4_000;
    let (_rules, tollgate) = tollgate(&[]).await;
    let client = tollgate.client();
    assert!(client.admits("api", &[("user", "before")]).await);
    let mut raws = Vec::new();
    for nth in 0..CONNECTIONS {
        let mut raw = RawHttp2::connect(tollgate.grpc).await;
        raw.begin_calls(STREAMS, false).await;
        assert!(client.admits("api", &[("user", &format!("streams {nth}"))]).await);
        raws.push(raw);
    }
    for nth in 0..5 {
        let mut raw = RawHttp2::connect(tollgate.grpc).await;
        raw.begin_calls(STREAMS, true).await;
        assert!(client.admits("api", &[("user", &format!("resets {nth}"))]).await);
        raws.push(raw);
    }
    let kb = tollgate.process.memory_kb("VmHWM");
    assert!(kb < 400 << 10, "{kb} kB at most; 140,000 were measured");
    assert_eq!(tollgate.metric("tollgate_panics_total").await, 0.0);
    // Whether a flood ends its connection depends on how fast it is read: streams that were taken up before their reset
    // came are ended like any other.
    drop(raws);
    eventually("the connections end", || async {
        (tollgate.metric("tollgate_grpc_connections").await == 1.0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn resets_beyond_those_that_may_wait_to_be_taken_up_end_their_connection_and_no_other() {
    const MAY_WAIT: u32 = 1_024;
    let (_rules, tollgate) = tollgate(&[]).await;
    let client = tollgate.client();
    assert!(client.admits("api", &[("user", "before")]).await);
    // All of it is there before the first byte is read, so that nothing can be taken up in between.
    tollgate.process.signal("STOP");
    let mut raw = RawHttp2::connect(tollgate.grpc).await;
    raw.reset_short_calls(MAY_WAIT + 1).await;
    tollgate.process.signal("CONT");
    timeout(PATIENCE, raw.ended()).await.expect("it is ended");
    counts(&tollgate, "tollgate_broken_connections_total{listener=\"grpc\"}", 1.0).await;
    assert!(client.admits("api", &[("user", "after")]).await);
}

#[tokio::test]
async fn requests_of_a_million_empty_parts_are_refused_before_they_are_decoded() {
    const MILLION: usize = 1_000_000;
    let (_rules, tollgate) = tollgate(&[]).await;
    let client = tollgate.client();
    let empty_entries = || {
        let mut one = descriptor(&[("user", "alice")]);
        one.entries.resize(MILLION, Default::default());
        one
    };
    for descriptors in [vec![descriptor(&[]); MILLION], vec![empty_entries()], vec![descriptor(&[]); 1_025]] {
        let refused = client.ask(request("api", descriptors)).await.expect_err("too many");
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    }
    for part in ["{}", r#"{"entries":[{}]}"#] {
        let body = format!(r#"{{"domain":"api","descriptors":[{}]}}"#, vec![part; 100_000].join(","));
        let refused = post(tollgate.http, "/json", body).await.expect("an answer");
        assert_eq!(refused.status, 400);
        assert!(refused.body.contains("more than 1024 descriptors"), "{refused:?}");
    }
    assert_eq!(tollgate.metric("tollgate_requests_total{code=\"invalid\"}").await, 5.0);
    let kb = tollgate.process.memory_kb("VmHWM");
    assert!(kb < 100 << 10, "{kb} kB at most");
    assert_eq!(client.ask(request("api", vec![descriptor(&[]); 1_024])).await.expect("answered").statuses.len(), 1_024);
}

/// One request may wait for Redis; a rule for each policy.
async fn one_may_wait(redis: &RedisServer) -> (RulesDir, Tollgate) {
    let mut text = String::from("domain: api\ndescriptors:\n");
    for policy in ["open", "closed", "error", "local"] {
        text += &format!(
            "  - key: {policy}\n    on_store_failure: {policy}\n    rate_limit: {{requests_per_unit: 1, unit: hour}}\n"
        );
    }
    let rules = RulesDir::with("api.yaml", &text);
    let url = redis.address();
    let env = [&[("REDIS_URL", url.as_str())][..], &ONE_MAY_WAIT].concat();
    let tollgate = Tollgate::start_with(rules.path(), &env).await;
    tollgate.redis_connections_are(REDIS_CONNECTIONS - 1.0).await;
    (rules, tollgate)
}

#[tokio::test]
async fn checks_beyond_those_that_may_wait_for_the_store_get_their_limits_policies_at_once() {
    let redis = RedisServer::start();
    let (_rules, tollgate) = one_may_wait(&redis).await;
    redis.freeze();
    let check = |policy: &str| {
        let body = json!({"descriptors": [{"entries": {policy: "a"}}]}).to_string();
        let http = tollgate.http;
        async move { post(http, "/v1/check", body).await.expect("an answer") }
    };
    let waiting = tokio::spawn(check("open"));
    counts(&tollgate, "tollgate_redis_batches_total", 1.0).await;
    let begun = Instant::now();
    for (policy, status) in [("open", 200), ("closed", 429), ("local", 200), ("local", 429), ("error", 503)] {
        let answer = check(policy).await;
        assert_eq!(answer.status, status, "{policy}: {answer:?}");
    }
    let closed = api::Descriptor { entries: vec![api::Entry { key: "closed".into(), value: "a".into() }], hits: None };
    let asked = api::CheckRequest { descriptors: vec![closed], ..api::CheckRequest::default() };
    let answer = TollgateClient::new(channel(tollgate.grpc)).check(asked).await.expect("denied").into_inner();
    assert_eq!((answer.allowed, &*answer.degraded), (false, "closed"));
    assert!(begun.elapsed() < Duration::from_secs(10), "none of them waited for the store");
    assert_eq!(tollgate.metric("tollgate_shed_requests_total").await, 6.0);
    redis.thaw();
    assert_eq!(waiting.await.unwrap().json()["degraded"], Value::Null, "the one that had a place is decided by Redis");
}

#[tokio::test]
async fn requests_beyond_those_that_may_wait_for_the_store_get_their_limits_policies_at_once() {
    let redis = RedisServer::start();
    let (_rules, tollgate) = one_may_wait(&redis).await;
    redis.freeze();
    let client = tollgate.client();
    let ask = |policy: &'static str| {
        let client = client.clone();
        async move { client.ask(request("api", vec![descriptor(&[(policy, "a")])])).await }
    };
    let waiting = tokio::spawn(ask("open"));
    counts(&tollgate, "tollgate_redis_batches_total", 1.0).await;
    let begun = Instant::now();
    assert_eq!(ask("open").await.expect("admitted").overall_code(), Verdict::Ok);
    assert_eq!(ask("closed").await.expect("denied").overall_code(), Verdict::OverLimit);
    assert_eq!(ask("local").await.expect("counted here").overall_code(), Verdict::Ok);
    assert_eq!(ask("local").await.expect("counted here").overall_code(), Verdict::OverLimit);
    assert_eq!(ask("error").await.expect_err("left to the caller").code(), Code::ResourceExhausted);
    assert!(begun.elapsed() < Duration::from_secs(10), "none of them waited for the store");
    assert_eq!(tollgate.metric("tollgate_shed_requests_total").await, 5.0);
    assert_eq!(tollgate.metric("tollgate_store_errors_total{kind=\"overloaded\"}").await, 5.0);
    redis.thaw();
    waiting.await.unwrap().expect("the one that had a place is decided by Redis");
    assert!(ask("closed").await.expect("decided").statuses[0].current_limit.is_some());
}
