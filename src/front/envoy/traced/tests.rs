use crate::proto::{
    envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::{Entry, RateLimitOverride},
    google::protobuf::UInt64Value,
};

use super::*;

#[test]
fn a_request_is_told_in_the_text_format_as_far_as_it_is_wanted() {
    let entry = |key: &str, value: &str| Entry { key: key.into(), value: value.into() };
    let whole = RateLimitDescriptor {
        entries: vec![entry("path", "/\"a\""), entry("user", "")],
        limit: Some(RateLimitOverride { requests_per_unit: 3, unit: 2 }),
        hits_addend: Some(UInt64Value { value: 0 }),
        ..RateLimitDescriptor::default()
    };
    let plain = RateLimitDescriptor { entries: vec![entry("a", "b")], ..RateLimitDescriptor::default() };
    let request = RateLimitRequest { domain: "api".into(), descriptors: vec![whole, plain], hits_addend: 5 };
    assert_eq!(
        text(&request, 4_096),
        "domain:\"api\" \
         descriptors:{entries:{key:\"path\" value:\"/\\\"a\\\"\"} entries:{key:\"user\" value:\"\"} \
         limit:{requests_per_unit:3 unit:MINUTE} hits_addend:{value:0}} \
         descriptors:{entries:{key:\"a\" value:\"b\"}} hits_addend:5"
    );
    assert_eq!(text(&request, 0), "domain:\"api\"");
}
