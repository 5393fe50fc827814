//! Tollgate: a rate limit service.
pub mod admin;
pub mod algorithm;
pub mod cli;
pub mod clock;
pub mod health;
pub mod http;
pub mod limit;
pub mod limiter;
pub mod metrics;
pub mod reload;
pub mod rules;
pub mod serve;
pub mod service;
pub mod settings;
pub mod store;
