//! What settings mean to the limiter. Apart, because `tollgate test` decides by them too: a case that
//! passes there must be what a service with these settings answers.

use crate::{limiter::Modes, settings::DecisionSettings};

/// How requests are decided. `notes`: decisions say what they rested on.
pub fn modes(decisions: &DecisionSettings, notes: bool) -> Modes {
    Modes {
        shadow: decisions.shadow_mode,
        quota: decisions.quota_mode,
        algorithm: decisions.algorithm,
        count_denied: decisions.count_denied,
        on_store_failure: decisions.on_store_failure,
        notes,
    }
}
