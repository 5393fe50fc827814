//! Requests of the rate limit service as bytes, made before the clock starts, and what an answer's bytes say.

use crate::proto::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse, rate_limit_response::Code};
use anyhow::{Context, bail};
use bytes::{BufMut, Bytes, BytesMut};
use http::{Request, Uri};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::SendRequest;
use prost::Message;
use tonic::Status;

use crate::{cli::call, front::envoy::OWN_TOOLS};

/// A server that is asked.
pub(super) struct Server {
    pub addr: String,
    uri: Uri,
}

impl Server {
    pub(super) fn new(addr: &str) -> anyhow::Result<Server> {
        let uri = format!("http://{addr}/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit");
        let uri = uri.parse().with_context(|| format!("'{addr}' is no address such as 127.0.0.1:8081"))?;
        Ok(Server { addr: addr.to_owned(), uri })
    }
}

/// One body for each key.
pub(super) struct EncodedRequests {
    bodies: Vec<Bytes>,
}

impl EncodedRequests {
    pub(super) fn new(domain: &str, descriptors: &[String], keys: u64) -> anyhow::Result<EncodedRequests> {
        let body = |key: u64| -> anyhow::Result<Bytes> {
            let key = key.to_string();
            let parse = |text: &String| call::descriptor(&text.replace("%k", &key)).map_err(anyhow::Error::msg);
            let descriptors = descriptors.iter().map(parse).collect::<Result<_, _>>()?;
            Ok(framed(&RateLimitRequest { domain: domain.to_string(), descriptors, hits_addend: 1 }))
        };
        Ok(EncodedRequests { bodies: (0..keys).map(body).collect::<Result<_, _>>()? })
    }

    pub(super) fn keys(&self) -> usize {
        self.bodies.len()
    }

    /// Asks once; `true` if admitted.
    pub(super) async fn send(
        &self,
        server: &Server,
        connection: &mut SendRequest<Full<Bytes>>,
        key: usize,
    ) -> anyhow::Result<bool> {
        let request = Request::post(server.uri.clone())
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("user-agent", OWN_TOOLS)
            .body(Full::new(self.bodies[key].clone()))?;
        connection.ready().await?;
        let response = connection.send_request(request).await?;
        refused(response.headers())?;
        let body = response.into_body().collect().await?;
        if let Some(trailers) = body.trailers() {
            refused(trailers)?;
        }
        let bytes = body.to_bytes();
        let message = bytes.get(5..).context("an answer without a message")?;
        match RateLimitResponse::decode(message)?.overall_code() {
            Code::Ok => Ok(true),
            Code::OverLimit => Ok(false),
            Code::Unknown => bail!("an answer that is neither OK nor OVER_LIMIT"),
        }
    }
}

/// gRPC's frame: not compressed, length, message.
fn framed(request: &RateLimitRequest) -> Bytes {
    let length = request.encoded_len();
    let mut out = BytesMut::with_capacity(5 + length);
    out.put_u8(0);
    out.put_u32(length as u32);
    request.encode_raw(&mut out);
    out.freeze()
}

fn refused(headers: &http::HeaderMap) -> anyhow::Result<()> {
    if headers.get("grpc-status").is_none_or(|status| status == "0") {
        return Ok(());
    }
    let status = Status::from_header_map(headers).context("an answer with a status that is none")?;
    bail!("grpc-status {}: {}", i32::from(status.code()), status.message())
}
