//! The rate limit service's messages as JSON, by the proto3 mapping: camelCase or snake_case in, camelCase out,
//! unknown fields refused. Goes through the same descriptors that reflection serves.

use std::sync::LazyLock;

use crate::proto::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};
use prost::Message;
use prost_reflect::{DescriptorPool, DeserializeOptions, DynamicMessage, MessageDescriptor, SerializeOptions};

use super::size;
use crate::{front::escape, limiter::DecideError};

/// Every proto that is served, as protoc would describe it.
pub const FILE_DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/proto/generated/served.fds"));

static POOL: LazyLock<DescriptorPool> =
    LazyLock::new(|| DescriptorPool::decode(FILE_DESCRIPTORS).expect("a test holds these to the protos"));

#[derive(Debug, thiserror::Error)]
pub enum JsonError {
    #[error("the body is no RateLimitRequest: {0}")]
    Malformed(String),
    /// It brings more than it may.
    #[error(transparent)]
    TooMany(DecideError),
}

/// Bytes that are no text are escaped, as over gRPC. A byte order mark before the body is none of it.
pub fn json_request(body: &[u8]) -> Result<RateLimitRequest, JsonError> {
    let body = &*escape::json(body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body));
    size::check_json(body).map_err(JsonError::TooMany)?;
    let wrong = |error: &dyn std::fmt::Display| JsonError::Malformed(error.to_string());
    let mut reader = serde_json::Deserializer::from_slice(body);
    let message = DynamicMessage::deserialize(descriptor("RateLimitRequest"), &mut reader).map_err(|e| wrong(&e))?;
    reader.end().map_err(|e| wrong(&e))?;
    message.transcode_to().map_err(|e| wrong(&e))
}

/// Fields at their default are left out, as the reference does.
pub fn json_response(response: &RateLimitResponse) -> Vec<u8> {
    let mut message = DynamicMessage::new(descriptor("RateLimitResponse"));
    let mut out = Vec::new();
    message.merge(response.encode_to_vec().as_slice()).expect("the same message by another route");
    let mut writer = serde_json::Serializer::new(&mut out);
    message.serialize_with_options(&mut writer, &SerializeOptions::new()).expect("a message always has a JSON form");
    out
}

/// A request as [`json_request`] reads it.
pub fn write_json_request(request: &RateLimitRequest) -> Vec<u8> {
    let mut message = DynamicMessage::new(descriptor("RateLimitRequest"));
    message.merge(request.encode_to_vec().as_slice()).expect("the same message by another route");
    serde_json::to_vec(&message).expect("a message always has a JSON form")
}

/// A response as [`json_response`] writes it.
pub fn read_json_response(body: &[u8]) -> Result<RateLimitResponse, serde_json::Error> {
    let mut reader = serde_json::Deserializer::from_slice(body);
    let options = DeserializeOptions::new().deny_unknown_fields(false);
    let message = DynamicMessage::deserialize_with_options(descriptor("RateLimitResponse"), &mut reader, &options)?;
    message.transcode_to().map_err(serde::de::Error::custom)
}

fn descriptor(message: &str) -> MessageDescriptor {
    POOL.get_message_by_name(&format!("envoy.service.ratelimit.v3.{message}")).expect("the protos hold this message")
}
