//! Everything that reads bytes from outside, as functions of bytes: what the fuzz targets call, and the tests that replay
//! their corpora. Each says by a panic that something is wrong. No other code may use it.

use std::{cell::OnceCell, path::PathBuf, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use bytes::Bytes;
use futures_util::FutureExt;
use http_body_util::Full;

use crate::{
    limit::{Algorithm, CountDenied, Entry, FailurePolicy, UnixMicros},
    limiter::{Degraded, Limiter, Modes, Snapshot},
    metrics::{Meters, Metrics},
    rules::{self, Defaults, Load, Source, Sources},
    service::{self, OwnPlaces, RateLimit},
    settings::{OverloadSettings, ResponseSettings},
    store::{
        Store,
        memory::{Memory, MemorySettings},
    },
};

/// Rules with a bit of everything, for requests to meet.
const RULES: &str = include_str!("fuzz/rules.yaml");

/// Whatever a rule file holds, it is rules or problems, each with words and a place.
pub fn rules(bytes: &[u8]) {
    let load = load(bytes, Vec::new());
    for problem in load.problems.iter() {
        assert!(!problem.render().is_empty());
    }
    for domain in load.rules.domains() {
        for (key, value) in [("user", "alice"), ("", ""), ("path", "/a/b")] {
            let entries = [Entry { key, value }];
            let (explained, steps) = load.rules.explain(domain.name(), &entries);
            let found = load.rules.find(domain.name(), &entries);
            assert_eq!(std::mem::discriminant(&explained), std::mem::discriminant(&found));
            assert!(steps.len() <= entries.len() + 1, "a step for each entry at most");
        }
    }
}

/// The same for a file of overrides, read as CSV by a rule that names it.
pub fn override_csv(bytes: &[u8]) {
    let rule = b"domain: api\ndescriptors:\n  - key: user\n    rate_limit: 5/s\n    overrides_from: [users.csv]\n";
    let overrides = Source { path: PathBuf::from("users.csv"), bytes: bytes.to_vec() };
    let load = load(rule, vec![overrides]);
    assert!(load.problems.has_errors() || load.rules.domain("api").is_some());
}

/// One call's bytes as they come over HTTP/2: gRPC's framing, protobuf, and the decision.
pub fn grpc_request(bytes: &[u8]) {
    let request = http::Request::post("/")
        .header("content-type", "application/grpc")
        .body(Full::new(Bytes::copy_from_slice(bytes)))
        .expect("a request of constants");
    let answered = with_service(|service| service.call(request, &OwnPlaces::default()).now_or_never());
    assert!(answered.is_some(), "a decision in memory waits for nothing");
}

/// A body of `/json`, and the answer as JSON.
pub fn json(bytes: &[u8]) {
    let Ok(request) = service::json_request(bytes) else { return };
    let answered = with_service(|service| service.answer(&request, None).now_or_never());
    if let Ok(response) = answered.expect("a decision in memory waits for nothing") {
        let body = service::json_response(&response);
        serde_json::from_slice::<serde_json::Value>(&body).expect("what is answered is JSON");
    }
}

/// An answer of Redis.
pub fn redis_reply(bytes: &[u8]) {
    crate::store::redis::take_apart(bytes);
}

fn load(bytes: &[u8], overrides: Vec<Source>) -> Load {
    let file = Source { path: PathBuf::from("api.yaml"), bytes: bytes.to_vec() };
    rules::load(&Sources { files: vec![file], overrides, ..Sources::default() }, &Defaults::default(), None)
}

/// A service on the memory store, kept, as a process keeps it.
fn with_service<T>(ask: impl FnOnce(&RateLimit) -> T) -> T {
    thread_local! { static SERVICE: OnceCell<RateLimit> = const { OnceCell::new() } }
    SERVICE.with(|kept| ask(kept.get_or_init(new_service)))
}

fn new_service() -> RateLimit {
    let load = load(RULES.as_bytes(), Vec::new());
    assert!(!load.problems.has_errors(), "{:?}", load.problems);
    let meters = Meters::new(&load.rules, None);
    let (rules, problems, kept) = (load.rules, load.problems, load.kept);
    let snapshot = Snapshot { version: 1, rules, meters, problems, kept, loaded_at: UnixMicros(0) };
    let memory = || Arc::new(Memory::new(MemorySettings { max_bytes: 16 << 20 }));
    let modes = Modes {
        shadow: false,
        quota: false,
        algorithm: Algorithm::SlidingWindow,
        count_denied: CountDenied::Auto,
        on_store_failure: FailurePolicy::Local,
        notes: true,
    };
    let snapshot = Arc::new(ArcSwap::from_pointee(snapshot));
    let degraded = Arc::new(Degraded::new(memory(), 1));
    let metrics = Arc::new(Metrics::default());
    let limiter = Limiter::new(snapshot, Store::Memory(memory()), degraded, modes, metrics);
    let responses = ResponseSettings {
        retry_after_header: Some("retry-after".to_owned()),
        dynamic_metadata: true,
        ..ResponseSettings::default()
    };
    let bounds = OverloadSettings {
        in_flight_max: 16,
        grpc_connections_max: 1,
        http_connections_max: 1,
        client_timeout: Duration::from_secs(1),
        grpc_ping_interval: Duration::ZERO,
    };
    RateLimit::new(limiter, Duration::from_secs(1), &responses, &bounds)
}
