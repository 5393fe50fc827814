//! The rate limit service's request with bytes where it has text, as Envoy sends it: C++ writes into a string what it has.

use std::net::SocketAddr;

use bytes::{Buf, BufMut};
use envoy_types::pb::envoy::service::ratelimit::v3::{
    RateLimitResponse, rate_limit_response::Code, rate_limit_response::DescriptorStatus,
};
use prost::Message;
use tonic::{
    Status,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    transport::Channel,
};

use crate::harness::channel;

#[derive(Clone, PartialEq, Message)]
struct Request {
    #[prost(bytes = "vec", tag = "1")]
    domain: Vec<u8>,
    #[prost(message, repeated, tag = "2")]
    descriptors: Vec<Descriptor>,
}

#[derive(Clone, PartialEq, Message)]
struct Descriptor {
    #[prost(message, repeated, tag = "1")]
    entries: Vec<Entry>,
}

#[derive(Clone, PartialEq, Message)]
struct Entry {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// A client that sends any bytes as its message.
pub(super) struct Raw {
    channel: Channel,
}

impl Raw {
    pub(super) fn at(address: SocketAddr) -> Raw {
        Raw { channel: channel(address) }
    }

    /// One hit of each descriptor.
    pub(super) async fn ask(
        &self,
        domain: &[u8],
        descriptors: &[&[(&[u8], &[u8])]],
    ) -> Result<(Code, Vec<DescriptorStatus>), Status> {
        let entry = |&(key, value): &(&[u8], &[u8])| Entry { key: key.to_vec(), value: value.to_vec() };
        let descriptor = |entries: &&[(&[u8], &[u8])]| Descriptor { entries: entries.iter().map(entry).collect() };
        let request = Request { domain: domain.to_vec(), descriptors: descriptors.iter().map(descriptor).collect() };
        let answer = self.send(request.encode_to_vec()).await?;
        Ok((answer.overall_code(), answer.statuses))
    }

    pub(super) async fn send(&self, message: Vec<u8>) -> Result<RateLimitResponse, Status> {
        let mut client = tonic::client::Grpc::new(self.channel.clone());
        client.ready().await.expect("Tollgate listens");
        let path = http::uri::PathAndQuery::from_static("/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit");
        client.unary(tonic::Request::new(message), path, Bytes).await.map(tonic::Response::into_inner)
    }
}

/// Sends bytes as they are.
struct Bytes;

impl Codec for Bytes {
    type Encode = Vec<u8>;
    type Decode = RateLimitResponse;
    type Encoder = Bytes;
    type Decoder = Bytes;

    fn encoder(&mut self) -> Bytes {
        Bytes
    }

    fn decoder(&mut self) -> Bytes {
        Bytes
    }
}

impl Encoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, message: Vec<u8>, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put_slice(&message);
        Ok(())
    }
}

impl Decoder for Bytes {
    type Item = RateLimitResponse;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<RateLimitResponse>, Status> {
        let bytes = from.copy_to_bytes(from.remaining());
        RateLimitResponse::decode(bytes).map(Some).map_err(|error| Status::internal(error.to_string()))
    }
}
