//! Where rules come from, when they are trusted, and how they are swapped. Knows nothing of who asks.

use crate::{rules::Defaults, settings::Settings};

pub mod files;
pub(crate) mod last_good;
mod problem_log;
pub(crate) mod publish;
pub mod xds;

/// What these settings mean to the reading of rule files. `tollgate explain` and `tollgate test` read by it too: what they
/// accept must be what a service with these settings loads.
pub fn defaults(settings: &Settings) -> Defaults {
    Defaults {
        algorithm: settings.decisions.algorithm,
        count_denied: settings.decisions.count_denied,
        merge_domains: settings.rules.merge_domains,
    }
}
