//! What changes while the service runs, on all replicas: run-time overrides, resets and their audit. It knows nothing
//! of rule files' YAML.

use std::sync::Arc;

use overrides::Overrides;
use reset::Resets;

pub(crate) mod audit;
pub(crate) mod clock;
pub mod overrides;
pub mod reset;

/// What can be changed while the service runs, besides its rules.
#[derive(Clone)]
pub struct RunTime {
    pub overrides: Arc<Overrides>,
    pub resets: Resets,
}
