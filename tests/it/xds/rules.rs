//! Sets of rules: the first, the next, the refused, the empty; and before there are any.

use envoy_types::pb::{
    envoy::service::discovery::v3::Resource,
    google::protobuf::{Any, Struct, Value, value::Kind},
    ratelimit::config::ratelimit::v3::{RateLimitConfig, RateLimitDescriptor, RateLimitPolicy, RateLimitReplace},
};
use prost::Message;
use tonic::Code;

use super::{
    control_plane::{ControlPlane, any, domain},
    follow,
};
use crate::harness::{descriptor, eventually, get, request};

#[tokio::test]
async fn the_first_request_asks_for_all_rules_and_says_who_asks() {
    let mut plane = ControlPlane::start().await;
    let env = [
        ("CONFIG_GRPC_XDS_NODE_ID", "envoy-ratelimit"),
        ("CONFIG_GRPC_XDS_NODE_METADATA", "zone=a,rack=7"),
        ("CONFIG_GRPC_XDS_CLIENT_ADDITIONAL_HEADERS", "Authorization:Bearer hunter2,x-tenant:blue"),
    ];
    let tollgate = follow(&plane, &env).await;
    let mut stream = plane.stream().await;
    let asked = stream.request().await;
    assert_eq!(asked.type_url, "type.googleapis.com/ratelimit.config.ratelimit.v3.RateLimitConfig");
    assert!(asked.resource_names.is_empty() && asked.version_info.is_empty() && asked.response_nonce.is_empty());
    let node = asked.node.expect("a node");
    assert_eq!(node.id, "envoy-ratelimit");
    let text = |text: &str| Some(Kind::StringValue(text.to_owned()));
    let fields = node.metadata.expect("its metadata").fields;
    assert_eq!(fields.len(), 2);
    assert_eq!((&fields["zone"].kind, &fields["rack"].kind), (&text("a"), &text("7")));
    assert_eq!(stream.headers.get("authorization").unwrap(), "Bearer hunter2");
    assert_eq!(stream.headers.get("x-tenant").unwrap(), "blue");
    assert!(!tollgate.process.log().contains("hunter2"), "a secret is in the log");
}

#[tokio::test]
async fn a_set_comes_into_force_whole_and_what_it_lacks_is_gone() {
    let mut plane = ControlPlane::start().await;
    let tollgate = follow(&plane, &[]).await;
    let client = tollgate.client();
    let mut stream = plane.stream().await;
    stream.request().await;

    stream.put("1", &[domain("one", 10), domain("two", 20)]).await;
    assert_eq!(client.limit_of("one", &[("user", "alice")]).await, Some(10));
    assert_eq!(client.limit_of("two", &[("user", "alice")]).await, Some(20));

    stream.put("2", &[domain("one", 11)]).await;
    assert_eq!(client.limit_of("one", &[("user", "alice")]).await, Some(11));
    assert_eq!(client.limit_of("two", &[("user", "alice")]).await, None, "a domain that isn't in the set is removed");
    assert_eq!(tollgate.metric("tollgate_rules_version").await, 2.0);

    // Its name stands beside the resource here.
    let wrapped = Resource { name: "one".into(), resource: Some(any(&domain("one", 12))), ..Resource::default() };
    let type_url = "type.googleapis.com/envoy.service.discovery.v3.Resource".into();
    stream.send_any("3", vec![Any { type_url, value: wrapped.encode_to_vec() }]);
    assert_eq!(stream.request().await.error_detail, None);
    assert_eq!(client.limit_of("one", &[("user", "alice")]).await, Some(12));

    stream.put("4", &[]).await;
    assert_eq!(client.limit_of("one", &[("user", "alice")]).await, None, "an empty set removes every domain");
}

#[tokio::test]
async fn a_set_with_an_error_is_refused_whole_with_every_mistake_and_the_old_rules_stay() {
    let mut plane = ControlPlane::start().await;
    let tollgate = follow(&plane, &[]).await;
    let client = tollgate.client();
    let mut stream = plane.stream().await;
    stream.request().await;
    stream.put("1", &[domain("one", 10), domain("two", 10)]).await;

    let mut bad = domain("two", 20);
    let user = &mut bad.descriptors[0];
    user.rate_limit.as_mut().unwrap().unit = 0;
    user.descriptors = vec![RateLimitDescriptor::default()];
    let again = bad.descriptors[0].clone();
    bad.descriptors.push(RateLimitDescriptor { rate_limit: None, descriptors: Vec::new(), ..again });
    stream.send("2", &[domain("one", 20), bad]);
    let answer = stream.request().await;
    assert_eq!(answer.version_info, "1", "the version that is in force");
    assert_eq!(answer.response_nonce, "nonce of 2");
    let refusal = answer.error_detail.expect("a refusal");
    assert_eq!(refusal.code, Code::InvalidArgument as i32);
    let expected = [
        "xds:default/eg/two: descriptors[0].rate_limit",
        "a limit must have a `unit`",
        "xds:default/eg/two: descriptors[0].descriptors[0].key: a descriptor's `key` must not be empty",
        "xds:default/eg/two: descriptors[1]: key `user` without a value is here a second time: first in descriptors[0]",
    ];
    for expected in expected {
        assert!(refusal.message.contains(expected), "no {expected:?} in\n{}", refusal.message);
    }
    assert_eq!(refusal.message.lines().count(), 3, "{}", refusal.message);

    for name in ["one", "two"] {
        assert_eq!(client.limit_of(name, &[("user", "alice")]).await, Some(10), "{name} keeps its rules");
    }
    assert_eq!(tollgate.metric("tollgate_rules_last_reload_successful").await, 0.0);
    let log = tollgate.process.log();
    assert!(log.contains("descriptors[0].descriptors[0]"), "the log hides the problem:\n{log}");
    let shown = get(tollgate.admin, "/rules", &[]).await.unwrap().body;
    assert!(shown.contains("descriptors[0].descriptors[0]"), "/rules hides the problem:\n{shown}");

    stream.put("3", &[domain("one", 30), domain("two", 30)]).await;
    assert_eq!(client.limit_of("two", &[("user", "alice")]).await, Some(30));
    assert_eq!(tollgate.metric("tollgate_rules_last_reload_successful").await, 1.0);
}

#[tokio::test]
async fn what_cannot_be_decoded_is_refused() {
    let mut plane = ControlPlane::start().await;
    let tollgate = follow(&plane, &[]).await;
    let mut stream = plane.stream().await;
    stream.request().await;
    stream.put("1", &[domain("one", 10)]).await;

    let garbled = Any { value: vec![0xff; 7], ..any(&domain("one", 20)) };
    let foreign = Any { type_url: "type.googleapis.com/google.protobuf.Struct".into(), value: Vec::new() };
    stream.send_any("2", vec![any(&domain("one", 20)), garbled, foreign]);
    let refusal = stream.request().await.error_detail.expect("a refusal").message;
    assert!(refusal.contains("resources[1]: it can't be decoded"), "{refusal}");
    assert!(refusal.contains("resources[2]: it can't be decoded: it is a type.googleapis.com/google.pro"), "{refusal}");
    assert!(!refusal.contains("resources[0]"), "{refusal}");
    assert_eq!(tollgate.client().limit_of("one", &[("user", "alice")]).await, Some(10));
}

#[tokio::test]
async fn a_repeated_set_is_refused_by_its_own_version_and_a_held_back_refusal_gives_way_to_the_next_set() {
    let mut plane = ControlPlane::start().await;
    let _tollgate = follow(&plane, &[]).await;
    let mut stream = plane.stream().await;
    stream.request().await;
    stream.put("1", &[domain("one", 10)]).await;
    let bad = domain("", 10);
    for version in ["1", "2", "2", "2"] {
        stream.send("2", std::slice::from_ref(&bad));
        let answer = stream.request().await;
        assert!(answer.error_detail.is_some());
        assert_eq!(answer.version_info, version, "first what is in force, then what the control plane must not repeat");
    }
    // A refusal that is held back doesn't hold back what comes after it.
    stream.send("2", &[bad]);
    stream.put("3", &[domain("one", 10)]).await;
}

#[tokio::test]
async fn every_field_of_the_messages_has_its_meaning() {
    let mut plane = ControlPlane::start().await;
    let tollgate = follow(&plane, &[]).await;
    let mut stream = plane.stream().await;
    stream.request().await;
    let number = |number: f64| Value { kind: Some(Kind::NumberValue(number)) };
    let leaf = |key: &str, value: &str, limit: RateLimitPolicy| RateLimitDescriptor {
        key: key.into(),
        value: value.into(),
        rate_limit: Some(limit),
        ..RateLimitDescriptor::default()
    };
    // Text that YAML would take for something else, and what would break a line of it.
    let odd = "no: \"yes\"\n- \u{85}\u{2028}\u{feff}\u{1f600} #";
    let free = RateLimitPolicy { unlimited: true, ..RateLimitPolicy::default() };
    let week = RateLimitPolicy { unit: 7, requests_per_unit: 3, name: "weekly".into(), ..RateLimitPolicy::default() };
    let replaces = vec![RateLimitReplace { name: "weekly".into() }];
    let none = RateLimitPolicy { unit: 1, replaces, ..RateLimitPolicy::default() };
    let metadata = Struct { fields: [("cost".to_owned(), number(2.0))].into() };
    let config = RateLimitConfig {
        name: String::new(),
        domain: "007".into(),
        descriptors: vec![
            leaf("free", "", free),
            RateLimitDescriptor { metadata: Some(metadata), quota_mode: true, ..leaf("week", odd, week) },
            RateLimitDescriptor { shadow_mode: true, detailed_metric: true, ..leaf("shadow", "1.50", none) },
        ],
    };
    stream.put("1", &[config]).await;
    let client = tollgate.client();
    assert_eq!(client.limit_of("007", &[("week", odd)]).await, Some(3));
    assert_eq!(client.limit_of("007", &[("free", "x")]).await, None);
    // Nothing may pass, but nobody is refused.
    assert_eq!(client.limit_of("007", &[("shadow", "1.50")]).await, Some(0));
    assert!(client.admits("007", &[("shadow", "1.50")]).await);
    let answer = client.ask(request("007", vec![descriptor(&[("week", odd)])])).await.unwrap();
    assert_eq!(answer.statuses[0].current_limit.as_ref().unwrap().name, "weekly");
}

#[tokio::test]
async fn forced_to_start_it_answers_with_an_error_until_there_are_rules() {
    let mut plane = ControlPlane::start().await;
    let tollgate = follow(&plane, &[]).await;
    let client = tollgate.client();
    let ask = || client.ask(request("one", vec![descriptor(&[("user", "alice")])]));
    let error = ask().await.expect_err("there are no rules");
    assert_eq!((error.code(), error.message()), (Code::Unavailable, "no rate limit configuration loaded"));
    let mut stream = plane.stream().await;
    stream.request().await;
    stream.send("1", &[domain("", 10)]);
    assert!(stream.request().await.error_detail.is_some());
    assert_eq!(ask().await.expect_err("a refused set is none").code(), Code::Unavailable);
    stream.put("2", &[domain("one", 10)]).await;
    assert!(ask().await.is_ok());
}

#[tokio::test]
async fn unless_forced_it_listens_only_when_there_are_rules() {
    let mut plane = ControlPlane::start().await;
    let address = plane.address.to_string();
    let starting =
        tokio::spawn(
            async move { super::follow_at(&address, &[("FORCE_START_WITHOUT_INITIAL_CONFIG", "false")]).await },
        );
    let mut stream = plane.stream().await;
    stream.request().await;
    stream.send("1", &[domain("", 10)]);
    assert!(stream.request().await.error_detail.is_some());
    assert!(!starting.is_finished(), "it listens with a refused set");
    stream.put("2", &[domain("one", 10)]).await;
    let tollgate = starting.await.expect("it starts");
    let log = tollgate.process.log();
    let at = |text: &str| log.find(text).unwrap_or_else(|| panic!("no {text} in\n{log}"));
    assert!(at("the whole set is rejected (NACK)") < at("listening"), "it listened too early:\n{log}");
    assert_eq!(tollgate.client().limit_of("one", &[("user", "alice")]).await, Some(10));
}

#[tokio::test]
async fn told_to_stop_before_there_are_rules_it_ends_at_once() {
    let mut plane = ControlPlane::start().await;
    let address = plane.address.to_string();
    let env = [("CONFIG_TYPE", "GRPC_XDS_SOTW"), ("CONFIG_GRPC_XDS_SERVER_URL", &*address)];
    let mut process = crate::harness::Process::spawn("tollgate", &mut super::command(&env));
    plane.stream().await;
    process.signal("TERM");
    assert!(process.end().await.success());
}

#[tokio::test]
async fn a_reload_is_answered_where_there_is_nothing_to_read() {
    let plane = ControlPlane::start().await;
    let tollgate = follow(&plane, &[]).await;
    tollgate.process.signal("HUP");
    tollgate.process.line("why it doesn't reload", |line| line.contains("nothing to reload").then_some(())).await;
    eventually("it is alive", || async { get(tollgate.http, "/livez", &[]).await.ok().map(drop) }).await;
}
