use std::time::Duration;

use crate::proto::{
    envoy::{
        extensions::common::ratelimit::v3::{RateLimitDescriptor, rate_limit_descriptor::*},
        service::ratelimit::v3::RateLimitRequest,
    },
    google::protobuf::UInt64Value,
};
use http::HeaderMap;
use smallvec::smallvec;

use super::*;
use crate::{
    limit::{Code, Micros, Unit},
    limiter::{
        Decision, ShownLimit,
        tests::{PANICS, limiter},
    },
};

/// The words, and how many limits had no unit.
fn said(message: &RateLimitRequest) -> (limit::Request<'_>, u64) {
    let mut limit_request = limit::Request::default();
    let without_unit = convert::read_into(message, &mut limit_request);
    (limit_request, without_unit)
}

fn request(change: impl FnOnce(&mut RateLimitDescriptor)) -> RateLimitRequest {
    let entries = vec![Entry { key: "user".into(), value: "alice".into() }];
    let mut descriptor = RateLimitDescriptor { entries, ..RateLimitDescriptor::default() };
    change(&mut descriptor);
    RateLimitRequest { domain: "api".into(), descriptors: vec![descriptor], hits_addend: 0 }
}

#[test]
fn hits_that_are_not_said_are_one_and_hits_of_a_descriptor_beat_the_requests() {
    let plain = request(|_| {});
    let (limit_request, _) = said(&plain);
    assert_eq!((limit_request.hits, limit_request.descriptors[0].hits), (1, None));
    let cases = [(0, false, 0), (7, false, 7), (7, true, -7), (u64::MAX, false, i64::MAX), (u64::MAX, true, -i64::MAX)];
    for (value, is_negative_hits, expected) in cases {
        let own = request(|d| {
            d.hits_addend = Some(UInt64Value { value });
            d.is_negative_hits = is_negative_hits;
        });
        assert_eq!(said(&own).0.descriptors[0].hits, Some(expected), "{value}");
    }
}

#[test]
fn negative_hits_without_hits_of_their_own_give_back_those_of_the_request() {
    for (hits_addend, expected) in [(0, -1), (1, -1), (7, -7), (u32::MAX, -i64::from(u32::MAX))] {
        let message = RateLimitRequest { hits_addend, ..request(|d| d.is_negative_hits = true) };
        assert_eq!(said(&message).0.descriptors[0].hits, Some(expected));
    }
}

#[test]
fn a_limit_of_the_request_is_read_by_its_units_number_and_is_none_without_a_unit() {
    let with_unit = |unit| request(|d| d.limit = Some(RateLimitOverride { requests_per_unit: 3, unit }));
    for (number, unit) in [(1, Unit::Second), (5, Unit::Month), (6, Unit::Year), (7, Unit::Week)] {
        let message = with_unit(number);
        assert_eq!(said(&message).0.descriptors[0].limit, Some((3, unit)));
    }
    for number in [0, 8, -1, i32::MAX] {
        let message = with_unit(number);
        let (limit_request, without_unit) = said(&message);
        assert_eq!((limit_request.descriptors[0].limit, without_unit), (None, 1), "{number}");
    }
}

#[test]
fn resets_are_rounded_up_and_windows_that_are_no_unit_are_not_named_as_one() {
    let limit = |unit| Some(ShownLimit { requests: 5, unit, name: "n".into() });
    let status = |unit, reset| crate::limiter::Status {
        code: Code::OverLimit,
        quota: false,
        limit: limit(unit),
        remaining: 0,
        reset: Some(Micros(reset)),
    };
    let decision = Decision {
        overall: Code::OverLimit,
        statuses: smallvec![status(Some(Unit::Week), 1), status(None, 2_000_000)],
        failure_policy: None,
        notes: None,
    };
    let response = convert::response(decision);
    let seconds: Vec<_> = response.statuses.iter().map(|s| s.duration_until_reset.map(|d| d.seconds)).collect();
    assert_eq!(seconds, [Some(1), Some(2)]);
    let units: Vec<_> = response.statuses.iter().filter_map(|s| s.current_limit.as_ref()).map(|l| l.unit).collect();
    assert_eq!(units, [7, 0]);
    assert_eq!(response.overall_code, 2);
}

#[test]
fn json_is_taken_in_both_spellings_and_unknown_fields_are_refused() {
    let snake = br#"{"domain":"api","descriptors":[{"entries":[{"key":"user","value":"alice"}],"hits_addend":"3"}],"hits_addend":2}"#;
    let camel = br#"{"domain":"api","descriptors":[{"entries":[{"key":"user","value":"alice"}],"hitsAddend":3}],"hitsAddend":2}"#;
    let expected = RateLimitRequest { hits_addend: 2, ..request(|d| d.hits_addend = Some(UInt64Value { value: 3 })) };
    for body in [snake.as_slice(), camel] {
        assert_eq!(json_request(body).expect("well formed"), expected);
    }
    for body in [&b""[..], b"{", b"[]", b"null", br#"{"domian":"api"}"#, br#"{"domain":"api"} x"#, b"\xff"] {
        assert!(json_request(body).is_err(), "{}", String::from_utf8_lossy(body));
    }
}

#[test]
fn a_byte_order_mark_before_a_body_is_none_of_it() {
    let body = br#"{"domain": "api", "descriptors": [{"entries": [{"key": "user", "value": "a"}]}]}"#;
    let marked = [b"\xef\xbb\xbf", &body[..]].concat();
    assert_eq!(json_request(&marked).expect("well formed"), json_request(body).expect("well formed"));
}

#[test]
fn json_numbers_enums_and_nulls_are_taken_in_every_form_that_proto3_allows() {
    let bodies = [
        r#"{"domain":"api","descriptors":[{"entries":[{"key":"user","value":"alice"}],"limit":{"requestsPerUnit":3,"unit":"HOUR"},"hitsAddend":"5000000000"}]}"#,
        r#"{"domain":"api","descriptors":[{"entries":[{"key":"user","value":"alice"}],"limit":{"requests_per_unit":"3","unit":3},"hits_addend":5e9}],"hitsAddend":null}"#,
        r#" { "hits_addend" : 0.0, "descriptors":[{"limit":{"unit":"HOUR","requestsPerUnit":3.0},"hitsAddend":5000000000,"entries":[{"value":"\u0061lice","key":"user"}]}],"domain":"api"}"#,
    ];
    let expected = request(|d| {
        d.limit = Some(RateLimitOverride { requests_per_unit: 3, unit: 3 });
        d.hits_addend = Some(UInt64Value { value: 5_000_000_000 });
    });
    for body in bodies {
        assert_eq!(json_request(body.as_bytes()).expect(body), expected);
    }
    let refused = [
        r#"{"domain":"api","hitsAddend":-1}"#,
        r#"{"domain":"api","hitsAddend":1.5}"#,
        r#"{"domain":"api","hitsAddend":4294967296}"#,
        r#"{"domain":"api","descriptors":[{"limit":{"unit":"FORTNIGHT"}}]}"#,
        r#"{"domain":7}"#,
    ];
    for body in refused {
        assert!(json_request(body.as_bytes()).is_err(), "{body}");
    }
}

#[test]
fn json_answers_name_their_enums_and_leave_out_what_is_zero() {
    let status = crate::limiter::Status {
        code: Code::Ok,
        quota: false,
        limit: Some(ShownLimit { requests: 5, unit: Some(Unit::Minute), name: String::new() }),
        remaining: 4,
        reset: Some(Micros(44_500_000)),
    };
    let response = convert::response(Decision {
        overall: Code::Ok,
        statuses: smallvec![status],
        failure_policy: None,
        notes: None,
    });
    let json: serde_json::Value = serde_json::from_slice(&json_response(&response)).expect("JSON");
    let expected = serde_json::json!({"overallCode": "OK", "statuses": [
        {"code": "OK", "currentLimit": {"requestsPerUnit": 5, "unit": "MINUTE"}, "limitRemaining": 4, "durationUntilReset": "45s"}
    ]});
    assert_eq!(json, expected);
}

#[test]
fn the_callers_patience_is_read_in_every_unit_and_nonsense_is_no_limit() {
    let cases = [
        ("20m", Some(Duration::from_millis(20))),
        ("1S", Some(Duration::from_secs(1))),
        ("99999999u", Some(Duration::from_micros(99_999_999))),
        ("1H", Some(Duration::from_secs(3_600))),
        ("123456789n", None),
        ("m", None),
        ("", None),
        ("-1S", None),
        ("5x", None),
    ];
    for (text, expected) in cases {
        let mut headers = HeaderMap::new();
        headers.insert("grpc-timeout", text.parse().expect("ASCII"));
        assert_eq!(unary::grpc_timeout(&headers), expected, "{text:?}");
    }
}

#[tokio::test]
async fn a_panic_is_caught_counted_and_answered_by_the_policies_of_the_limits() {
    let rules = |policy: &str| {
        format!(
            "domain: {PANICS}\ndescriptors:\n  - key: user\n    on_store_failure: {policy}\n    \
             rate_limit: {{requests_per_unit: 9, unit: hour}}\n"
        )
    };
    let ask = RateLimitRequest { domain: PANICS.into(), ..request(|_| {}) };
    for (policy, code) in
        [("open", Ok(1)), ("closed", Ok(2)), ("local", Ok(1)), ("error", Err(tonic::Code::Unavailable))]
    {
        let service = RateLimit::new(limiter(&rules(policy)), Duration::ZERO, &ResponseSettings::default(), &bounds());
        let answer = service.answer(&ask, CallContext::default()).await;
        assert_eq!(answer.map(|answer| answer.overall_code).map_err(|status| status.code()), code, "{policy}");
        let snapshot = service.limiter.snapshot();
        let metrics = service.limiter.metrics().render(&snapshot.rules, &snapshot.meters);
        for line in [
            "tollgate_panics_total 1",
            "tollgate_store_errors_total{kind=\"defect\"} 1",
            &format!(
                "tollgate_degraded_decisions_total{{policy=\"{policy}\",domain=\"{PANICS}\",limit=\"{PANICS}/user\"}} 1"
            ),
        ] {
            assert!(metrics.lines().any(|shown| shown == line), "{line} in\n{metrics}");
        }
    }
}
