//! Traces, as a collector gets them: over gRPC and over HTTP, from callers that speak W3C or B3, with a Redis and
//! without, and while nobody takes them. The collector reads them by OpenTelemetry's own messages.

mod collector;

use std::collections::BTreeMap;

use tonic::Code;

pub(crate) use self::collector::Collector;
use self::collector::Span;
use crate::{
    harness::{REDIS_CONNECTIONS, RulesDir, Tollgate, descriptor, eventually, get, post, request},
    redis_server::{RedisServer, certificates},
    xds::server_tls,
};

const RULES: &str = "
domain: api
descriptors:
  - {key: user, rate_limit: {unit: day, requests_per_unit: 2}}
";

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

async fn tollgate(collector: &Collector, env: &[(&str, &str)]) -> (Tollgate, RulesDir) {
    let rules = RulesDir::with("api.yaml", RULES);
    let endpoint = format!("http://{}", collector.address);
    let own =
        [("TRACING_ENABLED", "true"), ("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint), ("OTEL_BSP_SCHEDULE_DELAY", "20")];
    (Tollgate::start_with(rules.path(), &[&own, env].concat()).await, rules)
}

/// One request for alice, whose code is the answer's.
async fn ask(tollgate: &Tollgate, headers: &[(&'static str, &str)]) -> Code {
    let mut asked = tonic::Request::new(request("api", vec![descriptor(&[("user", "alice")])]));
    for (name, value) in headers {
        asked.metadata_mut().insert(*name, value.parse().expect("a header"));
    }
    tollgate.client().ask(asked).await.map_or_else(|status| status.code(), |_| Code::Ok)
}

/// Waits until so many spans are counted as sent: that is after the collector's answer.
async fn sent(tollgate: &Tollgate, spans: f64) {
    eventually("the count of spans", || async {
        (tollgate.metric("tollgate_trace_spans_sent_total").await == spans).then_some(())
    })
    .await;
}

fn by_name(spans: Vec<Span>) -> BTreeMap<String, Span> {
    spans.into_iter().map(|span| (span.name.clone(), span)).collect()
}

const CALL: &str = "envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";

#[tokio::test]
async fn a_call_is_told_over_http_as_a_part_of_its_callers_trace() {
    let mut collector = Collector::http().await;
    let env = [("TRACING_SERVICE_NAME", "limits"), ("OTEL_EXPORTER_OTLP_HEADERS", "api-key=hunter2")];
    let (tollgate, _rules) = tollgate(&collector, &env).await;
    let parent = format!("00-{TRACE}-{PARENT}-01");
    for _ in 0..3 {
        assert_eq!(ask(&tollgate, &[("traceparent", &parent), ("tracestate", "vendor=1")]).await, Code::Ok);
    }

    let received = collector.spans(6).await;
    assert_eq!(received.path, "/v1/traces");
    assert_eq!(received.headers["api-key"], "hunter2");
    assert_eq!(received.headers["content-type"], "application/x-protobuf");
    assert_eq!(received.resource["service.name"], "limits");
    assert!(!received.resource["service.instance.id"].is_empty());
    assert!(received.spans.iter().all(|span| span.trace_id == TRACE && span.trace_state == "vendor=1"));

    let calls: Vec<&Span> = received.spans.iter().filter(|span| span.name == CALL).collect();
    let executions: Vec<&Span> =
        received.spans.iter().filter(|span| span.name == "ShouldRateLimit Execution").collect();
    assert_eq!((calls.len(), executions.len()), (3, 3));
    for call in &calls {
        assert_eq!((call.parent.as_str(), call.kind), (PARENT, 2), "a server's span, of the caller's");
        assert_eq!((call.of("rpc.system"), call.of("rpc.grpc.status_code")), ("grpc", "0"));
        let execution = executions.iter().find(|span| span.parent == call.id).expect("its decision");
        assert!(call.began <= execution.began && execution.ended <= call.ended, "{call:?} {execution:?}");
        assert_eq!(execution.of("domain"), "api");
        assert!(execution.of("request string").contains(r#"entries:{key:"user" value:"alice"}"#));
    }
    let mut codes: Vec<&str> = executions.iter().map(|span| span.of("tollgate.code")).collect();
    codes.sort_unstable();
    assert_eq!(codes, ["OK", "OK", "OVER_LIMIT"]);
    let denied = executions.iter().find(|span| span.of("tollgate.code") == "OVER_LIMIT").unwrap();
    assert_eq!(denied.of("tollgate.denied_by"), "api/user");
    assert!(!tollgate.process.log().contains("hunter2"), "a secret is in the log");
}

#[tokio::test]
async fn with_redis_the_question_and_its_batch_are_told_over_grpc() {
    let mut collector = Collector::grpc().await;
    let redis = RedisServer::start();
    let url = redis.address();
    let env = [("TRACING_EXPORTER_PROTOCOL", "grpc"), ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"), ("REDIS_URL", &*url)];
    let (tollgate, _rules) = tollgate(&collector, &env).await;
    tollgate.redis_connections_are(REDIS_CONNECTIONS).await;
    assert_eq!(ask(&tollgate, &[]).await, Code::Ok);

    let spans = by_name(collector.spans(4).await.spans);
    let [call, execution, question, batch] =
        [CALL, "ShouldRateLimit Execution", "Redis Pipeline Execution", "Redis Batch"].map(|name| &spans[name]);
    assert_eq!(call.parent, "", "it begins here");
    assert_eq!([&execution.parent, &question.parent, &batch.parent], [&call.id, &execution.id, &question.id]);
    assert_eq!((question.kind, batch.kind), (3, 3), "a client's spans");
    assert_eq!((question.of("pipeline length"), question.of("perSecondPipeline length")), ("1", "0"));
    assert_eq!((batch.of("tollgate.batch.requests"), batch.of("tollgate.batch.counters")), ("1", "1"));
    sent(&tollgate, 4.0).await;
}

#[tokio::test]
async fn b3_is_heard_in_one_header_and_in_several() {
    let mut collector = Collector::http().await;
    let (tollgate, _rules) = tollgate(&collector, &[("TRACING_SAMPLING_RATE", "0")]).await;
    // The sampler follows none by itself, so what comes was asked for by the caller.
    assert_eq!(ask(&tollgate, &[]).await, Code::Ok);
    assert_eq!(ask(&tollgate, &[("b3", &format!("{TRACE}-{PARENT}-0"))]).await, Code::Ok);
    assert_eq!(ask(&tollgate, &[("b3", &format!("{TRACE}-{PARENT}-1"))]).await, Code::Ok);
    let one = by_name(collector.spans(2).await.spans);
    assert_eq!((one[CALL].trace_id.as_str(), one[CALL].parent.as_str()), (TRACE, PARENT));

    let several = [("x-b3-traceid", "a3ce929d0e0e4736"), ("x-b3-spanid", PARENT), ("x-b3-sampled", "1")];
    assert_eq!(ask(&tollgate, &several).await, Code::Ok);
    let next = by_name(collector.spans(2).await.spans);
    assert_eq!(next[CALL].trace_id, "0000000000000000a3ce929d0e0e4736");
    // Of the other two nothing is told.
    sent(&tollgate, 4.0).await;
}

#[tokio::test]
async fn json_is_told_too() {
    let mut collector = Collector::http().await;
    let (tollgate, _rules) = tollgate(&collector, &[]).await;
    let body = r#"{"domain": "api", "descriptors": [{"entries": [{"key": "user", "value": "alice"}]}]}"#;
    assert_eq!(post(tollgate.http, "/json", body).await.expect("an answer").status, 200);
    let spans = by_name(collector.spans(3).await.spans);
    let rest = &spans["NewJsonHandler Remaining Execution"];
    assert!(rest.of("response").contains("\"overallCode\":\"OK\""), "{rest:?}");
    assert_eq!(rest.parent, spans["/json"].id);
    assert_eq!(spans["/json"].of("http.response.status_code"), "200");
}

#[tokio::test]
async fn a_collector_that_is_away_costs_requests_nothing_and_is_said_once() {
    let mut collector = Collector::http().await;
    collector.stop();
    let env = [("OTEL_BSP_MAX_QUEUE_SIZE", "8"), ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "4")];
    let (mut tollgate, _rules) = tollgate(&collector, &env).await;
    for _ in 0..20 {
        assert_eq!(ask(&tollgate, &[]).await, Code::Ok);
    }
    let away = "can't send spans";
    tollgate.process.line("that the collector is away", |line| line.contains(away).then_some(())).await;
    // 40 spans, of which eight may wait and four be tried again.
    let dropped = tollgate.metric("tollgate_trace_spans_dropped_total").await;
    assert!(dropped >= 28.0, "{dropped}");
    assert!(get(tollgate.http, "/healthcheck", &[]).await.expect("an answer").status == 200);

    tollgate.process.signal("TERM");
    tollgate.process.end().await;
    let log = tollgate.process.log();
    assert_eq!(log.matches(away).count(), 1, "{log}");
    assert!(log.contains("the last spans were dropped") && log.contains("\"stopped\""), "{log}");
}

#[tokio::test]
async fn what_waits_is_sent_at_the_end() {
    let mut collector = Collector::http().await;
    let (mut tollgate, _rules) = tollgate(&collector, &[("OTEL_BSP_SCHEDULE_DELAY", "3600000")]).await;
    assert_eq!(ask(&tollgate, &[]).await, Code::Ok);
    tollgate.process.signal("TERM");
    tollgate.process.end().await;
    assert_eq!(collector.spans(2).await.spans.len(), 2);
    assert!(!tollgate.process.log().contains("are lost"));
}

#[tokio::test]
async fn a_collector_that_refuses_is_not_asked_again() {
    let mut collector = Collector::refusing(400).await;
    let (tollgate, _rules) = tollgate(&collector, &[]).await;
    assert_eq!(ask(&tollgate, &[]).await, Code::Ok);
    collector.spans(2).await;
    let said = |line: &str| line.contains("the collector refused spans").then_some(());
    tollgate.process.line("that the spans were refused", said).await;
    assert_eq!(tollgate.metric("tollgate_trace_spans_dropped_total").await, 2.0);
    assert_eq!(tollgate.metric("tollgate_trace_spans_sent_total").await, 0.0);
}

#[tokio::test]
async fn a_collector_with_tls_is_trusted_by_the_given_authority_only() {
    let certs = tempfile::tempdir().unwrap();
    certificates(certs.path());
    let of = |file: &str| certs.path().join(file).to_str().expect("temporary paths are text").to_owned();
    let [ca, cert, key] = ["ca.pem", "client.pem", "client.key"].map(of);
    let trusting = [("OTEL_EXPORTER_OTLP_CERTIFICATE", &*ca), ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")];

    let mut collector = Collector::https(certs.path()).await;
    let endpoint = format!("https://{}/otlp/v1/traces", collector.address);
    let to = [("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", &*endpoint)];
    let (strange, _rules) = tollgate(&collector, &to).await;
    assert_eq!(ask(&strange, &[]).await, Code::Ok);
    let untrusted = |line: &str| (line.contains("can't send spans") && line.contains("certificate")).then_some(());
    strange.process.line("that the certificate isn't trusted", untrusted).await;
    let (trusted, _rules) = tollgate(&collector, &[to.as_slice(), &trusting].concat()).await;
    assert_eq!(ask(&trusted, &[]).await, Code::Ok);
    let received = collector.spans(2).await;
    assert_eq!((received.path.as_str(), &*received.headers["content-encoding"]), ("/otlp/v1/traces", "gzip"));

    let mut collector = Collector::grpc_with_tls(server_tls(certs.path())).await;
    let endpoint = format!("https://{}", collector.address);
    let shown = [
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", &ca),
        ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", &cert),
        ("OTEL_EXPORTER_OTLP_CLIENT_KEY", &key),
    ];
    let (known, _rules) = tollgate(&collector, &shown).await;
    assert_eq!(ask(&known, &[]).await, Code::Ok);
    assert_eq!(collector.spans(2).await.spans.len(), 2);
}
