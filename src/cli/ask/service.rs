//! One service that is asked: its calls as HTTP with JSON, over HTTP/1 to its HTTP and admin listeners and over HTTP/2 to its
//! gRPC listener, and its refusals in words that say the way out. It knows no call by itself.

mod connect;

use std::{path::PathBuf, time::Duration};

use anyhow::Context as _;
use bytes::Bytes;
use http::{
    HeaderName, HeaderValue, Method, Request, StatusCode, Uri,
    header::{AUTHORIZATION, CONTENT_TYPE, HOST, USER_AGENT},
    uri::Scheme,
};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use tokio::time::timeout;
use tonic::transport::Channel;

use self::connect::Connections;
use crate::{front::envoy::OWN_TOOLS, tls};

/// A service, asked over as many connections as calls are under way at once (over HTTP/2: one).
pub(in crate::cli) struct Service {
    place: ServiceAddress,
    token: Option<HeaderValue>,
    patience: Duration,
    connections: Connections,
}

/// Where a service is.
#[derive(Clone)]
pub(super) struct ServiceAddress {
    /// As it was written.
    pub(super) name: String,
    /// With its scheme, and nothing behind its port.
    pub(super) uri: Uri,
    pub(super) cacert: Option<PathBuf>,
    pub(super) listener: AskedListener,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum AskedListener {
    Api,
    /// Takes no token, and only looks.
    Admin,
}

/// Why a service gave no answer that could be used.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum AskError {
    /// It can't be reached, didn't answer in time, or isn't what it was taken for.
    #[error("{0}")]
    NoAnswer(String),
    /// It says no.
    #[error("{said}")]
    Refused { status: StatusCode, said: String },
}

impl AskError {
    /// The status of a service's own refusal.
    pub(in crate::cli) fn status(&self) -> Option<StatusCode> {
        match self {
            AskError::Refused { status, .. } => Some(*status),
            AskError::NoAnswer(_) => None,
        }
    }
}

/// One call: `Call::get("/v1/audit")`.
pub(in crate::cli) struct Call {
    method: Method,
    /// Path and query, both escaped.
    path: String,
    headers: Vec<(HeaderName, String)>,
    body: Option<Vec<u8>>,
}

impl Call {
    pub(in crate::cli) fn new(method: Method, path: impl Into<String>) -> Call {
        Call { method, path: path.into(), headers: Vec::new(), body: None }
    }

    pub(in crate::cli) fn get(path: impl Into<String>) -> Call {
        Call::new(Method::GET, path)
    }

    pub(in crate::cli) fn post(path: impl Into<String>, body: &impl Serialize) -> Call {
        Call::new(Method::POST, path).json(body)
    }

    pub(in crate::cli) fn put(path: impl Into<String>, body: &impl Serialize) -> Call {
        Call::new(Method::PUT, path).json(body)
    }

    pub(in crate::cli) fn delete(path: impl Into<String>) -> Call {
        Call::new(Method::DELETE, path)
    }

    pub(in crate::cli) fn header(mut self, name: HeaderName, value: impl Into<String>) -> Call {
        self.headers.push((name, value.into()));
        self
    }

    fn json(mut self, body: &impl Serialize) -> Call {
        self.body = Some(serde_json::to_vec(body).expect("a message has a JSON form"));
        self
    }

    pub(in crate::cli) fn raw(mut self, body: Vec<u8>) -> Call {
        self.body = Some(body);
        self
    }

    /// With what every request has. HTTP/2 names the whole address, HTTP/1 the path alone.
    fn request(
        &self,
        place: &ServiceAddress,
        token: Option<&HeaderValue>,
        is_http2: bool,
    ) -> Result<Request<Full<Bytes>>, String> {
        let authority = place.uri.authority().map(|authority| authority.as_str()).unwrap_or_default();
        let scheme = place.uri.scheme_str().unwrap_or("http");
        let uri = if is_http2 { format!("{scheme}://{authority}{}", self.path) } else { self.path.clone() };
        let mut request = Request::builder().method(self.method.clone()).uri(uri).header(USER_AGENT, user_agent());
        if !is_http2 {
            request = request.header(HOST, authority);
        }
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        if self.body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        if let Some(token) = token {
            request = request.header(AUTHORIZATION, token);
        }
        let body = Full::new(Bytes::from(self.body.clone().unwrap_or_default()));
        request.body(body).map_err(|error| error.to_string())
    }
}

impl Service {
    pub(super) fn new(place: ServiceAddress, token: Option<HeaderValue>, patience: Duration) -> Service {
        let connections = Connections::new(place.clone());
        Service { place, token, patience, connections }
    }

    /// Its address, as it was given.
    pub(in crate::cli) fn name(&self) -> &str {
        &self.place.name
    }

    pub(in crate::cli) fn is_admin(&self) -> bool {
        self.place.listener == AskedListener::Admin
    }

    /// Calls, and reads the answer.
    pub(in crate::cli) async fn ask<T: DeserializeOwned>(&self, call: Call) -> Result<T, AskError> {
        let body = self.ask_for_bytes(&call).await?;
        serde_json::from_slice(&body).map_err(|error| self.strange(&format!("its answer can't be read: {error}")))
    }

    /// Calls, and returns the body of a good answer.
    pub(in crate::cli) async fn ask_for_bytes(&self, call: &Call) -> Result<Bytes, AskError> {
        let asked = async {
            let (response, connection) = self.connections.send(call, self.token.as_ref()).await?;
            let (head, body) = response.into_parts();
            let body = body.collect().await.map_err(|error| connect::explain(&error))?.to_bytes();
            self.connections.put_back(connection);
            Ok::<_, String>((head, body))
        };
        let (head, body) = match timeout(self.patience, asked).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(why)) => return Err(self.unreachable(&why)),
            Err(_) => return Err(self.unreachable(&format!("no answer within {:?}", self.patience))),
        };
        self.judge(call, &head, &body)?;
        Ok(body)
    }

    /// Calls, and returns the parts of a good answer as they come. The patience is that for its beginning.
    pub(in crate::cli) async fn ask_for_stream(&self, call: &Call) -> Result<Incoming, AskError> {
        let asked = async {
            let (response, _connection) = self.connections.send(call, self.token.as_ref()).await?;
            let (head, body) = response.into_parts();
            if head.status.is_success() && !head.headers.contains_key("grpc-status") {
                return Ok(Ok(body));
            }
            let body = body.collect().await.map_err(|error| connect::explain(&error))?.to_bytes();
            Ok::<_, String>(Err((head, body)))
        };
        match timeout(self.patience, asked).await {
            Ok(Ok(Ok(body))) => Ok(body),
            Ok(Ok(Err((head, body)))) => match self.judge(call, &head, &body) {
                Err(error) => Err(error),
                Ok(()) => Err(self.strange("it answers at once what should go on")),
            },
            Ok(Err(why)) => Err(self.unreachable(&why)),
            Err(_) => Err(self.unreachable(&format!("no answer within {:?}", self.patience))),
        }
    }

    /// A channel to its gRPC listener, for a protocol that is not ours. The error says why there is none.
    pub(in crate::cli) async fn channel(&self, patience: Duration) -> anyhow::Result<Channel> {
        let uri = self.place.uri.clone();
        let client = (uri.scheme() == Some(&Scheme::HTTPS)).then(|| tls::ClientTls {
            ca: self.place.cacert.clone(),
            protocols: &[tls::HTTP2],
            ..tls::ClientTls::default()
        });
        let endpoint = tls::endpoint(uri).user_agent(user_agent())?.connect_timeout(patience).timeout(patience);
        let channel = tls::channel(endpoint, client).await.map_err(anyhow::Error::msg);
        channel.with_context(|| format!("no connection to {}", self.place.name))
    }

    /// An error unless the answer is a good one.
    fn judge(&self, call: &Call, head: &http::response::Parts, body: &[u8]) -> Result<(), AskError> {
        let (method, path) = (&call.method, call.path.split('?').next().unwrap_or_default());
        let older = || {
            let hint = "the service may be older than this command";
            AskError::NoAnswer(format!("{} has no {method} {path}: {hint}", self.place.name))
        };
        if head.headers.contains_key("grpc-status") {
            return Err(older());
        }
        if head.status.is_success() || (head.status == StatusCode::TOO_MANY_REQUESTS && is_json(head)) {
            return Ok(());
        }
        let problem: Value = serde_json::from_slice(body).unwrap_or_default();
        let detail = problem["detail"].as_str();
        match (head.status, detail) {
            (StatusCode::NOT_FOUND, None) | (StatusCode::METHOD_NOT_ALLOWED, _) => Err(older()),
            (StatusCode::NOT_FOUND, Some(detail)) if detail.starts_with("nothing is here") => Err(older()),
            (status, Some(detail)) => Err(AskError::Refused { status, said: format!("{detail}{}", self.hint(status)) }),
            (status, None) => {
                let text = String::from_utf8_lossy(body);
                let line = text.lines().next().unwrap_or_default();
                Err(self.strange(format!("it answers {status} {line}").trim_end()))
            }
        }
    }

    /// The way out, where it is the caller's.
    fn hint(&self, status: StatusCode) -> &'static str {
        match status {
            StatusCode::UNAUTHORIZED if self.token.is_none() => " (give a token: --token-file FILE, or TOLLGATE_TOKEN)",
            _ => "",
        }
    }

    fn unreachable(&self, why: &str) -> AskError {
        let name = &self.place.name;
        AskError::NoAnswer(match self.place.listener {
            AskedListener::Api => format!("no connection to {name}: {why} ({})", self.way_to_the_api(why)),
            AskedListener::Admin => {
                let ways =
                    "--addr HOST:PORT with a token asks its API from anywhere, --admin HOST:PORT another such listener";
                format!("no connection to {name}, the admin listener of a service on this machine: {why} ({ways})")
            }
        })
    }

    /// What the address should be, as far as `why` tells: one side may speak TLS and the other not.
    fn way_to_the_api(&self, why: &str) -> String {
        const HEARD_TLS: [&str; 2] = ["invalid HTTP version parsed", "frame with invalid size"];
        let has_tls = self.place.uri.scheme() == Some(&Scheme::HTTPS);
        if has_tls && why.contains("InvalidContentType") {
            "it speaks no TLS: leave out https://".to_owned()
        } else if !has_tls && HEARD_TLS.iter().any(|heard| why.contains(heard)) {
            let address = self.place.uri.authority().map_or(&*self.place.name, |authority| authority.as_str());
            format!("if it speaks TLS, write https://{address}")
        } else {
            "--addr names the service's API".to_owned()
        }
    }

    fn strange(&self, why: &str) -> AskError {
        AskError::NoAnswer(format!("{} doesn't answer as a Tollgate does: {why}", self.place.name))
    }
}

/// By which a service knows that no gateway asks.
fn user_agent() -> String {
    format!("{OWN_TOOLS}{}", env!("CARGO_PKG_VERSION"))
}

/// Whether the body is an answer, not a problem.
fn is_json(head: &http::response::Parts) -> bool {
    head.headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"))
}

/// A part of a path or of a query, in which it has no meaning of its own.
pub(in crate::cli) fn escaped(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes()
        .map(|byte| if is_plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}
