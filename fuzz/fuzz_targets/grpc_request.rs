//! Calls of gRPC.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tollgate::fuzz::grpc_request(bytes));
