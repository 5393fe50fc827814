//! Clients that do not take their answers.

use std::{net::SocketAddr, time::Duration};

use tokio::{task::JoinSet, time::timeout};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use crate::harness::{
    PATIENCE, RulesDir, Tollgate, channel, descriptor, eventually,
    raw_http2::{RawHttp2, call, frame, message},
    request,
};

const RULES: &str = "domain: api\ndescriptors: [{key: user, rate_limit: 5/h}]\n";

/// SETTINGS_INITIAL_WINDOW_SIZE.
const WINDOW: u16 = 4;

/// Short, for tests that wait for it; a busy machine only makes it longer.
const SOON: (&str, &str) = ("TOLLGATE_CLIENT_TIMEOUT", "500ms");

async fn tollgate(env: &[(&str, &str)]) -> (RulesDir, Tollgate) {
    let rules = RulesDir::with("api.yaml", RULES);
    let tollgate = Tollgate::start_with(rules.path(), env).await;
    (rules, tollgate)
}

fn ask() -> Vec<u8> {
    message(&request("api", vec![descriptor(&[("user", "alice")])]))
}

/// A connection with this window for each stream, and so many whole calls on it.
async fn asked(at: SocketAddr, window: u32, calls: u32) -> RawHttp2 {
    let mut raw = RawHttp2::connect(at).await;
    raw.settings(&[(WINDOW, window)]).await;
    let (block, body) = (call(&[]), ask());
    let mut bytes = Vec::new();
    for _ in 0..calls {
        bytes.extend(raw.whole_call(&block, &body));
    }
    raw.send(&bytes).await;
    raw
}

async fn counted(tollgate: &Tollgate, series: &str, at_least: f64) {
    eventually(series, || async { (tollgate.metric(series).await >= at_least).then_some(()) }).await;
}

const UNREAD: &str = "tollgate_refused_streams_total{reason=\"unread_answer\"}";
const SLOW: &str = "tollgate_slow_clients_total{listener=\"grpc\"}";
const OPEN: &str = "tollgate_grpc_connections";

#[tokio::test]
async fn connections_that_open_no_window_and_answer_every_ping_are_ended_and_others_served() {
    let (_rules, tollgate) = tollgate(&[SOON, ("TOLLGATE_GRPC_PING_INTERVAL", "100ms")]).await;
    let client = tollgate.client();
    let mut raw = asked(tollgate.grpc, 0, 100).await;
    // No call has an outcome, and pings are answered meanwhile: without an end this waits for ever.
    let outcomes = timeout(PATIENCE, raw.outcomes(1)).await.expect("the connection ends");
    assert!(outcomes.is_empty(), "{outcomes:?}");
    counted(&tollgate, UNREAD, 100.0).await;
    counted(&tollgate, SLOW, 1.0).await;
    assert!(client.admits("api", &[("user", "bob")]).await);
}

#[tokio::test]
async fn a_window_that_opens_a_byte_at_a_time_holds_no_answer_longer() {
    let (_rules, tollgate) = tollgate(&[SOON]).await;
    let mut raw = asked(tollgate.grpc, 1, 1).await;
    let trickling = async {
        loop {
            // WINDOW_UPDATE of the first stream.
            raw.send(&frame(8, 0, 1, &1u32.to_be_bytes())).await;
            if tollgate.metric(UNREAD).await == 1.0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    // An answer has some twenty bytes, so that it would take two seconds.
    timeout(PATIENCE, trickling).await.expect("the connection ends");
}

#[tokio::test]
async fn sockets_that_are_never_read_are_ended() {
    const CALLS: u32 = 3_000;
    // Long answers, as the kernel keeps some 3 MB of what isn't read.
    let env = [SOON, ("TOLLGATE_GRPC_PING_INTERVAL", "0"), ("RESPONSE_DYNAMIC_METADATA", "true")];
    let (_rules, tollgate) = tollgate(&env).await;
    let mut raw = RawHttp2::connect_narrow(tollgate.grpc).await;
    // As wide windows as there are, so that only the socket is in the way.
    raw.settings(&[(WINDOW, i32::MAX as u32)]).await;
    raw.send(&frame(8, 0, 0, &(i32::MAX as u32 - 65_535).to_be_bytes())).await;
    let (block, body) = (call(&[]), message(&request("api", vec![descriptor(&[("user", "alice")]); 20])));
    for nth in 0..CALLS {
        let bytes = raw.whole_call(&block, &body);
        raw.send(&bytes).await;
        if nth == 0 {
            // Then the server has widened its own window for all of the connection.
            counted(&tollgate, "tollgate_requests_total{code=\"over_limit\"}", 1.0).await;
        }
    }
    counted(&tollgate, UNREAD, 1.0).await;
    counted(&tollgate, SLOW, 1.0).await;
    eventually("it is gone", || async { (tollgate.metric(OPEN).await == 0.0).then_some(()) }).await;
}

#[tokio::test]
async fn hundreds_of_connections_that_take_nothing_hold_less_memory_than_its_bound_and_others_are_served() {
    const CONNECTIONS: usize = 200;
    const CALLS: u32 = 1_500;
    const MIB: u64 = 1 << 10;
    // With its own timeout: what is held is bounded before that.
    let (_rules, tollgate) = tollgate(&[]).await;
    let client = tollgate.client();
    assert!(client.admits("api", &[("user", "before")]).await);
    let mut held = JoinSet::new();
    for nth in 0..CONNECTIONS {
        held.spawn(asked(tollgate.grpc, 0, CALLS));
        if nth % 10 == 9 {
            assert!(client.admits("api", &[("user", &nth.to_string())]).await);
        }
    }
    let _raws = timeout(2 * PATIENCE, held.join_all()).await.expect("all is taken in");
    counted(&tollgate, "tollgate_requests_total{code=\"over_limit\"}", 100_000.0).await;
    let kb = tollgate.process.memory_kb("VmHWM");
    assert!(kb < 300 * MIB, "{kb} kB at most; 480 MB and more were held without a bound");
    assert!(tollgate.metric(UNREAD).await > 0.0);
    assert!(client.admits("api", &[("user", "after")]).await);
    assert_eq!(tollgate.metric("tollgate_panics_total").await, 0.0);
}

#[tokio::test]
async fn a_slow_client_that_takes_its_answers_is_not_hurt() {
    let (_rules, tollgate) = tollgate(&[SOON]).await;
    let mut raw = asked(tollgate.grpc, 0, 1).await;
    for nth in 0..20 {
        // Late, but well within the time.
        tokio::time::sleep(Duration::from_millis(100)).await;
        raw.send(&frame(8, 0, 2 * nth + 1, &100u32.to_be_bytes())).await;
        let outcomes = timeout(PATIENCE, raw.outcomes(1)).await.expect("an answer");
        assert!(outcomes[&(2 * nth + 1)].is_ok(), "the {nth}th");
        let bytes = raw.whole_call(&call(&[]), &ask());
        raw.send(&bytes).await;
    }
    assert_eq!((tollgate.metric(UNREAD).await, tollgate.metric(OPEN).await), (0.0, 1.0));
}

#[tokio::test]
async fn watches_of_health_are_no_unread_answers_and_are_bounded_all_the_same() {
    let (_rules, tollgate) = tollgate(&[SOON, ("TOLLGATE_MAX_IN_FLIGHT", "10"), ("TOLLGATE_WORKERS", "1")]).await;
    let mut health = HealthClient::new(channel(tollgate.grpc));
    let ask = || HealthCheckRequest { service: String::new() };
    let mut watches = Vec::new();
    // Sixteen of the connection's own, and ten of all.
    for _ in 0..26 {
        let mut watch = health.watch(ask()).await.expect("there is a place").into_inner();
        assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
        watches.push(watch);
    }
    assert_eq!(health.watch(ask()).await.expect_err("one too many").code(), tonic::Code::ResourceExhausted);
    assert!(HealthClient::new(channel(tollgate.grpc)).check(ask()).await.is_ok(), "another connection has its own");
    // Longer than an answer may wait.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(tollgate.metric(UNREAD).await, 0.0);
    drop(watches.pop());
    eventually("its place is free", || async { health.clone().watch(ask()).await.ok() }).await;
    tollgate.process.signal("TERM");
    for mut watch in watches {
        assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    }
}
