//! One request of any method, with or without a token.

use std::net::SocketAddr;

use crate::harness::{Answer, send};

/// `what` is method and path, as in `PUT /v1/…`.
pub(crate) async fn call(at: SocketAddr, what: &str, token: Option<&str>, body: &str) -> Answer {
    let (method, path) = what.split_once(' ').expect("method and path");
    let bearer = token.map(|token| format!("Bearer {token}"));
    let headers: Vec<(&str, &str)> = bearer.iter().map(|bearer| ("authorization", bearer.as_str())).collect();
    send(at, method, path, &headers, body.to_owned().into()).await.unwrap_or_else(|error| panic!("{what}: {error}"))
}
