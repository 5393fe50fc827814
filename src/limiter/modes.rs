//! What the process decides by where rules say nothing.

use crate::limit::{Algorithm, CountDenied, FailurePolicy};

/// The process's defaults for decisions. Rules come first where they may set the same.
#[derive(Clone, Copy, Debug, Default)]
pub struct Modes {
    /// Global SHADOW_MODE: every overall answer is OK. Statuses, counters and metrics are as without it.
    pub shadow: bool,
    /// Global QUOTA_MODE: every rule is as if it had `quota_mode`.
    pub quota: bool,
    /// For limits that come with a request.
    pub algorithm: Algorithm,
    /// For limits that come with a request.
    pub count_denied: CountDenied,
    /// The failure policy of limits whose rules have none.
    pub on_store_failure: FailurePolicy,
    /// Whether decisions carry notes of what they rested on, which costs allocations.
    pub notes: bool,
}
