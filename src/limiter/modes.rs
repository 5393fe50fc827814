//! How the process as a whole decides, beside its rules.

use crate::limit::{Algorithm, CountDenied, FailurePolicy};

/// How the process as a whole decides; what rules say comes first where they may.
#[derive(Clone, Copy, Debug, Default)]
pub struct Modes {
    /// Every overall answer is OK; statuses, counts and metrics as if not.
    pub shadow: bool,
    /// Every rule has `quota_mode`.
    pub quota: bool,
    /// For limits that come with a request.
    pub algorithm: Algorithm,
    /// For limits that come with a request.
    pub count_denied: CountDenied,
    /// For limits whose rules don't say.
    pub on_store_failure: FailurePolicy,
    /// Decisions say what they rested on, which costs allocations.
    pub notes: bool,
}
