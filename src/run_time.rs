//! What changes while the service runs, on all replicas: overrides, resets and their audit. Knows nothing of rule files' YAML.

pub(crate) mod audit;
pub(crate) mod clock;
pub mod overrides;
pub mod reset;
