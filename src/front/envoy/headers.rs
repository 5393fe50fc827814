//! Response headers with the client's limit, as envoyproxy/ratelimit writes them, and the time to come again. It knows
//! the decision, not how it was made.

#[cfg(test)]
mod tests;

use crate::proto::envoy::config::core::v3::HeaderValue;

use crate::{
    limit::Micros,
    limiter::{Decision, Status},
    settings::ResponseSettings,
};

/// The headers in the order of envoyproxy/ratelimit; none about limits if no descriptor has one.
pub(super) fn headers(decision: &Decision, settings: &ResponseSettings) -> Vec<HeaderValue> {
    let mut headers = Vec::new();
    let tightest = decision.tightest().map(|index| &decision.statuses[index]);
    if let (Some(names), Some(Status { limit: Some(limit), remaining, reset, .. })) =
        (&settings.limit_headers, tightest)
    {
        headers.push(header(&names.limit, limit.requests.into()));
        headers.push(header(&names.remaining, (*remaining).into()));
        headers.push(header(&names.reset, reset.unwrap_or_default().seconds_ceil()));
    }
    if let (Some(name), Some(wait)) = (&settings.retry_after_header, wait(decision)) {
        headers.push(header(name, wait.seconds_ceil()));
    }
    headers
}

fn wait(decision: &Decision) -> Option<Micros> {
    decision.statuses[decision.denier()?].reset
}

fn header(name: &str, value: u64) -> HeaderValue {
    HeaderValue { key: name.to_string(), value: value.to_string(), ..HeaderValue::default() }
}
