//! Who asks, and in which protocol: each border turns its protocol into the limiter's words and back. Knows neither where
//! rules come from nor where counts are.

pub mod admin;
pub mod api;
mod decider;
pub mod envoy;
pub(crate) mod escape;
pub mod health;
pub mod http;
