//! The messages of protobuf that are exchanged with Envoy and with control planes, and the clients of their services:
//! excerpts of Envoy's v3 API (`proto/`), as code in `proto/generated`. `tests/it/protos.rs` holds the code to the protos
//! and makes it anew.

#![allow(clippy::all, missing_docs, rustdoc::all, unreachable_pub, reason = "generated")]

include!(concat!(env!("CARGO_MANIFEST_DIR"), "/proto/generated/envoy.rs"));
