//! What changes while the service runs, on all replicas: run-time overrides, switches, resets and their audit. It knows nothing
//! of rule files' YAML.

use std::sync::Arc;

use fleet::Fleet;
use overrides::Overrides;
use reloads::Reloads;
use reset::Resets;

pub(crate) mod audit;
pub(crate) mod clock;
pub mod fleet;
pub mod overrides;
pub mod reloads;
pub mod reset;
pub mod switches;

/// What can be changed while the service runs, besides its rules.
#[derive(Clone)]
pub struct RunTime {
    pub overrides: Arc<Overrides>,
    pub resets: Resets,
    pub fleet: Arc<Fleet>,
    pub reloads: Arc<Reloads>,
}
