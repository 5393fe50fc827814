//! Tollgate: a rate limit service.
pub mod algorithm;
pub mod limit;
pub mod rules;
pub mod store;
