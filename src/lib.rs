//! Tollgate: a rate limit service for Envoy, Istio and anything that speaks gRPC or HTTP.
//!
//! # The line
//!
//! A request goes one way, and each step hands plain values to the next:
//!
//! ```text
//! RateLimitRequest → front ─ words → rules.find → plan → store.apply → judge → front → RateLimitResponse
//!                    (borders)       (which limit)       (algorithm::step, here or as Lua)   (borders)
//! ```
//!
//! [`limiter::Limiter::decide`] is that line in code, on one screen.
//!
//! # The rooms, in reading order
//!
//! Each room may import only the rooms that its row names, and none imports one that stands below it. A test reads this
//! table and holds every path of `src/` to it.
//!
//! | room | owns | may import |
//! |---|---|---|
//! | [`proto`] | the messages that Envoy and control planes exchange with us, generated from `proto/` | |
//! | [`limit`] | the words of a decision with their units, and how moments are written | |
//! | `visible` | text of others, made fit for a terminal | |
//! | `blocking` | the one way off the event loop for work that blocks | |
//! | `state_dir` | the files of the state directory: written whole, and damage seen | |
//! | [`clock`] | the one place that reads clocks, and how often a line may be logged | `limit` |
//! | [`privacy`] | which values are shown as a hash | |
//! | `tls` | certificates and keys from files, and whom a connection trusts | `blocking` |
//! | [`algorithm`] | the pure step of each algorithm, and how a counter's state is packed | `limit` |
//! | [`capacity`] | how much a fleet takes: the model, its constants, what breaks first | `limit` |
//! | [`rules`] | rule files: reading, every check, the tree that descriptors are matched against | `limit`, `visible` |
//! | [`trace`] | which requests are sampled, their spans, and the way to a collector | `clock`, `tls` |
//! | [`store`] | counters: what a store is asked, how a request is settled all or nothing, memory and Redis | `algorithm`, `clock`, `limit`, `privacy`, `state_dir`, `tls`, `trace` |
//! | [`settings`] | flags and environment, every mistake at once | `limit`, `store`, `trace` |
//! | [`run_time`] | what changes while it runs, on all replicas: overrides, switches, resets, their audit | `algorithm`, `blocking`, `clock`, `limit`, `rules`, `state_dir`, `store` |
//! | [`metrics`] | every metric and its name | `clock`, `limit`, `rules`, `run_time`, `store`, `trace` |
//! | [`limiter`] | the line: match, plan, apply, judge; what is answered when the store can't; why a request is answered as it is; who is refused most; decisions for those who watch | `algorithm`, `clock`, `limit`, `metrics`, `privacy`, `rules`, `run_time`, `store`, `trace`, `visible` |
//! | [`sources`] | where rules come from, when they are trusted, how they are swapped | `blocking`, `clock`, `limit`, `limiter`, `metrics`, `proto`, `rules`, `run_time`, `settings`, `state_dir`, `tls` |
//! | [`front`] | who asks, in which protocol: to the limiter's words and back | `algorithm`, `blocking`, `clock`, `limit`, `limiter`, `metrics`, `privacy`, `proto`, `rules`, `run_time`, `settings`, `store`, `trace` |
//! | [`serve`] | the process: phases, threads, listeners, drain | `blocking`, `clock`, `front`, `limit`, `limiter`, `metrics`, `privacy`, `run_time`, `settings`, `sources`, `store`, `tls`, `trace` |
//! | [`cli`] | the subcommands: printing and exit codes | `capacity`, `clock`, `front`, `limit`, `limiter`, `metrics`, `proto`, `rules`, `serve`, `settings`, `sources`, `store`, `tls`, `visible` |
//! | `fuzz` | the entry points of the fuzz targets; only with the feature `fuzzing` | `front`, `limit`, `limiter`, `metrics`, `privacy`, `rules`, `run_time`, `settings`, `store` |
//!
//! # What is not there
//!
//! | only these | name | as |
//! |---|---|---|
//! | `proto`, `front`, `sources::xds`, `trace`, `cli` | protobuf | `prost`, `prost_types`, `prost_reflect`, `opentelemetry_proto`, `crate::proto` |
//! | `front`, `serve`, `sources::xds`, `tls`, `trace`, `cli` | gRPC | `tonic`, `tonic_health`, `tonic_reflection` |
//! | `store::redis`, `run_time` | the protocol of Redis | `redis` |
//! | `store::redis::aws_iam` | AWS' way to credentials and signatures | `aws_config`, `aws_credential_types`, `aws_sigv4`, `aws_smithy_http_client` |
//! | `rules` | YAML | `granit_parser` |
//! | `clock` | clocks | `std::time::SystemTime`, `std::time::UNIX_EPOCH` |
//! | `metrics` | the registry of metrics | `metrics`, `metrics_util`, `metrics_exporter_prometheus` |
//! | `settings`, `cli` | the command line | `clap` |
//!
//! `algorithm`, `rules` and the settling of a request never await, log or read a clock. Nothing on a request's path waits
//! for a connection to be made, and no lock is held across an await.

pub mod algorithm;
mod blocking;
pub mod capacity;
pub mod cli;
pub mod clock;
pub mod front;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzz;
pub mod limit;
pub mod limiter;
pub mod metrics;
pub mod privacy;
pub mod proto;
pub mod rules;
pub mod run_time;
pub mod serve;
pub mod settings;
pub mod sources;
mod state_dir;
pub mod store;
mod tls;
pub mod trace;
mod visible;

/// The service within another program.
pub use serve::Embedded;
