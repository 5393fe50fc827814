//! The listeners' protocols: each converts its protocol to the limiter's requests and decisions back. It knows neither
//! where rules come from nor where counters are.

pub mod admin;
pub mod api;
mod console;
mod decider;
pub mod envoy;
pub(crate) mod escape;
mod full_rules;
pub mod health;
pub mod http;
