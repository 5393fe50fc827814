//! Headers of requests and answers: who calls, which version is meant, and how limits stand, as
//! draft-ietf-httpapi-ratelimit-headers-10 has it.

#[cfg(test)]
mod tests;

use std::fmt::Write;

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use percent_encoding::{CONTROLS, utf8_percent_encode};

use crate::{
    front::api::{
        check::{CheckAnswer, QuotaPolicy},
        problem::ApiError,
    },
    limit::SECOND,
};

const RATELIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// What isn't text can't be a token, and is refused as none.
pub(crate) fn authorization(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::AUTHORIZATION).map(|value| value.to_str().unwrap_or_default())
}

/// The etag that the override must have: empty for any, `*` for one that there is.
pub(super) fn if_match(headers: &HeaderMap) -> Result<String, ApiError> {
    let Some(value) = headers.get(header::IF_MATCH) else { return Ok(String::new()) };
    let text = value.to_str().unwrap_or_default().trim();
    let tag = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    match tag {
        _ if text == "*" => Ok(text.to_owned()),
        Some(tag) if !tag.is_empty() && !tag.contains('"') => Ok(tag.to_owned()),
        _ => Err(ApiError::invalid(
            "header If-Match",
            "it isn't one strong etag",
            "send the answer's ETag as it came, or *",
        )),
    }
}

/// Whether the override must not be there yet.
pub(super) fn if_none_match(headers: &HeaderMap) -> Result<bool, ApiError> {
    match headers.get(header::IF_NONE_MATCH).map(|value| value.as_bytes()) {
        None => Ok(false),
        Some(b"*") => Ok(true),
        Some(_) => Err(ApiError::invalid("header If-None-Match", "only * has a meaning here", "or send If-Match")),
    }
}

pub(super) fn etag(headers: &mut HeaderMap, tag: &str) {
    if let Ok(value) = HeaderValue::from_str(&format!("\"{tag}\"")) {
        headers.insert(header::ETAG, value);
    }
}

/// Adds `RateLimit-Policy: "api/user";q=100;w=60`, `RateLimit: "api/user";r=49;t=12`, and `Retry-After` if the check is
/// denied. Seconds are rounded up, so that no client comes too early.
pub(super) fn limit_headers(headers: &mut HeaderMap, checked: &CheckAnswer) {
    let list = |item: fn(&QuotaPolicy) -> String| {
        let items: Vec<String> = checked.policies.iter().map(item).collect();
        HeaderValue::from_str(&items.join(", ")).ok().filter(|value| !value.is_empty())
    };
    if let Some(policies) = list(policy) {
        headers.insert(RATELIMIT_POLICY, policies);
    }
    if let Some(limits) =
        list(|policy| format!("{};r={};t={}", name(policy), policy.remaining, policy.reset.seconds_ceil()))
    {
        headers.insert(RATELIMIT, limits);
    }
    if let (false, Some(told)) = (checked.answer.allowed, checked.policies.first()) {
        headers.insert(header::RETRY_AFTER, told.reset.seconds_ceil().max(1).into());
    }
}

fn policy(policy: &QuotaPolicy) -> String {
    let mut item = format!("{};q={}", name(policy), policy.requests);
    // The draft's windows are whole seconds: better none than a false one.
    if policy.window.0.is_multiple_of(SECOND.0) {
        let _ = write!(item, ";w={}", policy.window.0 / SECOND.0);
    }
    item
}

/// The limit's id as a string of structured fields, which are ASCII: what isn't is percent-encoded.
fn name(policy: &QuotaPolicy) -> String {
    let ascii = utf8_percent_encode(&policy.limit_id, CONTROLS).to_string();
    format!("\"{}\"", ascii.replace('\\', r"\\").replace('"', r#"\""#))
}
