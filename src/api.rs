//! Tollgate's own interface: checks in plain words, overrides, explanations, resets and the audit, each call one
//! function that gRPC and HTTP share. Knows the limiter's words, and nothing of connections.

mod json;

pub use pb::*;

/// The messages and the service of `tollgate.v1`, generated from its proto; their JSON form is that of HTTP.
#[allow(clippy::all, unreachable_pub, reason = "generated")]
mod pb {
    tonic::include_proto!("tollgate.v1");
}
