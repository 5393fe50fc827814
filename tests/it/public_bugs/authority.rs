//! Connections and streams that HTTP/2 or gRPC would refuse before the service sees the request.

use std::process::Command;

use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::Code as Verdict;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::harness::{
    App, Envoy, PATIENCE, Process, RulesDir, Tollgate, descriptor, eventually,
    raw_http2::{CONTINUATION, END_HEADERS, HEADERS, RawHttp2, answer, call, frame, message},
    request,
};

const TWO_AN_HOUR: &str = "domain: api\ndescriptors: [{key: user, rate_limit: 2/h}]\n";

/// Not refused, not refused, refused.
async fn two_are_admitted(envoy: &Envoy, what: &str) {
    let mut statuses = Vec::new();
    for _ in 0..3 {
        statuses.push(envoy.get("alice", "/").await.status);
    }
    assert_eq!(statuses, [200, 200, 429], "{what}");
}

#[tokio::test]
async fn limits_hold_where_envoy_sends_the_name_of_its_cluster_as_authority() {
    let app = App::start().await;
    for name in [
        "outbound|8081||ratelimit.default.svc.cluster.local",
        "ratelimit/ratelimit",
        "rate limit",
        "ratelimit:8081:grpc",
        "100%",
        "ratelimit@",
        "limits_of_\u{e4}ll",
    ] {
        let rules = RulesDir::with("api.yaml", TWO_AN_HOUR);
        let tollgate = Tollgate::start(rules.path()).await;
        let envoy = Envoy::start_naming(app.address, tollgate.grpc, name).await;
        two_are_admitted(&envoy, name).await;
        assert_eq!(tollgate.metric("tollgate_requests_total{code=\"over_limit\"}").await, 1.0, "{name}");
    }
}

#[tokio::test]
async fn limits_hold_for_a_client_of_google_that_sends_the_path_of_its_unix_socket_as_authority() {
    let rules = RulesDir::with("api.yaml", TWO_AN_HOUR);
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("toll gate.sock");
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
    command.env_clear().env("GRPC_UDS", &socket).env("TOLLGATE_RULES", rules.path());
    command.envs([("HOST", "127.0.0.1"), ("PORT", "0"), ("DEBUG_PORT", "0"), ("USE_PROMETHEUS", "false")]);
    let tollgate = Process::spawn("tollgate", &mut command);
    tollgate.line("its HTTP listener", |line| line.contains("listener=\"http\"").then_some(())).await;
    let app = App::start().await;
    let envoy = Envoy::start_google(app.address, &socket).await;
    two_are_admitted(&envoy, "google_grpc over unix:").await;
}

const PATH: &str = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";
const OUTBOUND: &str = "outbound|8081||ratelimit.default.svc.cluster.local";

fn put_text(out: &mut Vec<u8>, text: &[u8]) {
    assert!(text.len() < 127, "a length of one byte");
    out.push(text.len() as u8);
    out.extend_from_slice(text);
}

/// A whole block of a call; `authority` is the field as HPACK writes it.
fn block(authority: &[u8]) -> Vec<u8> {
    let mut out = vec![0x83, 0x86];
    out.extend_from_slice(authority);
    out.push(0x04);
    put_text(&mut out, PATH.as_bytes());
    // `content-type`, by its name's place in the static table.
    out.extend([0x0f, 0x10]);
    put_text(&mut out, b"application/grpc");
    out
}

/// By the name's place in the static table, or by the name itself; to be added to the table, not to be, or never.
fn fields(authority: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    for (how, by_place, by_name) in [("added", 0x41, 0x40), ("not added", 0x01, 0x00), ("never added", 0x11, 0x10)] {
        let mut field = vec![by_place];
        put_text(&mut field, authority);
        all.push((format!("{how}, by place"), field));
        let mut field = vec![by_name];
        put_text(&mut field, b":authority");
        put_text(&mut field, authority);
        all.push((format!("{how}, by name"), field));
    }
    all
}

fn ask(user: &str) -> Vec<u8> {
    message(&request("api", vec![descriptor(&[("user", user)])]))
}

#[tokio::test]
async fn calls_are_answered_whatever_bytes_their_authority_has_and_however_it_is_written() {
    let rules = RulesDir::with("api.yaml", TWO_AN_HOUR);
    let tollgate = Tollgate::start(rules.path()).await;
    let long = "|".repeat(100);
    let authorities: [&[u8]; 9] = [
        OUTBOUND.as_bytes(),
        b"a/b",
        b"a b",
        b"a:b:c",
        b"%2Ftmp%2Fgrpc.sock",
        b"/tmp/grpc.sock",
        b"\xff\xfe\x00\n",
        b"@",
        long.as_bytes(),
    ];
    for (nth, authority) in authorities.into_iter().enumerate() {
        for (how, field) in fields(authority) {
            let what = format!("{}, {how}", authority.escape_ascii());
            let mut raw = RawHttp2::connect(tollgate.grpc).await;
            // A field of its own before and behind it, added to the table: both must be found there by the next call.
            let mut first = vec![0x83, 0x86];
            first.extend_from_slice(&field);
            first.push(0x44);
            put_text(&mut first, PATH.as_bytes());
            first.extend([0x5f]);
            put_text(&mut first, b"application/grpc");
            // The newest is 62.
            let is_added = how.starts_with("added");
            let mut second = vec![0x83, 0x86];
            second.extend(if is_added { vec![0xc0] } else { field.clone() });
            second.extend([0xbf, 0xbe]);
            let user = format!("{nth} {how}");
            let bytes = [
                raw.whole_call(&first, &ask(&user)),
                raw.whole_call(&second, &ask(&user)),
                raw.whole_call(&block(&field), &ask(&user)),
            ]
            .concat();
            raw.send(&bytes).await;
            let outcomes = timeout(PATIENCE, raw.outcomes(3)).await.expect("they are answered");
            let codes: Vec<_> = outcomes.values().map(|outcome| answer(outcome).overall_code()).collect();
            let count = |of| codes.iter().filter(|code| **code == of).count();
            assert_eq!((count(Verdict::Ok), count(Verdict::OverLimit)), (2, 1), "{what}: {codes:?}");
        }
    }
    assert_eq!(tollgate.metric("tollgate_requests_total{code=\"over_limit\"}").await, 54.0);
}

#[tokio::test]
async fn calls_are_answered_however_their_headers_are_cut_into_frames_and_packets() {
    const PADDED: u8 = 8;
    const PRIORITY: u8 = 0x20;
    let rules = RulesDir::with("api.yaml", TWO_AN_HOUR);
    let tollgate = Tollgate::start(rules.path()).await;
    let (_, field) = fields(OUTBOUND.as_bytes()).swap_remove(0);
    let block = block(&field);
    for cut in 1..block.len() {
        let (first, rest) = block.split_at(cut);
        let mut raw = RawHttp2::connect(tollgate.grpc).await;
        let stream = raw.next_stream();
        // Padding of three bytes, and a priority that depends on no stream.
        let padded = [&[3, 0, 0, 0, 0, 16][..], first, &[0; 3]].concat();
        let mut bytes = frame(HEADERS, PADDED | PRIORITY, stream, &padded);
        bytes.extend(frame(CONTINUATION, END_HEADERS, stream, rest));
        bytes.extend(frame(0, 1, stream, &ask(&format!("cut at {cut}"))));
        for packet in bytes.chunks(cut) {
            raw.send(packet).await;
        }
        let outcomes = timeout(PATIENCE, raw.outcomes(1)).await.expect("it is answered");
        let outcome = outcomes.values().next().unwrap_or_else(|| panic!("cut at {cut}: the connection ended"));
        assert_eq!(answer(outcome).overall_code(), Verdict::Ok, "cut at {cut}");
    }
}

#[tokio::test]
async fn a_client_with_60_kib_of_headers_that_tracing_passes_on_is_still_limited() {
    let rules = RulesDir::with("api.yaml", TWO_AN_HOUR);
    let tollgate = Tollgate::start(rules.path()).await;
    let mut raw = RawHttp2::connect(tollgate.grpc).await;
    let mut bytes = Vec::new();
    for _ in 0..3 {
        let block = call(&[("tracestate", &"x".repeat(60_000))]);
        let stream = raw.next_stream();
        let parts: Vec<&[u8]> = block.chunks(16 << 10).collect();
        for (nth, part) in parts.iter().enumerate() {
            let kind = if nth == 0 { HEADERS } else { CONTINUATION };
            let flags = if nth + 1 == parts.len() { END_HEADERS } else { 0 };
            bytes.extend(frame(kind, flags, stream, part));
        }
        bytes.extend(frame(0, 1, stream, &ask("alice")));
    }
    raw.send(&bytes).await;
    let outcomes = timeout(PATIENCE, raw.outcomes(3)).await.expect("they are answered");
    let codes: Vec<_> = outcomes.values().map(|outcome| answer(outcome).overall_code()).collect();
    assert_eq!(codes, [Verdict::Ok, Verdict::Ok, Verdict::OverLimit]);
}

async fn refused(tollgate: &Tollgate, reason: &str, times: f64) {
    let series = format!("tollgate_refused_streams_total{{reason=\"{reason}\"}}");
    eventually(&series, || async { (tollgate.metric(&series).await == times).then_some(()) }).await;
    let line = tollgate.process.line(reason, |line| {
        let line: serde_json::Value = serde_json::from_str(line).ok()?;
        (line["level"] == "WARN" && line["reason"] == reason).then(|| line["message"].as_str().map(str::to_owned))?
    });
    let line = line.await;
    assert!(line.contains("rejected before any limit was checked") && line.len() > 120, "{line}");
}

#[tokio::test]
async fn whatever_is_refused_before_the_service_sees_it_is_counted_by_its_reason_and_logged_with_what_to_change() {
    let rules = RulesDir::with("api.yaml", TWO_AN_HOUR);
    let tollgate = Tollgate::start(rules.path()).await;
    let mut raw = RawHttp2::connect(tollgate.grpc).await;
    let grpc = |path: &str, kind: &str| {
        let mut out = vec![0x83, 0x86, 0x04];
        put_text(&mut out, path.as_bytes());
        out.extend([0x0f, 0x10]);
        put_text(&mut out, kind.as_bytes());
        out
    };
    let changed = |at: usize, to: u8| {
        let mut body = ask("alice");
        body[at] = to;
        body
    };
    let good = grpc(PATH, "application/grpc");
    let v2 = "/envoy.service.ratelimit.v2.RateLimitService/ShouldRateLimit";
    let mut bytes = Vec::new();
    // An authority without a byte; no scheme; a path that is none; `connection`.
    bytes.extend(raw.whole_call(&block(&[0x01, 0]), &ask("alice")));
    bytes.extend(raw.whole_call(&[0x83, 0x84], &ask("alice")));
    bytes.extend(raw.whole_call(&grpc("no path", "application/grpc"), &ask("alice")));
    bytes.extend(raw.whole_call(&[&good[..], &[0, 10], b"connection", &[1], b"x"].concat(), &ask("alice")));
    bytes.extend(raw.whole_call(&grpc(PATH, "application/json"), b"{}"));
    bytes.extend(raw.whole_call(&grpc(v2, "application/grpc"), &ask("alice")));
    bytes.extend(raw.whole_call(&good, &changed(4, 9)));
    bytes.extend(raw.whole_call(&good, &ask("alice")));
    raw.send(&bytes).await;
    let outcomes = timeout(PATIENCE, raw.outcomes(8)).await.expect("each has an outcome");
    assert_eq!(answer(&outcomes[&15]).overall_code(), Verdict::Ok, "the connection goes on");
    for (reason, times) in
        [("authority", 1.0), ("malformed", 3.0), ("content_type", 1.0), ("unknown_method", 1.0), ("message", 1.0)]
    {
        refused(&tollgate, reason, times).await;
    }
}

#[tokio::test]
async fn streams_beyond_the_bound_messages_and_headers_beyond_theirs_and_broken_connections_are_counted_too() {
    let rules = RulesDir::with("api.yaml", TWO_AN_HOUR);
    let tollgate = Tollgate::start(rules.path()).await;
    // Each of the first is there until the timeout.
    let mut raw = RawHttp2::connect(tollgate.grpc).await;
    raw.begin_calls(4_100, false).await;
    refused(&tollgate, "too_many_streams", 4.0).await;

    let mut raw = RawHttp2::connect(tollgate.grpc).await;
    raw.begin_call_with_header(100_000).await;
    refused(&tollgate, "headers_too_large", 1.0).await;

    let refusing = tollgate.client().ask(request("x".repeat(5 << 20).as_str(), Vec::new())).await;
    assert_eq!(refusing.expect_err("too long").code(), tonic::Code::OutOfRange);
    refused(&tollgate, "message_too_large", 1.0).await;

    // A frame on a stream that a client may not open.
    let mut raw = RawHttp2::connect(tollgate.grpc).await;
    raw.send(&frame(HEADERS, END_HEADERS, 2, &call(&[]))).await;
    timeout(PATIENCE, raw.ended()).await.expect("the connection ends");
    refused(&tollgate, "connection", 1.0).await;
}

#[tokio::test]
async fn clusters_without_http2_or_with_tls_on_a_listener_without_are_told_apart() {
    let rules = RulesDir::with("api.yaml", TWO_AN_HOUR);
    let tollgate = Tollgate::start(rules.path()).await;
    let mut hello = vec![0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];
    hello.resize(200, 7);
    let http1 = format!("POST {PATH} HTTP/1.1\r\nhost: a\r\ncontent-type: application/grpc\r\n\r\n");
    for (bytes, reason) in [(http1.as_bytes(), "http1"), (&hello, "tls")] {
        let mut stream = TcpStream::connect(tollgate.grpc).await.expect("it listens");
        stream.write_all(bytes).await.expect("it takes what is sent");
        let mut rest = Vec::new();
        // A reset is an end too.
        let _ = timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("the connection ends");
        refused(&tollgate, reason, 1.0).await;
    }
    assert_eq!(tollgate.metric("tollgate_broken_connections_total{listener=\"grpc\"}").await, 2.0);
}
