//! The other listeners and services: health over HTTP, JSON, reflection, the admin pages, metrics.

use std::{
    collections::BTreeSet,
    io::Write,
    process::{Command, Stdio},
};

use bytes::Bytes;
use prost::Message;
use prost_types::FileDescriptorProto;
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

use super::PER_USER;
use crate::harness::{RulesDir, Tollgate, aside, channel, descriptor, get, post, request, run_to_end, send};

async fn tollgate() -> (RulesDir, Tollgate) {
    let rules = RulesDir::with("api.yaml", PER_USER);
    let tollgate = Tollgate::start(rules.path()).await;
    (rules, tollgate)
}

#[tokio::test]
async fn http_says_that_it_is_healthy_live_and_ready() {
    let (_rules, tollgate) = tollgate().await;
    let healthy = get(tollgate.http, "/healthcheck", &[]).await.unwrap();
    assert_eq!((healthy.status, healthy.body.as_str()), (200, "OK"));
    for path in ["/livez", "/readyz"] {
        assert_eq!(get(tollgate.http, path, &[]).await.unwrap().status, 200, "{path}");
    }
    assert_eq!(get(tollgate.http, "/nothing", &[]).await.unwrap().status, 404);
}

#[tokio::test]
async fn json_answers_200_then_429_and_400_to_nonsense() {
    let (_rules, tollgate) = tollgate().await;
    let ask = r#"{"domain": "api", "descriptors": [{"entries": [{"key": "user", "value": "alice"}]}]}"#;
    for remaining in [Some(2), Some(1), None] {
        let answer = post(tollgate.http, "/json", ask).await.unwrap();
        assert_eq!((answer.status, answer.header("content-type")), (200, "application/json"));
        let body = answer.json();
        assert_eq!(
            (body["overallCode"].as_str(), body["statuses"][0]["limitRemaining"].as_u64()),
            (Some("OK"), remaining)
        );
    }
    let refused = post(tollgate.http, "/json", ask).await.unwrap();
    assert_eq!((refused.status, refused.json()["overallCode"].as_str()), (429, Some("OVER_LIMIT")));

    for nonsense in ["", "{", r#"{"domain": "api", "descriptor": []}"#, r#"{"domain": "", "descriptors": []}"#] {
        assert_eq!(post(tollgate.http, "/json", nonsense).await.unwrap().status, 400, "{nonsense}");
    }
}

#[tokio::test]
async fn json_answers_503_where_the_store_failed_and_the_policy_is_error() {
    let rules = RulesDir::with("api.yaml", PER_USER);
    let env = [("REDIS_URL", "127.0.0.1:1"), ("TOLLGATE_COMPAT", "envoyproxy")];
    let tollgate = Tollgate::start_with(rules.path(), &env).await;
    let ask = r#"{"domain": "api", "descriptors": [{"entries": [{"key": "user", "value": "alice"}]}]}"#;
    assert_eq!(post(tollgate.http, "/json", ask).await.unwrap().status, 503);
    let wrong = post(tollgate.http, "/json", r#"{"domain": "api"}"#).await.unwrap();
    assert_eq!((wrong.status, wrong.header("content-type")), (400, "text/plain; charset=utf-8"));
    assert!(wrong.body.starts_with("Bad Request"), "{}", wrong.body);
}

#[tokio::test]
async fn admin_lists_what_there_is_sorted_and_where_a_path_leads_nowhere_too() {
    let (_rules, tollgate) = tollgate().await;
    let listed = get(tollgate.admin, "/", &[]).await.unwrap();
    assert_eq!(listed.status, 200);
    let paths: Vec<&str> = listed.body.lines().map(|line| line.split_once(": ").expect("path: help").0).collect();
    assert!(paths.contains(&"/rlconfig") && paths.is_sorted(), "{paths:?}");
    let nowhere = get(tollgate.admin, "/nowhere", &[]).await.unwrap();
    assert_eq!((nowhere.status, nowhere.body), (404, listed.body));
}

#[tokio::test]
async fn reflection_describes_the_service_with_all_that_it_imports() {
    let (_rules, tollgate) = tollgate().await;
    let mut client = ServerReflectionClient::new(channel(tollgate.grpc));
    let mut ask = async |message_request: MessageRequest| {
        let request = ServerReflectionRequest { host: String::new(), message_request: Some(message_request) };
        let mut stream = client.server_reflection_info(tokio_stream::once(request)).await.unwrap().into_inner();
        stream.message().await.unwrap().unwrap().message_response.unwrap()
    };
    let files = |response: MessageResponse| match response {
        MessageResponse::FileDescriptorResponse(found) => found
            .file_descriptor_proto
            .iter()
            .map(|bytes| FileDescriptorProto::decode(bytes.as_slice()).unwrap())
            .collect::<Vec<_>>(),
        other => panic!("no file: {other:?}"),
    };

    const SERVICE: &str = "envoy.service.ratelimit.v3.RateLimitService";
    let MessageResponse::ListServicesResponse(list) = ask(MessageRequest::ListServices(String::new())).await else {
        panic!("no list of services");
    };
    let names: Vec<_> = list.service.iter().map(|service| service.name.as_str()).collect();
    assert!(names.contains(&SERVICE) && names.contains(&"grpc.health.v1.Health"), "{names:?}");

    let mut known = BTreeSet::new();
    let mut wanted = files(ask(MessageRequest::FileContainingSymbol(SERVICE.to_owned())).await);
    assert!(wanted[0].service.iter().any(|service| service.method.iter().any(|m| m.name() == "ShouldRateLimit")));
    // As grpcurl does: every import, until nothing is missing.
    while let Some(file) = wanted.pop() {
        known.insert(file.name().to_owned());
        for import in file.dependency.iter().filter(|import| !known.contains(*import)) {
            wanted.extend(files(ask(MessageRequest::FileByFilename(import.clone())).await));
        }
    }
    assert!(known.len() > 3, "{known:?}");
}

#[tokio::test]
async fn admin_shows_the_rules_as_json_and_as_the_reference_does() {
    let (_rules, tollgate) = tollgate().await;
    let rules = get(tollgate.admin, "/rules", &[]).await.unwrap();
    assert_eq!(rules.status, 200);
    assert!(rules.json().is_object() && rules.body.contains("api/user"), "{}", rules.body);
    let config = get(tollgate.admin, "/rlconfig", &[]).await.unwrap();
    assert_eq!(
        config.body.trim_end(),
        "api.user: unit=HOUR requests_per_unit=3, shadow_mode: false, quota_mode: false"
    );
}

#[tokio::test]
async fn metrics_are_well_formed_and_no_client_can_add_series() {
    let (_rules, tollgate) = tollgate().await;
    let client = tollgate.client();
    let ask = async |round: u32, clients: u32| {
        for number in 0..clients {
            let name = format!("x{round}-{number}");
            client.admits("api", &[("user", &name)]).await;
            client.admits("api", &[(&name, &name)]).await;
            client.admits(&name, &[("user", &name)]).await;
            let _ = client.ask(request("", vec![descriptor(&[(&name, &name)])])).await;
        }
    };
    let series = async || tollgate.metrics().await.lines().filter(|line| !line.starts_with('#')).count();
    // Names first that are themselves long, then enough to fill whatever is bounded by a number.
    let long = "k".repeat(100 * 1024);
    for number in 0..50 {
        client.admits("api", &[(&format!("{long}{number}"), "v")]).await;
    }
    ask(0, 300).await;
    let before = series().await;
    ask(1, 50).await;
    assert_eq!(series().await, before, "what clients send must not make series:\n{}", tollgate.metrics().await);

    let text = tollgate.metrics().await;
    assert!(text.len() < 1024 * 1024, "clients have made the page {} bytes long", text.len());
    for name in [
        "tollgate_build_info",
        "tollgate_decisions_total",
        "tollgate_decision_duration_seconds_bucket",
        "tollgate_rules_last_reload_successful",
        "tollgate_rules_last_reload_success_timestamp_seconds",
        "tollgate_rules_info",
    ] {
        assert!(text.lines().any(|line| line.starts_with(name)), "no {name} in\n{text}");
    }
    let decided = text.lines().find(|line| line.starts_with("tollgate_decisions_total") && line.contains("api/user"));
    assert!(decided.is_some_and(|line| line.ends_with(" 350")), "350 users, one hit each: {decided:?}");

    let (is_well_formed, said) = promtool(&text);
    assert!(is_well_formed, "promtool:\n{said}");
}

#[tokio::test]
async fn the_references_metrics_are_well_formed_but_for_the_suffix_that_it_leaves_out() {
    let rules = RulesDir::with("api.yaml", PER_USER);
    let tollgate = Tollgate::start_with(rules.path(), &[("USE_PROMETHEUS", "true")]).await;
    for _ in 0..4 {
        tollgate.client().admits("api", &[("user", "alice")]).await;
    }
    tollgate.client().admits("no.such domain", &[("user", "alice")]).await;
    let _ = tollgate.client().ask(request("", vec![])).await;
    let page = tollgate.metrics().await;
    for line in [
        r#"ratelimit_service_rate_limit_near_limit{domain="api",key1="user"} 1"#,
        r#"ratelimit_service_rate_limit_over_limit{domain="api",key1="user"} 1"#,
        r#"ratelimit_service_rate_limit_total_hits{domain="api",key1="user"} 4"#,
        r#"ratelimit_service_rate_limit_within_limit{domain="api",key1="user"} 3"#,
        "ratelimit_service_rate_limit_no_such_domain_domain_not_found 1",
        r#"ratelimit_service_should_rate_limit_error{err_type="service_error"} 1"#,
        "ratelimit_service_config_load_success 1",
        r#"ratelimit_service_response_time_seconds_bucket{grpc_method="ShouldRateLimit",le="0.005"}"#,
        r#"ratelimit_service_total_requests{grpc_method="ShouldRateLimit"} "#,
    ] {
        assert!(page.lines().any(|shown| shown.starts_with(line)), "no {line} in\n{page}");
    }
    let (_, said) = promtool(&page);
    let objections: Vec<_> = said.lines().filter(|line| !line.is_empty()).collect();
    let is_suffix =
        |line: &&str| line.starts_with("ratelimit_service_") && line.ends_with(r#"should have "_total" suffix"#);
    assert!(!objections.is_empty() && objections.iter().all(is_suffix), "promtool:\n{said}");
}

/// Whether a page of metrics is well formed, and what is said of it.
fn promtool(page: &str) -> (bool, String) {
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool: tests/run.sh installs it");
    promtool.stdin.take().expect("stdin is piped").write_all(page.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    (output.status.success(), said.into_owned())
}

#[tokio::test]
async fn call_prints_an_ok_until_the_limit_and_then_over_limit() {
    let (_rules, tollgate) = tollgate().await;
    let address = tollgate.grpc.to_string();
    let call = |more: &'static [&'static str]| {
        let address = address.clone();
        aside(move || {
            let args =
                [&["call", "--addr", &address, "--domain", "api", "--descriptor", "user=a=b\\,c"], more].concat();
            let output = run_to_end(&args, &[]);
            String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap()
        })
    };
    assert!(call(&["--hits", "3"]).await.contains("OK"));
    assert!(call(&[]).await.contains("OVER_LIMIT"));
    let json: serde_json::Value = serde_json::from_str(&call(&["--json"]).await).expect("--json prints JSON");
    assert!(json.to_string().contains("OVER_LIMIT"), "{json}");
    // The value is what stands after the first `=`, with `\,` for a comma.
    assert!(!tollgate.client().admits("api", &[("user", "a=b,c")]).await);
}

#[tokio::test]
async fn the_admin_listener_answers_no_name_that_somebody_else_made_resolve_to_it() {
    let rules = RulesDir::with("api.yaml", PER_USER);
    let env = [("TOLLGATE_ADMIN_HOSTS", "tollgate-admin.shop.svc, other")];
    let tollgate = Tollgate::start_with(rules.path(), &env).await;
    let port = tollgate.admin.port();
    for (host, status) in [
        ("attacker.example", 403),
        (&*format!("attacker.example:{port}"), 403),
        ("", 403),
        (&*format!("127.0.0.1:{port}"), 200),
        (&*format!("localhost:{port}"), 200),
        ("[::1]", 200),
        ("tollgate-admin.shop.svc", 200),
        (&*format!("OTHER:{port}"), 200),
    ] {
        for path in ["/", "/rules", "/rlconfig", "/explain?domain=api&entry=user=alice"] {
            let answer = get(tollgate.admin, path, &[("host", host)]).await.expect("an answer");
            assert_eq!(answer.status, status, "{host:?} {path}");
            if status == 403 {
                assert!(answer.body.contains("TOLLGATE_ADMIN_HOSTS") && !answer.body.contains("user"), "{answer:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_page_of_another_site_has_nothing_reloaded() {
    let rules = RulesDir::with("api.yaml", PER_USER);
    let tollgate = Tollgate::start(rules.path()).await;
    let host = format!("localhost:{}", tollgate.admin.port());
    let own = format!("http://{host}");
    for (origin, status) in [("http://attacker.example", 403), ("null", 403), ("http://localhost:1", 403), (&*own, 202)]
    {
        let headers = [("host", &*host), ("origin", origin)];
        let answer = send(tollgate.admin, "POST", "/-/reload", &headers, Bytes::new()).await.expect("an answer");
        assert_eq!(answer.status, status, "{origin}");
    }
    let answer = send(tollgate.admin, "POST", "/-/reload", &[], Bytes::new()).await.expect("an answer");
    assert_eq!(answer.status, 202, "no browser");
}
