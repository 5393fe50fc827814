//! Response headers with the client's limit, as envoyproxy/ratelimit writes them, and the time to come again. It knows
//! the decision, not how it was made.

#[cfg(test)]
mod tests;

use crate::proto::envoy::config::core::v3::HeaderValue;

use crate::{
    limit::{Code, Micros},
    limiter::{Decision, Status},
    settings::ResponseSettings,
};

/// The headers in the order of envoyproxy/ratelimit; none about limits if no descriptor has one.
pub(super) fn headers(decision: &Decision, settings: &ResponseSettings) -> Vec<HeaderValue> {
    let mut headers = Vec::new();
    let tightest = tightest(&decision.statuses).map(|index| &decision.statuses[index]);
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

/// The descriptor that the headers report: the last one that denies by itself, else the first with the fewest hits
/// remaining (reference, H2).
pub(super) fn tightest(statuses: &[Status]) -> Option<usize> {
    let (mut tightest, mut least) = (None, u32::MAX);
    for (index, status) in statuses.iter().enumerate().filter(|(_, status)| status.limit.is_some()) {
        let denies = status.code == Code::OverLimit && !status.quota;
        if denies || status.remaining < least {
            tightest = Some(index);
            least = if denies { 0 } else { status.remaining };
        }
    }
    tightest
}

/// The descriptor that a denied request waits for: of those that decided, the one with the longest wait.
pub(super) fn denier(decision: &Decision) -> Option<usize> {
    let refusing = |quota: bool| {
        let all = decision.statuses.iter().enumerate();
        all.filter(move |(_, status)| status.code == Code::OverLimit && status.quota == quota)
            .max_by_key(|(_, status)| status.reset)
            .map(|(index, _)| index)
    };
    // Quotas decide together, and only where nothing else does.
    let denier = || refusing(false).or_else(|| refusing(true));
    (decision.overall == Code::OverLimit).then(denier).flatten()
}

fn wait(decision: &Decision) -> Option<Micros> {
    decision.statuses[denier(decision)?].reset
}

fn header(name: &str, value: u64) -> HeaderValue {
    HeaderValue { key: name.to_string(), value: value.to_string(), ..HeaderValue::default() }
}
