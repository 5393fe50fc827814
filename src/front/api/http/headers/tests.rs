use super::*;
use crate::{front::api::CheckResponse, limit::Micros};

fn checked(allowed: bool, policies: Vec<QuotaPolicy>) -> CheckAnswer {
    CheckAnswer { answer: CheckResponse { allowed, ..CheckResponse::default() }, policies }
}

fn limit(limit_id: &str, window: Micros) -> QuotaPolicy {
    QuotaPolicy { limit_id: limit_id.into(), requests: 100, window, remaining: 49, reset: Micros(11_000_001) }
}

fn headers_of(checked: &CheckAnswer) -> HeaderMap {
    let mut headers = HeaderMap::new();
    limit_headers(&mut headers, checked);
    headers
}

#[test]
fn limits_are_told_as_the_draft_has_them() {
    let minute = Micros(60 * SECOND.0);
    let headers = headers_of(&checked(true, vec![limit("api/user", minute), limit("api/x\"é", Micros(1_500_000))]));
    assert_eq!(headers["ratelimit-policy"], r#""api/user";q=100;w=60, "api/x\"%C3%A9";q=100"#);
    assert_eq!(headers["ratelimit"], r#""api/user";r=49;t=12, "api/x\"%C3%A9";r=49;t=12"#);
    assert!(!headers.contains_key(header::RETRY_AFTER));
    assert!(headers_of(&checked(true, vec![])).is_empty());
}

#[test]
fn a_refusal_says_when_to_come_again_and_never_at_once() {
    assert_eq!(headers_of(&checked(false, vec![limit("a", SECOND)]))[header::RETRY_AFTER], "12");
    let at_once = QuotaPolicy { reset: Micros(0), ..limit("a", SECOND) };
    assert_eq!(headers_of(&checked(false, vec![at_once]))[header::RETRY_AFTER], "1");
}

#[test]
fn only_one_strong_etag_or_any_is_a_condition() {
    let of = |name: HeaderName, text: &str| HeaderMap::from_iter([(name, HeaderValue::from_str(text).unwrap())]);
    let read = |text: &str| if_match(&of(header::IF_MATCH, text)).ok();
    assert_eq!(if_match(&HeaderMap::new()), Ok(String::new()));
    assert_eq!([read("\"12\""), read("*")], [Some("12".into()), Some("*".into())]);
    for wrong in ["12", "", "\"\"", "W/\"12\"", "\"1\", \"2\""] {
        assert_eq!(read(wrong), None, "{wrong}");
    }
    let create = |text: &str| if_none_match(&of(header::IF_NONE_MATCH, text));
    assert!(create("*") == Ok(true) && create("\"12\"").is_err() && if_none_match(&HeaderMap::new()) == Ok(false));
}
