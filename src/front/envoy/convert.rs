//! Converts protobuf to the limiter's requests, and decisions back.

use crate::proto::{
    envoy::{
        extensions::common::ratelimit::v3::RateLimitDescriptor,
        service::ratelimit::v3::{
            RateLimitRequest, RateLimitResponse,
            rate_limit_response::{self, DescriptorStatus, RateLimit},
        },
    },
    google::protobuf,
};
use crate::{
    limit::{Code, Descriptor, Entry, Micros, Request, Unit},
    limiter::{Decision, ShownLimit},
};

/// Fills `limit_request` with the request in `message`, which it borrows; nothing is copied. Envoy's `hits_addend` of 0 or none
/// is 1. In place, because a request is long and would be moved several times. Returns the number of limits without a
/// unit.
pub(super) fn read_into<'r>(message: &'r RateLimitRequest, limit_request: &mut Request<'r>) -> u64 {
    let mut without_unit = 0;
    limit_request.domain = &message.domain;
    limit_request.hits = i64::from(message.hits_addend.max(1));
    for message in &message.descriptors {
        limit_request.descriptors.push(descriptor(message, limit_request.hits, &mut without_unit));
    }
    without_unit
}

/// A limit without a unit of time is ignored, and the descriptor is decided by its rule: Envoy sends text of dynamic
/// metadata, which a client may have filled, and an error would admit the whole request.
fn descriptor<'r>(message: &'r RateLimitDescriptor, of_request: i64, without_unit: &mut u64) -> Descriptor<'r> {
    let entries = message.entries.iter().map(|entry| Entry { key: &entry.key, value: &entry.value });
    let limit = message.limit.as_ref().and_then(|limit| {
        let unit = unit(limit.unit);
        *without_unit += u64::from(unit.is_none());
        Some((limit.requests_per_unit, unit?))
    });
    let own = message.hits_addend.as_ref().map(|hits| i64::try_from(hits.value).unwrap_or(i64::MAX));
    // A refund without hits of its own has those of the request.
    let hits = if message.is_negative_hits { Some(-own.unwrap_or(of_request)) } else { own };
    Descriptor { entries: entries.collect(), hits, limit }
}

/// Units by their number on the wire. `WEEK` is 7 there, though Envoy's enum for limits in requests lacks the name.
fn unit(number: i32) -> Option<Unit> {
    Some(match number {
        1 => Unit::Second,
        2 => Unit::Minute,
        3 => Unit::Hour,
        4 => Unit::Day,
        5 => Unit::Month,
        6 => Unit::Year,
        7 => Unit::Week,
        _ => return None,
    })
}

pub(super) fn response(decision: Decision) -> RateLimitResponse {
    RateLimitResponse {
        overall_code: code(decision.overall),
        statuses: decision.statuses.into_iter().map(status).collect(),
        ..RateLimitResponse::default()
    }
}

fn status(status: crate::limiter::Status) -> DescriptorStatus {
    DescriptorStatus {
        code: code(status.code),
        current_limit: status.limit.map(current_limit),
        limit_remaining: status.remaining,
        duration_until_reset: status.reset.map(whole_seconds),
        quota: None,
    }
}

fn code(code: Code) -> i32 {
    let code = match code {
        Code::Ok => rate_limit_response::Code::Ok,
        Code::OverLimit => rate_limit_response::Code::OverLimit,
    };
    code.into()
}

fn current_limit(limit: ShownLimit) -> RateLimit {
    use rate_limit_response::rate_limit::Unit as Wire;
    // Envoy prints `;w=` from the unit, and leaves it out for UNKNOWN: better no window than a false one.
    let unit = limit.unit.map_or(Wire::Unknown, |unit| match unit {
        Unit::Second => Wire::Second,
        Unit::Minute => Wire::Minute,
        Unit::Hour => Wire::Hour,
        Unit::Day => Wire::Day,
        Unit::Week => Wire::Week,
        Unit::Month => Wire::Month,
        Unit::Year => Wire::Year,
    });
    RateLimit { name: limit.name, requests_per_unit: limit.requests, unit: unit.into() }
}

/// Rounded up: Envoy drops the fraction when it writes `x-ratelimit-reset` and `retry-after`.
fn whole_seconds(reset: Micros) -> protobuf::Duration {
    protobuf::Duration { seconds: reset.seconds_ceil() as i64, nanos: 0 }
}
