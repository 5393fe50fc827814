//! The one place that reads clocks. Everything else is handed the time, so that tests can choose it.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::limit::UnixMicros;

pub(crate) mod log_throttle;

/// The wall clock. A clock set before 1970 counts as 1970: the algorithms bear a clock that is wrong.
#[expect(clippy::disallowed_methods, reason = "this is the place that the ban sends everyone to")]
pub fn now() -> UnixMicros {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMicros(since_epoch.as_micros() as u64)
}

/// A moment as the standard library and others' crates have it.
#[cfg(feature = "aws-iam")]
pub(crate) fn system_time(at: UnixMicros) -> SystemTime {
    UNIX_EPOCH + std::time::Duration::from_micros(at.0)
}

/// The steady clock, for how long things take.
#[expect(clippy::disallowed_methods, reason = "this is the place that the ban sends everyone to")]
pub fn instant() -> Instant {
    Instant::now()
}
