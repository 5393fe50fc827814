//! One binary for all integration tests: each file is a room of behaviour, started on free ports and safe in parallel.

mod alerts;
mod api;
mod cases;
mod chaos;
mod conformance;
mod dependencies;
mod docs;
mod envoy;
mod examples;
mod explain;
mod fuzz_corpora;
mod harness;
mod kubernetes;
mod migrating;
mod namesakes;
mod overrides_sync;
mod redis_exact;
mod redis_faults;
mod redis_room;
#[allow(dead_code, reason = "a starter offers more than each test needs")]
mod redis_server;
mod redis_tls;
mod redis_topology;
mod redis_twin;
mod reference_page;
mod rollout;
mod rules_doc;
mod rules_golden;
mod run_time;
mod serve;
mod side_by_side;
mod split_redis;
mod statsd;
mod store_contract;
mod traces;
mod xds;
