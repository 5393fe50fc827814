//! A request whose text is no UTF-8, or looks like an escape of such: decoded with bytes where the message has text, which
//! then become text. Envoy is written in C++, where a string of protobuf holds whatever a client sent.

use crate::proto::{
    envoy::{
        extensions::common::ratelimit::v3::{RateLimitDescriptor, rate_limit_descriptor},
        service::ratelimit::v3::RateLimitRequest,
    },
    google::protobuf::UInt64Value,
};
use prost::{DecodeError, Message};

use crate::front::escape;

/// As `RateLimitRequest`, which it is on the wire.
#[derive(Clone, PartialEq, Message)]
struct Request {
    #[prost(bytes = "vec", tag = "1")]
    domain: Vec<u8>,
    #[prost(message, repeated, tag = "2")]
    descriptors: Vec<Descriptor>,
    #[prost(uint32, tag = "3")]
    hits_addend: u32,
}

#[derive(Clone, PartialEq, Message)]
struct Descriptor {
    #[prost(message, repeated, tag = "1")]
    entries: Vec<Entry>,
    #[prost(message, optional, tag = "2")]
    limit: Option<rate_limit_descriptor::RateLimitOverride>,
    #[prost(message, optional, tag = "3")]
    hits_addend: Option<UInt64Value>,
    #[prost(bool, tag = "4")]
    is_negative_hits: bool,
}

#[derive(Clone, PartialEq, Message)]
struct Entry {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// The request, with escapes where the message has bytes that are no text.
pub(super) fn decode(message: &[u8]) -> Result<RateLimitRequest, DecodeError> {
    let Request { domain, descriptors, hits_addend } = Request::decode(message)?;
    let descriptors = descriptors.into_iter().map(descriptor).collect();
    Ok(RateLimitRequest { domain: text(domain), descriptors, hits_addend })
}

fn descriptor(descriptor: Descriptor) -> RateLimitDescriptor {
    let Descriptor { entries, limit, hits_addend, is_negative_hits } = descriptor;
    let entry = |entry: Entry| rate_limit_descriptor::Entry { key: text(entry.key), value: text(entry.value) };
    RateLimitDescriptor { entries: entries.into_iter().map(entry).collect(), limit, hits_addend, is_negative_hits }
}

fn text(bytes: Vec<u8>) -> String {
    escape::bytes(&bytes).into_owned()
}
