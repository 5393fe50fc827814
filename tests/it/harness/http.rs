//! A plain HTTP/1.1 client: one connection per request, so that nothing is retried or kept behind a test's back.

use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: http::HeaderMap,
    pub(crate) body: String,
}

impl Answer {
    /// Panics where the header is missing: with the whole answer, so that a failing test shows what came.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.find_header(name).unwrap_or_else(|| panic!("no {name} in {self:?}"))
    }

    pub(crate) fn find_header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("headers are text"))
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("not JSON ({error}): {self:?}"))
    }
}

/// An error says that no answer came.
pub(crate) async fn get(at: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Result<Answer, anyhow::Error> {
    send(at, "GET", path, headers, Bytes::new()).await
}

pub(crate) async fn post(at: SocketAddr, path: &str, body: impl Into<Bytes>) -> Result<Answer, anyhow::Error> {
    send(at, "POST", path, &[("content-type", "application/json")], body.into()).await
}

pub(crate) async fn send(
    at: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: Bytes,
) -> Result<Answer, anyhow::Error> {
    let headers: Vec<(&str, &[u8])> = headers.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
    send_bytes(at, method, path, &headers, body).await
}

/// As [`send`], with headers of any bytes that HTTP has.
pub(crate) async fn send_bytes(
    at: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &[u8])],
    body: Bytes,
) -> Result<Answer, anyhow::Error> {
    let stream = TcpStream::connect(at).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let mut request = http::Request::builder().method(method).uri(path);
    if headers.iter().all(|(name, _)| *name != "host") {
        request = request.header("host", at.to_string());
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = sender.send_request(request.body(Full::new(body))?).await?;
    let (parts, body) = response.into_parts();
    let body = String::from_utf8(body.collect().await?.to_bytes().to_vec())?;
    connection.abort();
    Ok(Answer { status: parts.status.as_u16(), headers: parts.headers, body })
}
