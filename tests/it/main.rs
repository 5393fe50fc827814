//! One binary for all integration tests: each file is a room of behaviour, started on free ports and safe in parallel.

#[allow(dead_code, reason = "a starter offers more than each test needs")]
mod redis_server;
