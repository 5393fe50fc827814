//! Calls of Tollgate's own interface over HTTP.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tollgate::fuzz::api(bytes));
