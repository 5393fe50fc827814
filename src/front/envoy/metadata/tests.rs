use std::sync::Arc;

use crate::proto::{
    envoy::{
        extensions::common::ratelimit::v3::rate_limit_descriptor::Entry, service::ratelimit::v3::RateLimitResponse,
    },
    google::protobuf::UInt64Value,
};

use super::*;
use crate::{
    front::envoy::json_response,
    limit::FailurePolicy,
    limiter::{Note, ShownLimit, Status},
};

fn asked(entries: &[(&str, &str)]) -> RateLimitDescriptor {
    let entries = entries.iter().map(|(key, value)| Entry { key: key.to_string(), value: value.to_string() });
    RateLimitDescriptor { entries: entries.collect(), ..RateLimitDescriptor::default() }
}

fn request(descriptors: Vec<RateLimitDescriptor>, hits_addend: u32) -> RateLimitRequest {
    RateLimitRequest { domain: "api".into(), descriptors, hits_addend }
}

fn status(code: Code) -> Status {
    let limit = Some(ShownLimit { requests: 5, unit: None, name: String::new() });
    Status { code, quota: false, limit, remaining: 0, reset: None }
}

fn note(limit_id: &str, metadata: Value) -> Note {
    Note { limit_id: Some(limit_id.into()), metadata: Some(Arc::new(metadata)), ..Note::default() }
}

/// What a client sees, as JSON.
fn told(request: &RateLimitRequest, decision: &Decision) -> Value {
    let notes = decision.notes.as_ref().expect("they are asked for");
    let dynamic_metadata = Some(metadata(request, decision, notes));
    let response = RateLimitResponse { dynamic_metadata, ..RateLimitResponse::default() };
    let json: Value = serde_json::from_slice(&json_response(&response)).expect("JSON");
    json["dynamicMetadata"].clone()
}

fn decision(overall: Code, statuses: &[Status], descriptors: Vec<Note>) -> Decision {
    let notes = Some(Box::new(Notes { rules_version: 3, descriptors }));
    Decision { overall, statuses: statuses.iter().cloned().collect(), failure_policy: None, notes }
}

#[test]
fn what_was_asked_is_told_as_the_reference_tells_it() {
    let limit = |requests_per_unit, unit| Some(RateLimitOverride { requests_per_unit, unit });
    let mut all = asked(&[("user", "a=b"), ("path", "")]);
    all.limit = limit(10, 3);
    all.hits_addend = Some(UInt64Value { value: 0 });
    let week = RateLimitDescriptor { limit: limit(0, 7), ..asked(&[]) };
    let free = Status { limit: None, ..status(Code::Ok) };
    let answer = decision(Code::Ok, &[free.clone(), free], vec![Note::default(), Note::default()]);
    let expected = json!({
        "domain": "api",
        "descriptors": [
            {"entries": ["user=a=b", "path="], "limit": "requests_per_unit:10 unit:HOUR", "hitsAddend": 0.0},
            {"entries": [], "limit": "unit:7"},
        ],
        "hitsAddend": 4.0,
        "tollgate": {"rules_version": 3.0},
    });
    assert_eq!(told(&request(vec![all, week], 4), &answer), expected);
}

#[test]
fn metadata_of_rules_that_passed_is_merged_and_the_first_value_stays() {
    let notes = vec![
        note("a", json!({"team": "pay", "tags": {"x": 1, "deep": {"k": true}}})),
        note("b", json!({"refused": true})),
        note("c", json!({"team": "other", "tags": {"x": 2, "y": null, "deep": {"l": [1, "s"]}}, "new": 1.5})),
    ];
    let before = notes.clone();
    let statuses = [Code::Ok, Code::OverLimit, Code::Ok].map(status);
    let answer = decision(Code::OverLimit, &statuses, notes);
    let merged = &told(&request(vec![], 0), &answer)["metadata"];
    let deep = json!({"k": true, "l": [1.0, "s"]});
    assert_eq!(*merged, json!({"team": "pay", "tags": {"x": 1.0, "y": null, "deep": deep}, "new": 1.5}));
    assert_eq!(answer.notes.expect("as before").descriptors, before, "rules keep their own");
}

#[test]
fn grounds_name_the_limit_that_denied_and_whether_it_came_with_the_request() {
    let own = Note { limit_id: Some("api/(request)".into()), requested: true, ..Note::default() };
    let notes = vec![note("api/user", json!({})), own];
    let mut answer = decision(Code::OverLimit, &[status(Code::Ok), status(Code::OverLimit)], notes.clone());
    answer.failure_policy = Some(FailurePolicy::Local);
    assert_eq!(
        told(&request(vec![], 0), &answer)["tollgate"],
        json!({
            "limit_id": "api/(request)", "denied_by": "api/(request)", "override": "request", "degraded": "local",
            "rules_version": 3.0
        })
    );
    let passed = decision(Code::Ok, &[status(Code::Ok), status(Code::Ok)], notes);
    assert_eq!(told(&request(vec![], 0), &passed)["tollgate"], json!({"limit_id": "api/user", "rules_version": 3.0}));
}
