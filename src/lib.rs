//! Tollgate: a rate limit service for Envoy, Istio and anything that speaks gRPC or HTTP.
//!
//! # The line
//!
//! A request goes one way, and each step hands plain values to the next:
//!
//! ```text
//! RateLimitRequest → service ─ words → rules.find → plan → store.apply → judge → service → RateLimitResponse
//!                    (borders)         (which limit)       (algorithm::step, here or as Lua)   (borders)
//! ```
//!
//! [`limiter::Limiter::decide`] is that line in code, on one screen.
//!
//! # The rooms, in reading order
//!
//! | room | owns |
//! |---|---|
//! | [`limit`] | the words of a decision, and their units |
//! | `visible` | text of others, made fit for a terminal |
//! | [`moment`] | moments as text: how `expires` and the like are written |
//! | [`algorithm`] | the pure step of each algorithm, and how a counter's state is packed |
//! | [`rules`] | rule files: reading, every check, the tree that descriptors are matched against |
//! | [`store`] | counters: what a store is asked, how a request is settled all or nothing, memory and Redis |
//! | [`metrics`] | every metric and its name |
//! | [`overrides`] | limits that are set at run time: where they are kept, how replicas keep up, how a decision finds them |
//! | [`limiter`] | the line: match, plan, apply, judge; and what is answered when the store can't |
//! | [`explain`] | why a request is answered as it is |
//! | `escape` | bytes that clients send in the place of text: how they become text, and are shown |
//! | [`service`] | Envoy's protobuf and its JSON, to words and back |
//! | [`api`] | Tollgate's own calls, over HTTP and gRPC: checks in plain words, overrides, resets, explanations, the audit |
//! | [`reload`] | when rules on disk are read again, and when what was read is trusted |
//! | [`xds`] | rules from a control plane instead: the discovery client |
//! | [`trace`] | which requests are followed, their spans, and the way to a collector |
//! | [`health`], [`http`], [`admin`] | probes, `/json`, `/rules`, `/metrics` |
//! | `tls` | certificates and keys from files, and whom a connection trusts |
//! | [`settings`] | flags and environment, every mistake at once |
//! | [`serve`] | the process: bind, threads, tasks, drain |
//! | [`cli`] | the subcommands: printing and exit codes |
//! | [`proto`] | the messages that Envoy and control planes exchange with us, generated from `proto/` |
//! | `state_dir` | the files of the state directory: written whole, and damage seen |
//! | `blocking` | the one way off the threads that answer |
//! | [`clock`] | the one place that reads clocks |
//!
//! # What is not there
//!
//! Only `service`, `api`, `http`, `xds` and the subcommands that are clients know protobuf. `algorithm`, `rules` and the
//! settling of a request never await, log or read a clock. Only `store::redis` and `overrides` know Redis. `limiter` knows neither tonic nor YAML.
//! Nothing on a request's path waits for a connection to be made, and no lock is held across an await.

pub mod algorithm;
mod blocking;
pub mod cli;
pub mod clock;
pub mod front;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzz;
pub mod limit;
pub mod limiter;
pub mod metrics;
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
