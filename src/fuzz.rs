//! Everything that reads bytes from outside, as functions of bytes: what the fuzz targets call, and the tests that replay
//! their corpora. Each says by a panic that something is wrong. No other code may use it: it is only there with the feature
//! `fuzzing`, which the `fuzz` crate turns on, and in the unit tests.

#[cfg(test)]
mod tests;

use std::{cell::OnceCell, path::PathBuf, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use axum::Router;
use bytes::Bytes;
use futures_util::FutureExt;
use http_body_util::{BodyExt, Full};
use sha2::{Digest, Sha256};
use tokio::runtime::{self, Runtime};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::{
    front::{
        api::{self, Api, Authenticator, CallerLimits, Insight, Tokens},
        envoy::{self, CallContext, ClientConnection, RateLimit},
    },
    limit::{Entry, UnixMicros},
    limiter::{Budgets, Fallback, Limiter, Modes, Snapshot, decision_feed::DecisionFeed, top::TopLists},
    metrics::{Meters, Metrics},
    privacy::Privacy,
    rules::{self, Defaults, LoadedRules, LoadedTexts, Source, Sources},
    run_time::{
        RunTime,
        fleet::Fleet,
        overrides::Overrides,
        reset::{CounterStores, Resets},
    },
    settings::{OverloadSettings, ResponseSettings},
    store::{
        Store,
        deferred::DeferredCharges,
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
    let answered =
        with_service(|service| service.call(service.take(request), &ClientConnection::detached()).now_or_never());
    assert!(answered.is_some(), "a decision in memory waits for nothing");
}

/// A body of `/json`, and the answer as JSON.
pub fn json(bytes: &[u8]) {
    let Ok(request) = envoy::json_request(bytes) else { return };
    let answered = with_service(|service| service.answer(&request, CallContext::default()).now_or_never());
    if let Ok(response) = answered.expect("a decision in memory waits for nothing") {
        let body = envoy::json_response(&response);
        serde_json::from_slice::<serde_json::Value>(&body).expect("what is answered is JSON");
    }
}

/// A call of Tollgate's own interface by a token that may do all: method and path in the first line, the body behind it.
/// The answer is JSON, and whatever was asked is not the server's fault.
pub fn api(bytes: &[u8]) {
    thread_local! { static SERVED: OnceCell<(Runtime, Router)> = const { OnceCell::new() } }
    let mut parts = bytes.splitn(2, |byte| *byte == b'\n');
    let line = parts.next().and_then(|line| std::str::from_utf8(line).ok());
    let Some((method, path)) = line.and_then(|line| line.split_once(' ')) else { return };
    let request = http::Request::builder()
        .method(method)
        .uri(path)
        .header("authorization", "Bearer fuzz")
        .header("content-type", "application/json")
        .body(axum::body::Body::from(parts.next().unwrap_or_default().to_vec()));
    let Ok(request) = request else { return };
    let (status, body) = SERVED.with(|kept| {
        let (runtime, router) = kept.get_or_init(new_api);
        runtime.block_on(async {
            let Ok(response) = router.clone().oneshot(request).await;
            let status = response.status();
            (status, response.into_body().collect().await.expect("a body that is there").to_bytes())
        })
    });
    assert!(!status.is_server_error(), "{status}: {}", body.escape_ascii());
    if !body.is_empty() {
        serde_json::from_slice::<serde_json::Value>(&body).expect("what is answered is JSON");
    }
}

/// Two values, a line each: where they differ, so does what stands for them, and text that looks like no escape stands for
/// itself.
pub fn escape(bytes: &[u8]) {
    let mut lines = bytes.splitn(2, |byte| *byte == b'\n');
    let [one, other] = [lines.next(), lines.next()].map(Option::unwrap_or_default);
    let [shown, other_shown] = [one, other].map(crate::front::escape::bytes);
    assert_eq!(one == other, shown == other_shown, "{shown} and {other_shown}");
    if let Ok(text) = std::str::from_utf8(one) {
        assert_eq!(crate::front::escape::text(text), shown);
        assert!(shown == text || text.contains("\\x"), "{shown}");
    }
}

/// An answer of Redis.
pub fn redis_reply(bytes: &[u8]) {
    crate::store::redis::fuzz::reply(bytes);
}

fn load(bytes: &[u8], overrides: Vec<Source>) -> LoadedRules {
    let file = Source { path: PathBuf::from("api.yaml"), bytes: bytes.to_vec() };
    rules::load(&Sources { files: vec![file], overrides, ..Sources::default() }, &Defaults::default(), None)
}

/// A service on the memory store, kept, as a process keeps it.
fn with_service<T>(ask: impl FnOnce(&RateLimit) -> T) -> T {
    thread_local! { static SERVICE: OnceCell<RateLimit> = const { OnceCell::new() } }
    SERVICE.with(|kept| ask(kept.get_or_init(new_service)))
}

fn new_api() -> (Runtime, Router) {
    let runtime = runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let token = format!("fuzz:{:x}:*", Sha256::digest("fuzz"));
    let tokens = Arc::new(ArcSwap::from_pointee(Tokens::parse(&token).expect("a line as it should be")));
    let limiter = new_limiter();
    let overrides = Arc::new(Overrides::in_process(None).expect("in memory it can't fail"));
    overrides.prepare(&limiter.snapshot().rules);
    let fallback = Arc::new(Memory::new(MemorySettings::default()));
    let deferred = Arc::new(DeferredCharges::new(UnixMicros(0)));
    let resets = Resets { stores: CounterStores::Memory(Arc::clone(&fallback)), fallback, deferred };
    let top = TopLists::new(1 << 20, 1, Privacy::default());
    let (privacy, feed) = (Privacy::default(), Arc::new(DecisionFeed::new(Privacy::default())));
    let insight = Insight { fleet: "fuzz".into(), history: Arc::default(), top: top.clone(), privacy, feed };
    let limiter = limiter.with_top(top.map(|lists| lists.core()));
    let api = Api {
        limiter: limiter.with_run_time(RunTime {
            overrides,
            resets,
            fleet: Arc::new(Fleet::of_one("fuzz")),
            reloads: Arc::default(),
        }),
        store_timeout: Duration::from_secs(1),
        default_domain: None,
        caller_limits: CallerLimits::new(Duration::from_secs(3_600), 100),
        authenticator: Authenticator::new(Some(tokens), false),
        admission: Arc::new(envoy::AdmissionControl::new(&bounds())),
        insight: Arc::new(insight),
        ending: CancellationToken::new(),
    };
    (runtime, api::router(Arc::new(api)))
}

fn new_service() -> RateLimit {
    let responses = ResponseSettings {
        retry_after_header: Some("retry-after".to_owned()),
        dynamic_metadata: true,
        ..ResponseSettings::default()
    };
    RateLimit::new(new_limiter(), Duration::from_secs(1), &responses, &bounds())
}

fn bounds() -> OverloadSettings {
    OverloadSettings {
        in_flight_max: 16,
        grpc_connections_max: 1,
        http_connections_max: 1,
        peer_connections_max: None,
        client_timeout: Duration::from_secs(1),
        grpc_ping_interval: Duration::ZERO,
    }
}

fn new_limiter() -> Limiter {
    let load = load(RULES.as_bytes(), Vec::new());
    assert!(!load.problems.has_errors(), "{:?}", load.problems);
    let meters = Meters::new(&load.rules, None);
    let budgets = Budgets::new(&load.rules, None);
    let (rules, problems, kept) = (load.rules, load.problems, load.kept_domains);
    let snapshot = Snapshot {
        version: 1,
        rules,
        meters,
        budgets,
        problems,
        kept_domains: kept,
        texts: LoadedTexts::default(),
        loaded_at: UnixMicros(0),
    };
    let memory = || Arc::new(Memory::new(MemorySettings { max_bytes: 16 << 20 }));
    let modes = Modes { notes: true, ..Modes::default() };
    let snapshot = Arc::new(ArcSwap::from_pointee(snapshot));
    let degraded = Arc::new(Fallback::new(memory(), 1));
    let metrics = Arc::new(Metrics::default());
    Limiter::new(snapshot, Store::Memory(memory()), degraded, modes, metrics)
}
